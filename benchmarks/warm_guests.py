"""How fast a warm guest is: against a cold boot, and against bare QEMU's own restore.

    .venv/bin/python benchmarks/warm_guests.py [--copies 10] [--nic rtl8139]

A *copy* is what ``guest_on`` gives: a saved guest restored by libvirt, with clock and NIC put right,
its first command answered. *Bare* is QEMU by hand with the same devices, reading the same memory by
``-incoming``, until the agent answers its first command; nothing is put right there. It has no NIC, as
the saved guest has none: a copy gets its own. ``--nic none`` compares with a copy that gets none either.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_lab import bench_lab

from virtproof.deadline import Deadline
from virtproof.guest import saved
from virtproof.guest.agent import Agent
from virtproof.guest.connection import Connection
from virtproof.guest.console import Console, SocketPort
from virtproof.guest.guest import Guest
from virtproof.guest.warm import DISK, MEMORY, Host, WarmGuests
from virtproof.images.cache import WARM, Cache, Item
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import PrivateLab
from virtproof.spec import Accel, GuestSpec, NicModel

NICS = {"none": None, **{model.value: model for model in (NicModel.RTL8139, NicModel.VIRTIO)}}
SPEC = GuestSpec(image="debian-12", accel=Accel.TCG)
WAIT_S = 30.0


class Bench:
    """A lab, and the ways of getting a guest in it."""

    def __init__(
        self, lab: PrivateLab, connection: Connection, states: Path, nic: NicModel | None
    ) -> None:
        self._lab, self._connection = lab, connection
        self._spec = dataclasses.replace(SPEC, nic=nic)
        self.cache = Cache(states, print)
        self._warm = WarmGuests(self.cache, Host(connection.versions()))
        self._image = ImageStore(default_cache(), Accel.TCG).prepared("debian-12")

    def guest(self, *, warm: bool) -> float:
        """Seconds from nothing to the first command's answer."""
        begin = time.monotonic()
        guest = Guest(self._spec, self._image, self._lab, self._connection).define()
        try:
            (self._warm.boot(guest) if warm else guest.boot()).runner.run("true")
            return time.monotonic() - begin
        finally:
            guest.close()


def bare(item: Item, place: Path) -> float:
    """Seconds for QEMU alone: the same devices, without libvirt."""
    begin = time.monotonic()
    overlay, port = place / "o.qcow2", place / "port"
    base = str(item.path / DISK)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(overlay)],
        check=True,
    )
    argv = command(overlay, port)
    state = saved.read(item.path / MEMORY)
    with state.path.open("rb") as memory:
        os.lseek(memory.fileno(), state.stream_at, os.SEEK_SET)
        argv += ["-incoming", f"fd:{memory.fileno()}"]
        qemu = subprocess.Popen(
            argv, pass_fds=[memory.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    try:
        while not port.exists():
            if qemu.poll() is not None:
                sys.exit(f"bare QEMU ended: {qemu.stdout.read().decode()[-500:]}")  # type: ignore[union-attr]
            time.sleep(0.005)
        agent = Agent(Console(SocketPort(str(port))), 6.0)
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(f"{port}.monitor")
            end = Deadline.after(WAIT_S)
            while not agent.sync(Deadline.after(0.03)):  # saved paused, so it arrives paused
                if end.passed:
                    sys.exit("bare QEMU: the agent does not answer")
                monitor.send(b"cont\n")
        agent.run("true")
        return time.monotonic() - begin
    finally:
        qemu.kill()
        qemu.wait()
        overlay.unlink()
        for path in place.glob("port*"):
            path.unlink()


def command(overlay: Path, port: Path) -> list[str]:
    """The devices of a saved guest (it has no NIC), as libvirt makes them of the domain XML."""
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", machine(), "-accel", "tcg", "-cpu", "qemu64,cx16=off,svm=off,hypervisor=on,lahf-lm=on",
        "-m", str(SPEC.memory_mib), "-smp", "1", "-rtc", "base=utc", "-boot", "strict=on",
        "-drive", f"file={overlay},if=none,id=q,format=qcow2,cache=unsafe",
        "-device", "ide-hd,bus=ide.0,unit=0,drive=q,id=ide0-0-0,bootindex=1,serial=root",
        "-chardev", "null,id=c0", "-device", "isa-serial,chardev=c0,id=serial0,index=0",
        "-monitor", f"unix:{port}.monitor,server=on,wait=off",
        "-chardev", f"socket,id=c1,path={port},server=on,wait=off",
        "-device", "isa-serial,chardev=c1,id=serial1,index=1",
        "-device", "VGA,id=video0,vgamem_mb=16,bus=pci.0,addr=0x2",
        "-device", "vmgenid,guid=auto,id=vmgenid0",
    ]  # fmt: skip


def machine() -> str:
    """The newest pc machine of this QEMU, which is libvirt's choice for ``pc``."""
    said = subprocess.run(
        ["qemu-system-x86_64", "-machine", "help"], capture_output=True, text=True, check=True
    ).stdout
    alias = next(line for line in said.splitlines() if line.startswith("pc "))
    return f"{alias.rpartition('alias of ')[2].rstrip(')')},usb=off,graphics=off"


def main() -> None:
    parser = argparse.ArgumentParser(description="how fast a warm guest is")
    parser.add_argument("--copies", type=int, default=10, metavar="N")
    parser.add_argument("--nic", choices=NICS, default="rtl8139")
    arguments = parser.parse_args()
    copies = arguments.copies
    with bench_lab() as (lab, connection, place):
        bench = Bench(lab, connection, place / "states", NICS[arguments.nic])
        first = bench.guest(warm=True)
        [path] = bench.cache.items(WARM)
        item = bench.cache.get(WARM, path.name)
        assert item is not None
        warm, alone = [], []
        cold = [bench.guest(warm=False)]
        for _ in range(copies):
            warm.append(bench.guest(warm=True))
            alone.append(bare(item, place))
        cold.append(bench.guest(warm=False))
    middle, usual = statistics.median(warm), statistics.median(cold)
    print(f"the first of its kind, saved on the way   {first:6.2f} s")
    print(f"cold boot                                 {usual:6.2f} s")
    print(f"copy, median of {copies:<3}                       {middle:6.2f} s")
    print(f"bare QEMU's restore, median               {statistics.median(alone):6.2f} s")
    print(f"copy / bare restore                       {middle / statistics.median(alone):6.2f}")
    print(f"cold boot / copy                          {usual / middle:6.1f}")
    print(f"{copies} copies / {copies} cold boots           1 / {copies * usual / sum(warm):4.1f}")


if __name__ == "__main__":
    main()

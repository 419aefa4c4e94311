"""Cold boot by the harness against bare QEMU: same disk, same devices, to the first command's answer.

    .venv/bin/python benchmarks/cold_boot.py [--pairs N] [--image NAME]

Pairs in turn (harness, bare, harness, ...), so that a machine whose speed drifts does both alike; the
figure is the ratio within each pair. Bare QEMU's network is a bridgeless one that nothing leaves.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from virtproof.deadline import SCALE, Deadline, wait_for
from virtproof.guest.agent import Agent
from virtproof.guest.boot import WAIT_UP
from virtproof.guest.connection import Connection
from virtproof.guest.console import Console, SocketPort
from virtproof.guest.guest import Guest
from virtproof.guest.shell import Runner
from virtproof.images.store import ImageStore, PreparedImage, default_cache, default_image
from virtproof.lab import PrivateLab, open_lab
from virtproof.spec import Accel, GuestSpec

MEMORY_MIB = 768


def command(overlay: Path, place: Path) -> list[str]:
    """QEMU as libvirt would start it for an IDE and RTL8139 guest, without libvirt."""
    return [
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc,graphics=off",
        "-accel", "tcg", "-cpu", "qemu64,-cx16,-svm", "-m", str(MEMORY_MIB), "-smp", "1",
        "-drive", f"file={overlay},if=none,id=root,format=qcow2,cache=writeback,discard=unmap",
        "-device", "ide-hd,drive=root,bus=ide.0,bootindex=1,serial=root",
        "-netdev", "user,id=net,restrict=on", "-device", "rtl8139,netdev=net,romfile=",
        "-device", "VGA",
        "-chardev", f"socket,id=c0,path={place}/serial0,server=on,wait=off",
        "-device", "isa-serial,chardev=c0,index=0",
        "-chardev", f"socket,id=c1,path={place}/serial1,server=on,wait=off",
        "-device", "isa-serial,chardev=c1,index=1",
        "-S", "-qmp", f"unix:{place}/qmp,server=on,wait=off",
    ]  # fmt: skip


def first_command(runner: Runner) -> None:
    assert runner.run("echo up").stdout == "up\n"


def harness(image: PreparedImage, lab: PrivateLab, connection: Connection) -> float:
    begin = time.monotonic()
    with Guest(GuestSpec(image.name, memory_mib=MEMORY_MIB), image, lab, connection) as guest:
        guest.define().boot()
        first_command(guest.runner)
        return time.monotonic() - begin


def bare(image: PreparedImage, directory: Path) -> float:
    """Seconds from ``qemu-img create`` to the first command, waited for in the harness's own way."""
    begin = time.monotonic()
    overlay = directory / "overlay.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image.path)]
    subprocess.run([*create, str(overlay)], check=True)
    with subprocess.Popen(command(overlay, directory)) as qemu:
        try:
            for name in ("serial0", "serial1", "qmp"):
                present = (directory / name).exists
                wait_for(lambda there=present: there() or None, Deadline.after(10), 0.005)
            Console(SocketPort(directory / "serial0"))
            agent = Agent(Console(SocketPort(directory / "serial1")), SCALE[Accel.TCG])
            monitor = SocketPort(directory / "qmp")
            monitor.send(b'{"execute": "qmp_capabilities"}{"execute": "cont"}')
            assert agent.sync(Deadline.after(300))
            agent.run(WAIT_UP, timeout_s=60)
            first_command(agent)
            return time.monotonic() - begin
        finally:
            qemu.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--image", default=default_image())
    arguments = parser.parse_args()
    cache = default_cache()
    image = ImageStore(cache, Accel.TCG, print).prepared(arguments.image)
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[0]

    lab = open_lab(cache, connect)
    ratios = []
    try:
        for number in range(arguments.pairs):
            ours = harness(image, lab, connections[0])
            with tempfile.TemporaryDirectory() as directory:
                theirs = bare(image, Path(directory))
            ratios.append(ours / theirs)
            line = f"pair {number + 1}: harness {ours:.1f} s, bare QEMU {theirs:.1f} s"
            print(f"{line}, ratio {ratios[-1]:.3f}", flush=True)
    finally:
        lab.close()
    low, high = min(ratios), max(ratios)
    print(f"ratio: median {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()

"""Defects on the host's side: QEMU that is refused, dies or is killed; images that are damaged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree
from seeding import edited

from virtproof.diagnose.evidence import Diagnosis
from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DiskBus

pytestmark = [pytest.mark.real, pytest.mark.boots(1)]
Fails = Callable[..., Diagnosis]
CGROUP = Path("/sys/fs/cgroup")


def qemu_of(guest: Guest) -> int:
    """Its process, as the host numbers it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"/usr/bin/qemu") and guest.name.encode() in words:
                return int(entry.name)
    raise AssertionError(f"no QEMU of {guest.name}")


@pytest.mark.sample
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV], ids=lambda s: s.name)
@pytest.mark.trial("host", "QEMU is ended by {how.name}")
def test_qemu_dies(defined_guest: GuestFactory, fails_to_boot: Fails, how: signal.Signals) -> None:
    guest = defined_guest(disk=DiskBus.IDE)

    def dies(doing: str) -> None:
        del doing

    def start() -> None:
        resumed = guest.domain.resume

        def resume() -> None:
            resumed()
            os.kill(qemu_of(guest), how)

        guest.domain.resume = resume  # type: ignore[method-assign]
        guest.boot()

    fails_to_boot("qemu-died", start)


@pytest.fixture
def starved() -> Iterator[Callable[[int], None]]:
    """Puts a process into a memory cgroup with 160 MiB."""
    version_2 = (CGROUP / "cgroup.controllers").exists()
    group = (CGROUP if version_2 else CGROUP / "memory") / f"virtproof-trial-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.max" if version_2 else "memory.limit_in_bytes")
        limit.write_text(str(160 << 20))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield lambda pid: (group / "cgroup.procs").write_text(str(pid)) and None
    for _ in range(100):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


@pytest.mark.trial("host", "the kernel kills QEMU for want of memory")
def test_out_of_memory(
    defined_guest: GuestFactory, fails_to_boot: Fails, starved: Callable[[int], None]
) -> None:
    guest = defined_guest(disk=DiskBus.IDE)
    resumed = guest.domain.resume

    def resume() -> None:
        starved(qemu_of(guest))
        resumed()

    guest.domain.resume = resume  # type: ignore[method-assign]
    fails_to_boot("qemu-oom-killed", guest.boot)


@pytest.mark.trial("host", "QEMU refuses a device (its ROM is missing)")
def test_qemu_refuses(defined_guest: GuestFactory, fails_to_boot: Fails) -> None:
    guest = defined_guest()

    def no_rom(tree: etree._Element) -> None:
        rom = tree.find("devices/interface/rom")
        assert rom is not None
        rom.attrib.clear()
        rom.set("file", "/nonexistent/trial.rom")

    edited(guest, no_rom)
    fails_to_boot("qemu-refused", guest.boot)


@pytest.mark.trial("host", "the disk's file is no qcow2 (any more)")
def test_image_is_damaged(defined_guest: GuestFactory, fails_to_boot: Fails) -> None:
    guest = defined_guest()
    with open(guest.resources.root, "r+b") as image:
        image.write(b"\0" * 64)
    fails_to_boot("qemu-refused", guest.boot)


@pytest.mark.trial("host", "the disk's file is gone")
def test_image_is_gone(defined_guest: GuestFactory, fails_to_boot: Fails) -> None:
    guest = defined_guest()
    Path(guest.resources.root).unlink()
    fails_to_boot("qemu-refused", guest.boot)


@pytest.mark.trial("host", "the disk is empty")
def test_image_is_empty(defined_guest: GuestFactory, fails_to_boot: Fails) -> None:
    guest = defined_guest()

    def empty(tree: etree._Element) -> None:
        path = guest.new_disk("empty", 64)
        disk = tree.find("devices/disk")
        disk.find("driver").set("type", "raw")  # type: ignore[union-attr]
        disk.find("source").set("file", path)  # type: ignore[union-attr]

    edited(guest, empty)
    fails_to_boot("bootloader-not-found", guest.boot)

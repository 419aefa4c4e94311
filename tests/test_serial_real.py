"""A serial port over libvirt's own stream, as a user's libvirt gives it: its limits and its ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import GuestError
from virtproof.guest.connection import Connection
from virtproof.guest.console import Console
from virtproof.guest.domain import Domain
from virtproof.lab import PrivateLab, open_lab

pytestmark = pytest.mark.real

# A machine without a disk: the firmware tells of that on its serial port.
MACHINE = """
<domain type='qemu'>
  <name>serial</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type><bios useserial='yes'/></os>
  <features><acpi/></features>
  <devices><serial type='pty'><target type='isa-serial' port='0'/></serial></devices>
</domain>
"""
SAID = b"No bootable device"


@pytest.fixture
def lab(runtime: Path, tmp_path: Path) -> Iterator[PrivateLab]:
    del runtime
    with open_lab(tmp_path / "cache", Connection) as lab:
        yield lab


@pytest.fixture
def domain(lab: PrivateLab) -> Domain:
    """Started with its CPU stopped."""
    domain = Connection(lab.uri).define(MACHINE)
    domain.start()
    return domain


def heard(console: Console, wanted: bytes) -> bool:
    return bool(wait_for(lambda: wanted in console.since(0) or None, Deadline.after(120), 0.1))


def test_all_is_heard_from_the_first_byte_to_the_end(domain: Domain) -> None:
    console = domain.console("serial0")
    assert not console.wait_beyond(0, 0.5)
    domain.resume()
    assert heard(console, b"SeaBIOS")
    assert heard(console, SAID)
    domain.destroy()
    console.join(10.0)
    assert console.closed
    with pytest.raises(GuestError, match="serial port is closed"):
        console.send(b"x")


def test_a_guest_that_reads_nothing_is_a_fault_and_no_wait_for_ever(domain: Domain) -> None:
    console = domain.console("serial0")

    def fill() -> None:
        for _ in range(10_000):
            console.send(b"x" * 4096)

    with pytest.raises(GuestError, match="does not read its serial port"):
        fill()
    domain.destroy()  # which libvirt could not, were its connection held up
    console.join(10.0)
    assert console.closed


def test_a_libvirtd_that_dies_ends_its_ports(lab: PrivateLab, domain: Domain) -> None:
    console = domain.console("serial0")
    lab.run("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
    begun = time.monotonic()
    console.join(60.0)
    assert console.closed, f"still open after {time.monotonic() - begun:.0f} s"

"""Disks keep what they are given: flush and power cut, discard, hot-add, resize, read-only."""

from __future__ import annotations

import hashlib

import pytest
from suites.conftest import BUSES

from virtproof.deadline import Deadline, wait_for
from virtproof.guest.domain_xml import data_disk, text
from virtproof.guest.guest import Guest
from virtproof.spec import DataDisk, DiskBus

MIB = 1 << 20
FLUSHED, UNFLUSHED = 0, 32  # MiB into the disk
SCSI_PLACES = {
    DiskBus.SCSI: (0, 3),
    DiskBus.VIRTIO_SCSI: (1, 3),
}  # controller, unit: free in the guest
HOT_BUSES = (DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI)  # an LSI 53C895A tells nobody of a new disk


def serial(bus: DiskBus) -> str:
    return f"data{bus.replace('-', '')}"


def device(guest: Guest, bus: DiskBus) -> str:
    return f"/dev/{guest.block.disk_by_serial(serial(bus)).name}"


def pattern(seed: str) -> bytes:
    """A MiB that says whose it is; ``lay_out`` makes the same in the guest."""
    line = f"{seed}\n".encode()
    return (line * (MIB // len(line) + 1))[:MIB]


def lay_out(guest: Guest, seed: str) -> str:
    """Make the pattern in a file of the guest: a MiB is long to send over a serial port. Its path."""
    path = f"/run/pattern-{seed}"
    guest.runner.run("yes %s | head -c %s > %s", seed, MIB, path)
    return path


def digest_at(guest: Guest, path: str, mib: int) -> str:
    """sha256 of the MiB that begins ``mib`` MiB into a device."""
    command = "dd if=%s bs=1M skip=%s count=1 2>/dev/null | sha256sum"
    return guest.runner.run(command, path, mib).stdout.split()[0]


@pytest.mark.boots(1)
@pytest.mark.claim("DISK-1")
def test_flushed_data_survives_a_power_cut(virtio_guest: Guest) -> None:
    """On every bus, what was flushed is there after the plug was pulled; control: what was not, is not.

    One cycle serves all buses: written and flushed, written and not flushed, cut, booted again.
    """
    guest = virtio_guest
    flushed, unflushed = lay_out(guest, "flushed"), lay_out(guest, "unflushed")
    writes = ["echo 360000 > /proc/sys/vm/dirty_expire_centisecs; sync"]
    for bus in BUSES:
        path = device(guest, bus)
        writes.append(f"dd if={flushed} of={path} bs=1M seek={FLUSHED} conv=fsync,notrunc")
    for number, bus in enumerate(BUSES, start=3):
        # Held open: closing it would write it back, and so would udev, which hears of a close.
        path = device(guest, bus)
        write = f"dd if={unflushed} bs=1M seek={UNFLUSHED} conv=notrunc >&{number}"
        writes.append(f"exec {number}<>{path}; {write}")
    writes.append("sleep 3600 >/dev/null 2>&1 &")  # inherits what is open, past the shell's end
    guest.runner.run("\n".join(writes))
    guest.power_cut()
    guest.boot()
    kept = {bus: digest_at(guest, device(guest, bus), FLUSHED) for bus in BUSES}
    assert kept == dict.fromkeys(BUSES, hashlib.sha256(pattern("flushed")).hexdigest())
    lost = {bus: digest_at(guest, device(guest, bus), UNFLUSHED) for bus in BUSES}
    nothing = hashlib.sha256(bytes(MIB)).hexdigest()
    assert lost == dict.fromkeys(BUSES, nothing), "the power cut cut nothing"


@pytest.mark.claim("DISK-1")
@pytest.mark.parametrize("bus", BUSES, ids=str)
def test_discard_reaches_the_host(virtio_guest: Guest, bus: DiskBus) -> None:
    """A discarded range gives its blocks back to the host; control: written, it had them."""
    guest = virtio_guest
    disk = guest.block.disk_by_serial(serial(bus))
    if disk.discard_max_bytes == 0:
        pytest.skip(f"the guest's {disk.driver} offers no discard on this disk")
    path = f"/dev/{disk.name}"
    host_path = guest.data_path(serial(bus))
    guest.runner.run("dd if=/dev/urandom of=%s bs=1M seek=8 count=16 conv=fsync 2>&1", path)
    written = guest.lab.storage.allocated_bytes(host_path)
    assert written >= 16 * MIB
    guest.runner.run(f"blkdiscard -o {8 * MIB} -l {16 * MIB} %s && sync", path)
    assert guest.lab.storage.allocated_bytes(host_path) <= written - 15 * MIB


@pytest.mark.claim("DISK-1", "DISK-2")
@pytest.mark.parametrize("bus", HOT_BUSES, ids=str)
def test_data_disk_is_hot_added_and_removed(virtio_guest: Guest, bus: DiskBus) -> None:
    """A disk added to the running guest holds what is written to it, and goes when removed."""
    guest = virtio_guest
    name = f"hot{serial(bus)}"
    target = f"{bus.target_prefix}z"
    path = guest.new_disk(name, 16)
    disk = DataDisk(bus, name, size_mib=16)
    element = text(data_disk(disk, path, target, SCSI_PLACES.get(bus, (0, 0))))
    guest.domain.attach(element)

    try:
        found = guest.block.wait_for(name, Deadline.after(10 * guest.scale))
        assert found.driver in bus.drivers
        assert found.size_bytes == 16 * MIB
        source = lay_out(guest, name)
        guest.runner.run("dd if=%s of=/dev/%s bs=1M conv=fsync 2>&1", source, found.name)
        assert (
            digest_at(guest, f"/dev/{found.name}", 0) == hashlib.sha256(pattern(name)).hexdigest()
        )
    finally:
        guest.domain.detach(element)
    gone = guest.block.wait_until_gone(name, Deadline.after(10 * guest.scale))
    assert gone, "the guest did not give the disk back"


@pytest.mark.claim("DISK-1")
@pytest.mark.parametrize("bus", [DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI], ids=str)
def test_online_resize_is_seen(virtio_guest: Guest, bus: DiskBus) -> None:
    """A disk grown under the running guest has its new size there, without a reboot."""
    guest = virtio_guest
    before = guest.block.disk_by_serial(serial(bus))
    grown = before.size_bytes + 16 * MIB
    guest.domain.resize(guest.target_of(serial(bus)), grown // MIB)

    def seen() -> bool | None:
        if bus is DiskBus.VIRTIO_SCSI:  # SCSI tells by a unit attention: ask for the capacity anew
            guest.runner.run("echo 1 > /sys/block/%s/device/rescan", before.name)
        guest.block.refresh()
        size = guest.block.disk_by_serial(serial(bus)).size_bytes
        return True if size == grown else None

    assert wait_for(seen, Deadline.after(10 * guest.scale), 0.3)


@pytest.mark.claim("DISK-1")
def test_read_only_disk_refuses_writes(virtio_guest: Guest) -> None:
    """A ``<readonly/>`` disk is read-only in the guest and stays as it was; control: others are not."""
    guest = virtio_guest
    disk = guest.block.disk_by_serial("readonly")
    assert disk.read_only
    write = "dd if=/dev/urandom of=/dev/%s bs=4k count=1 seek=2048 conv=fsync,notrunc 2>&1"
    refused = guest.runner.run(write, disk.name, check=False)
    assert refused.status != 0
    zero = hashlib.sha256(bytes(MIB)).hexdigest()
    assert digest_at(guest, f"/dev/{disk.name}", 8) == zero
    writable = guest.block.disk_by_serial(serial(DiskBus.VIRTIO))
    assert not writable.read_only
    assert guest.runner.run(write, writable.name).status == 0

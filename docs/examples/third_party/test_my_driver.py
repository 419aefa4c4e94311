"""A driver's own tests in the driver's own repository: virtproof is installed, nothing is copied.

``pytest`` boots one guest for the whole file; ``pytest --image ./mine.qcow2`` does it on a disk
image of your own. Put your driver's name, and what it must do, in the place of virtio_blk.
"""

from __future__ import annotations

import hashlib

import pytest

from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DataDisk, DiskBus, NicModel

DRIVER = "virtio_blk"
MINE = DataDisk(DiskBus.VIRTIO, serial="mine", size_mib=64)
PAYLOAD = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def guest(shared_guest_on: GuestFactory) -> Guest:
    """A running guest: root on IDE, so that only the disk under test needs the driver."""
    return shared_guest_on(disk=DiskBus.IDE, nic=NicModel.VIRTIO, data_disks=(MINE,))


@pytest.mark.claim("DISK-1")
def test_driver_is_bound(guest: Guest) -> None:
    """The kernel has the driver, and it took the disk."""
    assert guest.kernel.supports(DRIVER) in ("module", "builtin")
    disk = guest.block.disk_by_serial("mine")
    assert disk.driver == DRIVER
    assert disk.size_bytes == 64 << 20


def test_driver_is_not_bound_to_the_ide_disk(guest: Guest) -> None:
    """Control: a disk that is not the driver's has another one."""
    assert guest.block.root_disk.driver != DRIVER


def test_bytes_come_back(guest: Guest) -> None:
    """A MiB written past the guest's page cache is read back as it was."""
    device = f"/dev/{guest.block.disk_by_serial('mine').name}"
    guest.runner.put("/run/payload", PAYLOAD)
    guest.runner.run("dd if=/run/payload of=%s bs=1M oflag=direct 2>&1", device)
    read = "dd if=%s bs=1M count=1 iflag=direct 2>/dev/null | sha256sum"
    digest = guest.runner.run(read, device).stdout.split()[0]
    assert digest == hashlib.sha256(PAYLOAD).hexdigest()


def test_kernel_has_no_complaint(guest: Guest) -> None:
    """Neither an oops nor a warning with a call trace since the guest was started."""
    log = guest.runner.run("dmesg").stdout
    assert "Linux version" in log
    assert "Call Trace:" not in log

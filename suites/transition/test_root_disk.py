"""The root disk moves to virtio: prepared it boots, unprepared it is named why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lxml import etree

from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.run import Run
from virtproof.spec import DiskBus, NicModel
from virtproof.transition.switching import stale_addresses, switch_disk

SOURCES = (
    pytest.param(DiskBus.IDE, marks=pytest.mark.boots(6), id="ide"),
    pytest.param(DiskBus.SATA, marks=pytest.mark.boots(4), id="sata"),
    pytest.param(DiskBus.SCSI, marks=pytest.mark.boots(4), id="scsi"),
)
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_scsi")


def root_address(guest: Guest) -> str:
    """Type of the root disk's ``<address>`` in the running domain."""
    tree = etree.fromstring(guest.domain.xml())
    return str(tree.xpath("string(devices/disk[serial='root']/address/@type)"))


def prepared(guest: Guest) -> Guest:
    """The guest with virtio in its initramfs: listed before (not there) and after (there)."""
    before = guest.initramfs.modules
    assert not {"virtio_blk", "virtio_pci"} & before, "this image needs no preparing"
    guest.prepare_for_virtio()
    for driver in DRIVERS:
        assert guest.initramfs.holds(driver), f"{driver} after {guest.initramfs.tool}"
    return guest


@pytest.mark.claim("DISK-1", "DISK-2", "DISK-3", "DISK-4", "DISK-5")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.usefixtures("ide_image")
def test_prepared_root_moves_to_virtio(guest_on: GuestFactory, source: DiskBus) -> None:
    """A guest whose initramfs was given virtio_pci and virtio_blk boots from vda after one switch.

    From IDE it goes on to virtio-scsi, where the disk is an sdX on another driver, and then back:
    preparing for virtio takes nothing away.
    """
    guest = prepared(guest_on(disk=source))
    assert guest.block.root_disk.driver in source.drivers
    guest.switch(disk=DiskBus.VIRTIO)
    root = guest.block.root_disk
    assert root.driver == "virtio_blk"
    assert root.name == "vda"
    assert root_address(guest) == "pci"
    assert guest.system.failed_units == ()
    if source is DiskBus.IDE:
        guest.switch(disk=DiskBus.VIRTIO_SCSI)
        assert guest.block.root_disk.driver == "virtio_scsi"
        assert guest.system.failed_units == ()
        guest.switch(disk=DiskBus.IDE)
        assert guest.block.root_disk.driver in DiskBus.IDE.drivers


@pytest.mark.boots(3)
@pytest.mark.claim("DISK-3", "DISK-6")
@pytest.mark.usefixtures("ide_image")
def test_unprepared_root_is_named(guest_on: GuestFactory) -> None:
    """Control: without preparing, the guest fails to find its root, and the cause has its name."""
    guest = guest_on(disk=DiskBus.IDE)
    if guest.initramfs.holds("virtio_blk"):
        pytest.skip("this image's initramfs has virtio_blk already")
    with pytest.raises(BootFailedError) as failed:
        guest.switch(disk=DiskBus.VIRTIO)
    assert failed.value.diagnosis.name == "initramfs-lacks-virtio_blk"


@pytest.mark.claim("DISK-2")
def test_stale_address_is_refused(defined_guest: GuestFactory) -> None:
    """Control: a left-over drive address is refused on the new bus, and the error names it."""
    guest = defined_guest(disk=DiskBus.IDE)

    def edit(xml: str) -> str:
        after = switch_disk(xml, guest.root_target, DiskBus.VIRTIO, drop_address=False)
        assert stale_addresses(after)
        return after

    with pytest.raises(BootFailedError) as failed:
        guest.edit(edit)
    assert failed.value.diagnosis.name == "stale-address"
    assert "address" in failed.value.diagnosis.line


@pytest.mark.boots(5)
@pytest.mark.claim("DISK-3", "DISK-4")
def test_dracut_prepares_as_well(sibling: Callable[[str], str], guest_on: GuestFactory) -> None:
    """A system whose initramfs is dracut's moves to virtio in the same way."""
    guest = guest_on(image=sibling("dracut"), disk=DiskBus.IDE)
    assert guest.initramfs.tool == "dracut"
    prepared(guest).switch(disk=DiskBus.VIRTIO)
    assert guest.block.root_disk.driver == "virtio_blk"


@pytest.mark.boots(5)
@pytest.mark.claim("DISK-6", "DISK-7")
def test_installed_on_virtio_needs_no_step_nor_does_its_update(
    virtproof_run: Run, sibling: Callable[[str], str], guest_on: GuestFactory
) -> None:
    """A system installed on virtio boots as it is, and so does the next kernel that it installs."""
    name = sibling("virtio")
    if "@" in name:
        pytest.skip("a kernel under test is not the one that an update brings")
    guest = guest_on(image=name, disk=DiskBus.VIRTIO, nic=NicModel.VIRTIO)
    assert guest.block.root_disk.driver == "virtio_blk"
    first = guest.kernel.release
    guest.install_packages(virtproof_run.store.packages(name))
    guest.reboot()
    assert guest.kernel.release != first
    assert guest.block.root_disk.driver == "virtio_blk"
    assert guest.initramfs.holds("virtio_blk")

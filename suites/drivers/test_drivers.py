"""The guest's kernel has the drivers, and binds them to what it is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from suites.conftest import BUSES, need_driver, need_modules

from virtproof.errors import GuestError
from virtproof.guest.guest import Guest
from virtproof.kernel import expect
from virtproof.spec import DiskBus, NicModel

VIRTIO_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi")
FIRST_KERNEL = (2, 6, 25)


@pytest.mark.claim("GUEST-1")
@pytest.mark.parametrize("driver", VIRTIO_DRIVERS)
def test_kernel_has_driver(emulated_guest: Guest, driver: str) -> None:
    """A guest that never saw virtio has the driver, as a module or built in."""
    assert emulated_guest.kernel.version >= FIRST_KERNEL
    need_modules(emulated_guest)
    assert emulated_guest.kernel.supports(driver) in ("module", "builtin")


@pytest.mark.claim("GUEST-1")
@pytest.mark.parametrize("driver", VIRTIO_DRIVERS)
def test_driver_is_where_the_kernels_files_say(emulated_guest: Guest, driver: str) -> None:
    """What the kernel's files say of a driver (module, built in), the running kernel says too."""
    need_modules(emulated_guest)
    assert emulated_guest.support.has(driver) == emulated_guest.kernel.supports(driver)


@pytest.mark.claim("GUEST-1")
def test_kernel_without_a_driver_says_so(emulated_guest: Guest) -> None:
    """Control: a driver that no kernel has is not found."""
    assert emulated_guest.kernel.supports("virtio_nonesuch") is None


@pytest.mark.claim("NET-3")
def test_emulated_guest_shows_no_virtio(emulated_guest: Guest) -> None:
    """Control: on RTL8139 and IDE nothing is virtio, and no virtio driver is bound or loaded."""
    assert emulated_guest.pci.virtio == ()
    assert emulated_guest.virtio.devices == ()
    need_driver(emulated_guest, NicModel.RTL8139.drivers)
    nic = emulated_guest.net.by_mac(emulated_guest.mac)
    assert nic.driver in NicModel.RTL8139.drivers
    assert not nic.virtio
    assert not emulated_guest.kernel.loaded("virtio_net")


@pytest.mark.claim("DISK-1")
def test_emulated_guest_has_its_root_on_ide(emulated_guest: Guest) -> None:
    """Control: the IDE guest's root is not a vdX, and is driven by an IDE driver."""
    disk = emulated_guest.block.root_disk
    assert disk.driver in DiskBus.IDE.drivers
    assert not disk.name.startswith("vd")


@pytest.mark.claim("NET-3")
def test_nic_is_bound_to_virtio_net(virtio_guest: Guest) -> None:
    """The NIC is driven by virtio_net; virtio_pci and virtio_net are loaded or built in."""
    need_driver(virtio_guest, NicModel.VIRTIO.drivers)
    nic = virtio_guest.net.by_mac(virtio_guest.mac)
    assert nic.driver == "virtio_net"
    assert nic.virtio
    for module in ("virtio_pci", "virtio_net"):
        assert virtio_guest.kernel.loaded(module) or virtio_guest.kernel.builtin(module), module


@pytest.mark.claim("NET-3", "DISK-1")
def test_every_virtio_function_has_its_driver(virtio_guest: Guest) -> None:
    """Each PCI function with virtio's vendor id is driven by virtio-pci, each virtio device works."""
    for drivers in (NicModel.VIRTIO.drivers, DiskBus.VIRTIO.drivers, DiskBus.VIRTIO_SCSI.drivers):
        need_driver(virtio_guest, drivers)
    functions = virtio_guest.pci.virtio
    assert functions
    assert {function.driver for function in functions} == {"virtio-pci"}
    devices = virtio_guest.virtio.devices
    assert len(devices) == len(functions)
    for device in devices:
        assert device.driver, device
        assert "DRIVER_OK" in device.status, device
        assert "FAILED" not in device.status, device


@pytest.mark.claim("DISK-1")
@pytest.mark.parametrize("bus", BUSES, ids=str)
def test_disk_is_bound_to_its_driver(virtio_guest: Guest, bus: DiskBus) -> None:
    """A disk on each bus is found by its serial, on the driver of that bus; virtio's is a vdX."""
    need_driver(virtio_guest, bus.drivers)
    disk = virtio_guest.block.disk_by_serial(f"data{bus.replace('-', '')}")
    assert disk.driver in bus.drivers
    assert disk.name.startswith("vd") == (bus is DiskBus.VIRTIO)


@pytest.mark.claim("NET-3", "DISK-1")
@pytest.mark.parametrize("driver", ["virtio_net", "virtio_blk", "virtio_scsi"])
def test_features_are_those_of_device_and_driver(
    virtio_guest: Guest, remark: Callable[[str], None], driver: str
) -> None:
    """Negotiated is what the device offers and the driver's table, in its module, takes: no more, no less."""
    need_driver(virtio_guest, (driver,))
    try:
        offered = virtio_guest.offered()
    except GuestError as error:
        pytest.skip(f"QEMU does not tell what its devices offer: {error}")
    devices = [device for device in virtio_guest.virtio.devices if device.driver == driver]
    assert devices
    for device in devices:
        bits = offered[device.pci_address or ""]
        modern = "FEATURES_OK" in device.status
        found = expect.features(virtio_guest.support, driver, device.device_id, bits, modern=modern)
        if not found.known:
            remark(f"only held against what was offered: {found.why}")
        assert expect.disagreement(found, device.features, device.device_id) == "", device.name
        # Control: a bit that this device did not offer is seen.
        foreign = min(set(range(64)) - bits)
        assert expect.disagreement(found, {*device.features, foreign}, device.device_id)

"""Giving a running guest a device of a cell, and looking at what it makes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import pytest

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import CommandError, GuestError
from virtproof.guest.guest import Guest
from virtproof.guest.plugging import RefusedError, plugged_disk, plugged_nic
from virtproof.guest.qemu_xml import Ring
from virtproof.kernel.features import names_of
from virtproof.matrix.cells import DeviceCell
from virtproof.probe.virtio import VirtioDevice
from virtproof.spec import DiskBus, NicModel, VirtioMode

SEEN_S, BOUND_S, SETTLE_S, ROUTE_S = 10.0, 10.0, 0.5, 10.0  # on KVM; scaled to the accelerator
POLL_S = 0.2
PACKED, VERSION_1 = 34, 32
# A MiB is written past the page cache and comes back as it was.
ROUND_TRIP = """yes %s | head -c 1048576 >/run/sent
dd if=/run/sent of=/dev/%s bs=1M oflag=direct conv=notrunc 2>/dev/null
dd if=/dev/%s bs=1M count=1 iflag=direct 2>/dev/null | cmp - /run/sent"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The driver that has a device (None: none has), and where it is on PCI."""

    driver: str | None
    name: str = ""
    pci_address: str | None = None


def serial(cell: DeviceCell) -> str:
    """A disk's: that of one which the guest has from its start, or a cell's own."""
    return f"cold{cell.device}" if _is_cold(cell) else f"hot{_digest(cell).hex()}"


def mac(cell: DeviceCell) -> str:
    """A cell's own: the host remembers the address that it leased to a MAC before."""
    return "52:54:01:" + ":".join(f"{byte:02x}" for byte in _digest(cell)[:3])


def _digest(cell: DeviceCell) -> bytes:
    return sha256(cell.id.encode()).digest()[:8]


@contextlib.contextmanager
def given(guest: Guest, cell: DeviceCell) -> Iterator[frozenset[str]]:
    """The guest has the device within the block: where its kernel sees it on PCI. Skips what QEMU has not.

    Nowhere new for a disk that the guest has from its start.
    """
    if _is_cold(cell):
        yield frozenset()
        return
    ring = Ring(cell.virtio, cell.packed)
    before = _functions(guest)
    try:
        with contextlib.ExitStack() as stack:
            try:
                if isinstance(cell.device, NicModel):
                    plugged = plugged_nic(guest, cell.device, mac(cell), ring)
                else:
                    plugged = plugged_disk(guest, cell.device, serial(cell), ring)
                stack.enter_context(plugged)
            except RefusedError as error:
                pytest.skip(f"this QEMU does not give it to a running guest: {error}")
            deadline = Deadline.after(SEEN_S * guest.scale)
            new = wait_for(lambda: _functions(guest) - before or None, deadline, POLL_S)
            assert new, f"the guest does not see that it was given {cell.id}"
            yield frozenset(new)
    except GuestError:
        guest.close()  # it may still have the device: the next cell gets another one
        raise


def _functions(guest: Guest) -> set[str]:
    return set(guest.runner.run("ls /sys/bus/pci/devices").stdout.split())


def look(guest: Guest, cell: DeviceCell, *, patient: bool) -> Seen:
    """What has the device. ``patient``: something should; else a moment is enough to see that nothing has."""
    deadline = Deadline.after((BOUND_S if patient else SETTLE_S) * guest.scale)
    if isinstance(cell.device, NicModel):
        return wait_for(lambda: _nic(guest, mac(cell)), deadline, POLL_S) or Seen(None)
    return wait_for(lambda: _disk(guest, serial(cell)), deadline, POLL_S) or Seen(None)


def look_at_nic(guest: Guest) -> Seen:
    """What has the guest's own NIC: udev may load the driver when the boot has ended already."""
    deadline = Deadline.after(BOUND_S * guest.scale)
    return wait_for(lambda: _nic(guest, guest.mac), deadline, POLL_S) or Seen(None)


def _is_cold(cell: DeviceCell) -> bool:
    return cell.device in (DiskBus.IDE, DiskBus.SATA, DiskBus.SCSI, DiskBus.USB)


def _nic(guest: Guest, mac: str) -> Seen | None:
    with contextlib.suppress(CommandError):  # udev may be renaming it just now
        for nic in guest.net.nics:
            if nic.mac == mac and nic.driver:
                return Seen(nic.driver, nic.name, nic.pci_address)
    return None


def _disk(guest: Guest, name: str) -> Seen | None:
    guest.block.refresh()
    for disk in guest.block.disks:
        if disk.serial == name:
            return Seen(disk.driver, disk.name, disk.pci_address)
    return None


def work(guest: Guest, cell: DeviceCell, seen: Seen) -> None:
    """A MiB goes to the disk and comes back; the NIC gets an address by DHCP, which takes both directions."""
    if cell.is_disk:
        guest.runner.run(ROUND_TRIP, cell.device, seen.name, seen.name)
    elif cell.virtio is not VirtioMode.LEGACY:  # which is in no network
        take_address(guest, mac(cell))


def take_address(guest: Guest, mac: str) -> None:
    """The lab has leased an address to the NIC of that MAC, and the guest has taken it up."""
    address = guest.address(mac)
    assert address, "the NIC got no address"
    taken = wait_for(
        lambda: True if address in guest.net.by_mac(mac).addresses else None,
        Deadline.after(ROUTE_S * guest.scale),
        POLL_S,
    )
    assert taken, f"the guest did not take up the address {address}"


def reach_gateway(guest: Guest) -> None:
    """The guest's own NIC has its address, and the gateway answers a ping."""
    take_address(guest, guest.mac)
    gateway = wait_for(lambda: guest.net.gateway, Deadline.after(ROUTE_S * guest.scale), POLL_S)
    assert gateway, "the guest has no default route"
    guest.runner.run("ping -c 1 -W 10 %s", gateway)


def check_queues(guest: Guest, queues: int) -> None:
    """The root disk and the NIC, where they are virtio, have as many queues as were asked for."""
    if guest.spec.disk.is_virtio:
        name = guest.block.root_disk.name
        has = len(guest.runner.run("ls /sys/block/%s/mq", name).stdout.split())
        assert has == queues, f"{name} has {has} queues, {queues} were asked for"
    if guest.spec.nic is NicModel.VIRTIO:
        name = guest.net.by_mac(guest.mac).name
        said = guest.runner.run("ls -d /sys/class/net/%s/queues/rx-*", name).stdout.split()
        assert len(said) == queues, f"{name} has {len(said)} queues, {queues} were asked for"


def negotiated(guest: Guest, at: frozenset[str] | None = None) -> Mapping[str, tuple[str, ...]]:
    """Names of the features that drivers have taken, by driver; of devices at these places, or of all."""
    found = (device for device in _devices(guest, at) if device.driver)
    return {str(one.driver): names_of(one.device_id, one.features) for one in found}


def check_mode(
    guest: Guest, virtio: VirtioMode | None, *, packed: bool, at: frozenset[str] | None = None
) -> None:
    """These virtio devices are of the mode that was asked for, and their rings are packed if they were."""
    for device in _devices(guest, at):
        check_device(device, virtio, packed=packed)


def _devices(guest: Guest, at: frozenset[str] | None) -> list[VirtioDevice]:
    guest.virtio.refresh()
    return [one for one in guest.virtio.devices if at is None or one.pci_address in at]


def check_device(device: VirtioDevice, virtio: VirtioMode | None, *, packed: bool) -> None:
    what = f"{device.name} ({device.driver})"
    assert "DRIVER_OK" in device.status, f"{what} has status {', '.join(sorted(device.status))}"
    assert "FAILED" not in device.status, f"{what} has failed"
    if virtio is not None:
        said = f"{what} is {device.transport}, {virtio} was asked for"
        assert device.transport == virtio.value, said
        modern = VERSION_1 in device.features
        assert modern == (virtio is not VirtioMode.LEGACY), f"{what}: F_VERSION_1 is {modern}"
    has = PACKED in device.features
    assert has == packed, f"{what}: F_RING_PACKED is {has}"

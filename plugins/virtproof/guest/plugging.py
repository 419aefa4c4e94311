"""Devices that a running guest is given for a moment: NICs by libvirt, disks and what is legacy by QEMU.

libvirt plugs in neither NVMe nor virtio of the old interface alone, so those go by QEMU's own monitor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import GuestError
from virtproof.guest.device_xml import interface, text
from virtproof.guest.domain import Domain, RefusedError
from virtproof.guest.guest import Guest
from virtproof.guest.qemu_xml import Ring, blockdev
from virtproof.spec import CacheMode, DiskBus, NicModel, VirtioMode

GONE_S = 15.0  # on KVM; scaled to the accelerator
POLL_S = 0.2
# QEMU's names of the devices that are plugged in for a disk: the last one has the disk.
DEVICES = {
    DiskBus.NVME: ("nvme",),
    DiskBus.VIRTIO: ("virtio-blk-pci",),
    DiskBus.VIRTIO_SCSI: ("virtio-scsi-pci", "scsi-hd"),
}


@contextlib.contextmanager
def plugged_nic(guest: Guest, model: NicModel, mac: str, ring: Ring) -> Iterator[None]:
    """A NIC in the lab's network, unplugged after the block; one of legacy virtio is in no network.

    RefusedError where libvirt or QEMU do not take it; GuestError where the guest does not give it back.
    """
    if ring.virtio is VirtioMode.LEGACY:
        device = {**_virtio(f"{model}-net-pci", ring), "mac": mac}
        with _added(guest, [device]):
            yield
        return
    network = guest.lab.network
    element = text(interface(model, mac, network, isolated=guest.isolated, ring=ring))
    guest.domain.attach(element)
    try:
        yield
    finally:
        guest.domain.detach(element)
        _wait_until(guest, lambda: mac not in guest.domain.xml(), f"the {model} NIC")


@contextlib.contextmanager
def plugged_disk(guest: Guest, bus: DiskBus, serial: str, ring: Ring) -> Iterator[None]:
    """An empty disk of that serial on nvme, virtio or virtio-scsi, unplugged after the block; likewise."""
    path, node = guest.new_disk(serial, 16), f"plugged-{serial}"
    names = DEVICES[bus]
    first = {"driver": names[0]} if bus is DiskBus.NVME else _virtio(names[0], ring)
    devices: list[dict[str, Any]] = [first, *({"driver": name} for name in names[1:])]
    devices[-1] |= {"drive": node, "serial": serial}
    backend = blockdev(node, path, "raw", CacheMode.WRITEBACK)
    guest.domain.monitor("blockdev-add", backend)
    try:
        with _added(guest, devices):
            yield
    finally:
        _wait_until(guest, partial(_released, guest.domain, node), f"the disk {serial}")


def _virtio(driver: str, ring: Ring) -> dict[str, Any]:
    """A virtio device of QEMU's, of that mode."""
    if ring.virtio is VirtioMode.LEGACY:
        return {"driver": driver, "disable-modern": True, "disable-legacy": "off"}
    suffix = ring.virtio.suffix if ring.virtio else ""
    return {"driver": f"{driver}{suffix}", **({"packed": True} if ring.packed else {})}


@contextlib.contextmanager
def _added(guest: Guest, devices: list[dict[str, Any]]) -> Iterator[None]:
    """Devices added one after another, each on the one before; the first takes the others with it."""
    domain = guest.domain
    added: list[str] = []
    try:
        for number, device in enumerate(devices):
            on = {"bus": f"{added[-1]}.0"} if added else {}
            domain.monitor("device_add", {**device, **on, "id": f"plugged{number}"})
            added.append(f"plugged{number}")
        yield
    finally:
        for name in reversed(added):
            domain.monitor("device_del", {"id": name})
            what = f"the {devices[int(name.removeprefix('plugged'))]['driver']}"
            _wait_until(guest, partial(_has_not, domain, name), what)


def _has_not(domain: Domain, name: str) -> bool:
    found = domain.monitor("qom-list", {"path": "/machine/peripheral"})
    return all(entry["name"] != name for entry in found)


def _released(domain: Domain, node: str) -> bool:
    """Whether the block node could be removed: a device that has gone may hold it for a moment."""
    try:
        domain.monitor("blockdev-del", {"node-name": node})
    except RefusedError as error:
        if "in use" in str(error):
            return False
        raise
    return True


def _wait_until(guest: Guest, gone: Callable[[], bool], what: str) -> None:
    done = wait_for(lambda: True if gone() else None, Deadline.after(GONE_S * guest.scale), POLL_S)
    if done is None:
        raise GuestError(f"the guest does not give {what} back")


__all__ = ["RefusedError", "plugged_disk", "plugged_nic"]

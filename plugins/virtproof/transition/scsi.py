"""SCSI controllers of a domain: the one of a model, and a place on it."""

from __future__ import annotations

from lxml import etree

from virtproof.errors import UsageError
from virtproof.spec import DiskBus
from virtproof.transition.domain_edit import devices, libvirt_bus, target, target_index

# libvirt places a disk without an address by its target's number: 15 units a controller, unit 7
# being the controller's own.
_UNITS = 15
_OWN_UNIT = 7
_VIRTIO = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")
_LSI_UNITS = 7  # a narrow bus has ids 0 to 7


def default_place(name: str) -> tuple[int, int]:
    """Controller and unit that libvirt gives to a SCSI disk of that target."""
    controller, unit = divmod(target_index(name), _UNITS)
    return controller, unit + 1 if unit >= _OWN_UNIT else unit


def place(disk: etree._Element) -> tuple[int, int]:
    """Controller and unit of a SCSI disk, from its address, else as libvirt would choose.

    On virtio-scsi the address' ``target`` counts as well; a disk there with target 3 holds unit 3.
    """
    address = disk.find("address[@type='drive']")
    if address is None:
        return default_place(target(disk))
    units = (int(address.get("target", "0")), int(address.get("unit", "0")))
    return int(address.get("controller", "0")), max(units)


def bus_of(domain: etree._Element, disk: etree._Element) -> DiskBus | None:
    """Which of our buses a disk is on; None for one that we do not know (fdc, ...)."""
    name = libvirt_bus(disk)
    if name != "scsi":
        plain = (DiskBus.IDE, DiskBus.SATA, DiskBus.USB, DiskBus.VIRTIO)
        return {bus.libvirt_bus: bus for bus in plain}.get(name)
    found = _controllers(domain).get(place(disk)[0])
    return DiskBus.VIRTIO_SCSI if found is not None and _is_virtio(found) else DiskBus.SCSI


def attach(domain: etree._Element, disk: etree._Element, wanted: DiskBus) -> None:
    """Give ``disk`` a place on a controller of ``wanted``'s model, which is added where none is.

    An ``<address>`` is written only where libvirt would choose another controller or a taken unit.
    The disk's old address is gone by now.
    """
    index = _controller(domain, wanted)
    taken = {
        place(other)[1]
        for other in devices(domain).findall("disk")
        if other is not disk and libvirt_bus(other) == "scsi" and place(other)[0] == index
    }
    if default_place(target(disk))[0] == index and default_place(target(disk))[1] not in taken:
        return
    limit = _UNITS + 1 if wanted is DiskBus.VIRTIO_SCSI else _LSI_UNITS
    free = [unit for unit in range(limit) if unit != _OWN_UNIT and unit not in taken]
    if not free:
        raise UsageError(f"scsi controller {index} has no free unit for {target(disk)}")
    element = etree.SubElement(disk, "address", type="drive", controller=str(index), bus="0")
    element.set("target", "0")
    element.set("unit", str(free[0]))


def _controllers(domain: etree._Element) -> dict[int, etree._Element]:
    found = devices(domain).findall("controller[@type='scsi']")
    return {int(element.get("index", "0")): element for element in found}


def _is_virtio(controller: etree._Element) -> bool:
    return controller.get("model") in _VIRTIO


def _controller(domain: etree._Element, wanted: DiskBus) -> int:
    """Index of the first controller of the right model; a new one gets the first free index."""
    present = _controllers(domain)
    model = wanted.controller_model or ""
    for index in sorted(present):
        # libvirt's own choice on x86, where a controller names no model, is lsilogic
        found = present[index].get("model", "lsilogic")
        if found == model or (wanted is DiskBus.VIRTIO_SCSI and _is_virtio(present[index])):
            return index
    # a controller that libvirt would add by itself, for a disk that has none yet, is taken too
    implied = {
        place(disk)[0]
        for disk in devices(domain).findall("disk")
        if libvirt_bus(disk) == "scsi" and disk.find("address") is not None
    }
    index = next(i for i in range(256) if i not in present and i not in implied)
    element = etree.Element("controller", type="scsi", index=str(index), model=model)
    last = devices(domain).findall("disk")[-1]
    last.addnext(element)
    return index

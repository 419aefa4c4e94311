"""Move a disk or a network card of a domain to another bus or model: an edit of the domain's XML.

Pure functions on what ``virsh dumpxml --inactive`` prints; the result goes to ``virsh define``.
"""

from __future__ import annotations

from lxml import etree

from virtproof.errors import UsageError
from virtproof.spec import DiskBus, NicModel
from virtproof.transition import scsi
from virtproof.transition.domain_edit import (
    devices,
    diff,
    libvirt_bus,
    parse,
    target,
    target_index,
    text,
)

__all__ = ["diff", "stale_addresses", "switch_disk", "switch_nic"]

_IDE_DISKS = 4
# What libvirt refuses on other buses than these.
_VIRTIO_DRIVER = (
    "iothread", "queues", "queue_size", "ioeventfd", "event_idx",
    "iommu", "ats", "packed", "page_per_vq",
)  # fmt: skip
_SCSI_ONLY = ("vendor", "product")
_NOT_ON_VIRTIO = ("vendor", "product", "wwn")


def switch_disk(xml: str, target_dev: str, bus: DiskBus, *, drop_address: bool = True) -> str:
    """The domain with the disk ``target_dev`` on another bus, under that bus' name (hda to vda).

    The stale ``<address>`` goes, so that libvirt makes a new one (``drop_address=False`` leaves
    it: libvirt then refuses the domain). A disk that booted first still does. Every other disk,
    and this one's source, serial, cache mode and read-only flag, stay as they are. UsageError
    where the target does not exist, its new name is taken, or the bus cannot hold it.
    """
    domain = parse(xml)
    disk = _disk(domain, target_dev)
    if scsi.bus_of(domain, disk) is bus:
        return text(domain)
    new = bus.target_prefix + target_dev[2:]
    _refuse(domain, disk, bus, new)
    was_first = _boots_first(domain, disk)
    element = disk.find("target")
    assert element is not None  # _disk found it by its target
    element.set("dev", new)
    element.set("bus", bus.libvirt_bus)
    _strip(disk, element, bus)
    if drop_address:
        for address in disk.findall("address"):
            disk.remove(address)
    if bus.controller_model and drop_address:
        scsi.attach(domain, disk, bus)
    if bus is DiskBus.USB:
        for controller in devices(domain).findall("controller[@type='usb'][@model='none']"):
            controller.set("model", "qemu-xhci")
    if was_first and not _boots_first(domain, disk):
        _boot_by_device(domain, disk)
    return text(domain)


def switch_nic(xml: str, mac: str, model: NicModel) -> str:
    """The domain with the card of that MAC as another model; MAC, PCI address and network stay."""
    domain = parse(xml)
    cards = devices(domain).findall("interface")
    macs = [(card.find("mac"), card) for card in cards]
    found = [c for m, c in macs if m is not None and m.get("address", "").lower() == mac.lower()]
    if not found:
        there = ", ".join(m.get("address", "") for m, _ in macs if m is not None) or "none"
        raise UsageError(f"the domain has no interface of MAC {mac}", hint=f"it has {there}")
    card = found[0]
    element = card.find("model")
    if element is None:
        element = etree.SubElement(card, "model")
    element.set("type", model.value)
    driver = card.find("driver")
    if driver is not None and model is not NicModel.VIRTIO:
        card.remove(driver)  # vhost, queues, offloads: virtio's
    return text(domain)


def stale_addresses(xml: str) -> list[str]:
    """Disks whose ``<address>`` is of another bus, each as a sentence.

    As ``disk vda (bus virtio) has <address type='drive'>, which is for ide, sata and scsi``.
    """
    problems = []
    for disk in devices(parse(xml)).findall("disk"):
        name, on = target(disk), libvirt_bus(disk)
        for address in disk.findall("address"):
            kind = address.get("type", "")
            if on in ("virtio", "usb") and kind == "drive":
                problems.append(_problem(name, on, kind, "ide, sata and scsi"))
            elif on == "virtio" and kind == "usb":
                problems.append(_problem(name, on, kind, "usb"))
            elif (on == "usb" and kind != "usb") or (
                on in ("ide", "sata", "scsi") and kind != "drive"
            ):
                problems.append(_problem(name, on, kind, "virtio"))
    return problems


def _problem(name: str, on: str, kind: str, meant: str) -> str:
    return f"disk {name} (bus {on}) has <address type='{kind}'>, which is for {meant}"


def _disk(domain: etree._Element, name: str) -> etree._Element:
    disks = devices(domain).findall("disk")
    for disk in disks:
        if target(disk) == name:
            return disk
    there = ", ".join(target(disk) for disk in disks) or "no disk"
    raise UsageError(f"the domain has no disk {name!r}", hint=f"it has {there}")


def _refuse(domain: etree._Element, disk: etree._Element, bus: DiskBus, new: str) -> None:
    """UsageError for a switch that libvirt or QEMU would refuse, in words that name the reason."""
    old, kind = target(disk), disk.get("device", "disk")
    index = target_index(old)
    if bus is DiskBus.NVME:
        raise UsageError(f"disk {old} cannot be on nvme: libvirt 9 has no such bus")
    for other in devices(domain).findall("disk"):
        if other is not disk and target(other) == new:
            raise UsageError(
                f"disk {old} cannot become {new} on {bus}: the domain has another disk {new}",
                hint=f"move {new} first, or rename it",
            )
    machine = domain.find("os/type")
    if bus is DiskBus.IDE and machine is not None and "q35" in machine.get("machine", ""):
        raise UsageError("machine q35 has no IDE controller", hint="use bus sata")
    if bus is DiskBus.IDE and index >= _IDE_DISKS:
        raise UsageError(f"disk {old} cannot become {new}: IDE has places hda to hdd only")
    if bus is DiskBus.VIRTIO and kind in ("cdrom", "floppy"):
        raise UsageError(f"{kind} {old} cannot be on virtio", hint="use virtio-scsi, or sata")
    if bus in (DiskBus.IDE, DiskBus.SATA) and kind == "disk" and disk.find("readonly") is not None:
        raise UsageError(
            f"disk {old} is read-only, which {bus} cannot be", hint="use virtio or scsi"
        )


def _strip(disk: etree._Element, element: etree._Element, bus: DiskBus) -> None:
    """Remove what the new bus refuses: virtio's driver options, SCSI's names."""
    driver = disk.find("driver")
    if driver is not None and bus is not DiskBus.VIRTIO:
        for name in _VIRTIO_DRIVER:
            driver.attrib.pop(name, "")
    if bus is DiskBus.VIRTIO:
        element.attrib.pop("rotation_rate", "")
    else:
        disk.attrib.pop("model", "")
    gone = _NOT_ON_VIRTIO if bus is DiskBus.VIRTIO else _SCSI_ONLY
    if bus.libvirt_bus != "scsi":
        for name in gone:
            for child in disk.findall(name):
                disk.remove(child)


def _order(domain: etree._Element) -> list[etree._Element]:
    """Hard disks in libvirt's order: buses as they first come in the XML, targets by number."""
    disks = devices(domain).findall("disk")
    buses = list(dict.fromkeys(libvirt_bus(disk) for disk in disks))
    ordered = sorted(disks, key=lambda d: (buses.index(libvirt_bus(d)), target_index(target(d))))
    return [disk for disk in ordered if disk.get("device", "disk") == "disk"]


def _boots_first(domain: etree._Element, disk: etree._Element) -> bool:
    """Whether ``<os><boot dev='hd'/>`` means this disk; it means the first one."""
    if domain.find("os/boot[@dev='hd']") is None:
        return False
    order = _order(domain)
    return bool(order) and order[0] is disk


def _boot_by_device(domain: etree._Element, disk: etree._Element) -> None:
    """Say by ``<boot order>`` of devices what ``<os><boot>`` said; libvirt refuses both."""
    meant = {
        "hd": disk,
        "cdrom": devices(domain).find("disk[@device='cdrom']"),
        "fd": devices(domain).find("disk[@device='floppy']"),
        "network": devices(domain).find("interface"),
    }
    order = 1
    for boot in domain.findall("os/boot"):
        device = meant.get(boot.get("dev", ""))
        if device is not None:
            etree.SubElement(device, "boot", order=str(order))
            order += 1
        parent = boot.getparent()
        assert parent is not None  # found below <os>
        parent.remove(boot)

"""What libvirt's own elements cannot say of a guest: NVMe disks, and virtio of the old interface alone.

Both go by its passages for QEMU (``<qemu:commandline>``, ``<qemu:override>``). Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lxml import etree

from virtproof.spec import CacheMode, DiskBus, GuestSpec, VirtioMode

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
ROOT_SERIAL = "root"
LEGACY = (
    "ua-legacy-"  # how the aliases of such devices begin; libvirt wants ua- before a user's own
)
NVME_SLOT = 0x18  # on the first PCI bus: libvirt gives out slots from the lowest on


@dataclass(frozen=True, slots=True)
class Ring:
    """How virtio devices speak to their drivers: the interface (None: QEMU's choice), packed rings."""

    virtio: VirtioMode | None = None
    packed: bool = False

    def give(self, element: etree._Element, name: str) -> None:
        """Have it of a ``<disk>``, ``<interface>`` or ``<controller>`` on virtio, ``name`` being unique."""
        if self.virtio is VirtioMode.LEGACY:
            etree.SubElement(element, "alias", name=f"{LEGACY}{name}")
        elif self.virtio is not None:
            model = element.find("model")
            where, key = (element, "model") if model is None else (model, "type")
            where.set(key, f"virtio{self.virtio.suffix}")
        if self.packed:
            driver_of(element).set("packed", "on")


def driver_of(element: etree._Element) -> etree._Element:
    """The ``<driver>`` of a device, made where it has none."""
    driver = element.find("driver")
    return etree.SubElement(element, "driver") if driver is None else driver


def with_ring(xml: str, ring: Ring) -> str:
    """The domain with all its virtio disks, SCSI controllers and NICs so, whatever they were before."""
    domain = etree.fromstring(xml)
    for element in domain.findall("devices/*"):
        for alias in element.findall("alias"):
            if alias.get("name", "").startswith(LEGACY):
                element.remove(alias)
                element.text = element.text if len(element) else None
        name = _of_virtio(element)
        if not name:
            continue
        driver = element.find("driver")
        if driver is not None:
            driver.attrib.pop("packed", "")
        _plain_model(element)
        ring.give(element, name)
    make_legacy(domain)
    etree.indent(domain, space="  ")
    return etree.tostring(domain, encoding="unicode") + "\n"


def _of_virtio(element: etree._Element) -> str:
    """A name of its own for a device on virtio; empty for another."""
    target, model = element.find("target"), element.find("model")
    if element.tag == "disk" and target is not None and target.get("bus") == "virtio":
        return str(element.findtext("serial") or target.get("dev", ""))
    kind = element.get("model", "") if model is None else model.get("type", "")
    if element.tag == "controller" and element.get("type") == "scsi" and kind.startswith("virtio"):
        return f"scsi{element.get('index', '0')}"
    mac = element.find("mac")
    if element.tag == "interface" and mac is not None and kind.startswith("virtio"):
        return f"nic-{mac.get('address', '').replace(':', '')}"
    return ""


def _plain_model(element: etree._Element) -> None:
    """Let QEMU choose the interface again."""
    if element.tag == "disk":
        element.attrib.pop("model", "")
    elif element.tag == "controller":
        element.set("model", "virtio-scsi")
    else:
        element.find("model").set("type", "virtio")  # type: ignore[union-attr]  # it was found by it


def make_legacy(domain: etree._Element) -> None:
    """Turn the interface of virtio 1.0 off in the devices whose alias says so, and in no others.

    What stood there before goes, since QEMU refuses a property of a device that is not virtio.
    """
    for old in domain.findall(f"{{{QEMU}}}override"):
        domain.remove(old)
    aliases = [str(a.get("name")) for a in domain.findall("devices//alias")]
    found = [name for name in aliases if name.startswith(LEGACY)]
    if not found:
        return
    override = etree.SubElement(domain, f"{{{QEMU}}}override", nsmap={"qemu": QEMU})
    for alias in found:
        device = etree.SubElement(override, f"{{{QEMU}}}device", alias=alias)
        frontend = etree.SubElement(device, f"{{{QEMU}}}frontend")
        for name, kind, value in (
            ("disable-modern", "bool", "true"),
            ("disable-legacy", "string", "off"),
        ):
            made = {"name": name, "type": kind, "value": value}
            etree.SubElement(frontend, f"{{{QEMU}}}property", made)


def add_nvme(domain: etree._Element, spec: GuestSpec, paths: tuple[str, ...]) -> None:
    """The spec's NVMe disks, on a controller each; ``paths`` are of all its disks, the root's first."""
    disks = [(ROOT_SERIAL, "qcow2", CacheMode.UNSAFE)]
    disks += [(disk.serial, "raw", disk.cache) for disk in spec.data_disks]
    given = [
        (place, path, disk)
        for place, (bus, path, disk) in enumerate(zip(spec.buses, paths, disks, strict=True))
        if bus is DiskBus.NVME
    ]
    if not given:
        return
    line = etree.SubElement(domain, f"{{{QEMU}}}commandline", nsmap={"qemu": QEMU})
    for place, path, (serial, kind, cache) in given:
        node = f"nvme-{serial}"
        device: dict[str, Any] = {"driver": "nvme", "id": node, "serial": serial, "drive": node}
        device["addr"] = hex(NVME_SLOT + place)
        if place == 0:
            device["bootindex"] = 0  # before the disk that libvirt would boot by itself
        backend = blockdev(node, path, kind, cache)
        for option, value in (("-blockdev", backend), ("-device", device)):
            for word in (option, json.dumps(value)):
                etree.SubElement(line, f"{{{QEMU}}}arg", value=word)


def blockdev(node: str, path: str, kind: str, cache: CacheMode) -> dict[str, Any]:
    """QEMU's block node ``node`` of a file (``kind`` qcow2 or raw), whose discards reach the host."""
    how = {
        "direct": cache in (CacheMode.NONE, CacheMode.DIRECTSYNC),
        "no-flush": cache is CacheMode.UNSAFE,
    }
    file = {"driver": "file", "filename": path, "discard": "unmap", "cache": how}
    return {"driver": kind, "node-name": node, "discard": "unmap", "cache": how, "file": file}

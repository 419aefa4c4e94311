"""libvirt's XML of a storage volume. Pure."""

from __future__ import annotations

from lxml import etree


def volume_xml(name: str, kind: str, size: int, backing: str = "") -> str:
    """A volume of ``size`` bytes in format ``kind``, over a qcow2 backing volume where one is given."""
    volume = etree.Element("volume")
    etree.SubElement(volume, "name").text = name
    etree.SubElement(volume, "capacity", unit="bytes").text = str(size)
    etree.SubElement(volume, "allocation", unit="bytes").text = "0"
    target = etree.SubElement(volume, "target")
    etree.SubElement(target, "format", type=kind)
    if backing:
        store = etree.SubElement(volume, "backingStore")
        etree.SubElement(store, "path").text = backing
        etree.SubElement(store, "format", type="qcow2")
    return etree.tostring(volume, encoding="unicode")

"""What a Windows wants of a domain that a Linux guest does not. Pure, on the domain's XML."""

from __future__ import annotations

from lxml import etree

from virtproof.guest.device_xml import add_text, data_disk, text
from virtproof.spec import Accel, DataDisk, DiskBus

CD = "virtproofcd"  # its serial
DUMMY_CONTROLLER = "7"  # of virtio-scsi; a root disk is on the first


def for_windows(xml: str, accel: Accel, cd_bus: str = "ide") -> str:
    """The domain with devices that tell of a stop, an empty CD-ROM, and a processor that Windows starts on.

    The stop's code comes by Hyper-V's crash registers, which QEMU has under KVM alone; the pvpanic device,
    whose driver is on virtio-win's medium, tells that there was one.
    """
    domain = etree.fromstring(xml)
    devices = domain.find("devices")
    features = domain.find("features")
    assert devices is not None
    assert features is not None  # domain_xml made both
    if accel is Accel.KVM:
        hyperv = etree.SubElement(features, "hyperv", mode="custom")
        for name in ("relaxed", "vapic"):
            etree.SubElement(hyperv, name, state="on")
        etree.SubElement(hyperv, "spinlocks", state="on", retries="8191")
        etree.SubElement(devices, "panic", model="hyperv")
    else:
        # It wants cmpxchg16b, which Linux guests under emulation go without.
        cpu = domain.find("cpu")
        if cpu is not None:
            domain.remove(cpu)
        etree.SubElement(domain, "cpu", mode="maximum")
    etree.SubElement(devices, "panic", model="isa")
    cd = etree.SubElement(devices, "disk", type="file", device="cdrom")
    etree.SubElement(cd, "target", dev="hdd" if cd_bus == "ide" else "sdd", bus=cd_bus)
    etree.SubElement(cd, "readonly")
    add_text(cd, "serial", CD)
    etree.indent(domain, space="  ")
    return etree.tostring(domain, encoding="unicode") + "\n"


def with_medium(xml: str, path: str) -> tuple[str, str]:
    """The domain with that ISO in its CD-ROM, and the CD-ROM alone, for a machine that runs."""
    domain = etree.fromstring(xml)
    (cd,) = (one for one in domain.findall("devices/disk") if one.findtext("serial") == CD)
    for source in cd.findall("source"):
        cd.remove(source)
    etree.SubElement(cd, "source", file=path)
    etree.indent(domain, space="  ")
    return etree.tostring(domain, encoding="unicode") + "\n", text(cd)


def dummy(bus: DiskBus, serial: str, size_mib: int, path: str) -> list[str]:
    """The devices that make a disk of that kind, in the order in which they are plugged in."""
    disk = DataDisk(bus, serial, size_mib)
    if bus is not DiskBus.VIRTIO_SCSI:
        return [text(data_disk(disk, path, "vdz"))]
    controller = etree.Element(
        "controller", type="scsi", index=DUMMY_CONTROLLER, model="virtio-scsi"
    )
    return [text(controller), text(data_disk(disk, path, "sdz", (int(DUMMY_CONTROLLER), 0)))]


def with_devices(xml: str, devices: list[str]) -> str:
    """The domain with further devices."""
    domain = etree.fromstring(xml)
    there = domain.find("devices")
    assert there is not None
    there.extend(etree.fromstring(one) for one in devices)
    etree.indent(domain, space="  ")
    return etree.tostring(domain, encoding="unicode") + "\n"

"""GuestSpec -> libvirt domain XML. Pure; names are libvirt's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from virtproof.guest import qemu_xml
from virtproof.guest.device_xml import add_disks, add_text, data_disk, interface, text
from virtproof.guest.qemu_xml import ROOT_SERIAL, Ring, driver_of
from virtproof.spec import Accel, Firmware, GuestSpec, NicModel

__all__ = [
    "METADATA",
    "ROOT_SERIAL",
    "Resources",
    "Ring",
    "data_disk",
    "disk_files",
    "domain_xml",
    "interface",
    "mark",
    "restored_xml",
    "text",
]

# Marks a domain as ours, so that a sweep of a user's own libvirt touches nothing else.
METADATA = "urn:virtproof:guest"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a spec is given when it becomes a domain: names, paths as QEMU sees them, addresses.

    ``data`` holds one path per ``spec.data_disks``, in that order. ``agent_socket`` is the second
    serial port's UNIX socket; without one it is a pty, which QEMU finds connected only after a second.
    ``isolated``: the spec wants it, and the network can do it.
    ``mark`` is what the metadata says of the run whose guest this is.
    """

    name: str
    uuid: str
    mac: str
    network: str
    root: str
    data: tuple[str, ...] = ()
    agent_socket: str = ""
    isolated: bool = True
    mark: Mapping[str, str] = field(default_factory=dict)


def domain_xml(spec: GuestSpec, resources: Resources) -> str:
    """The domain of a guest: disk and NIC as specified, two ISA serial ports, a display.

    Serial port 0 is the console (firmware and boot loader write to it too), port 1 the control channel;
    neither needs virtio. No memory balloon: a guest of emulated devices shall hold no virtio device.
    """
    domain = etree.Element("domain", type="kvm" if spec.accel is Accel.KVM else "qemu")
    add_text(domain, "name", resources.name)
    add_text(domain, "uuid", resources.uuid)
    # Tells a restored guest that it is a copy, so that its kernel seeds its random numbers anew.
    etree.SubElement(domain, "genid")
    metadata = etree.SubElement(domain, "metadata")
    guest = etree.SubElement(metadata, f"{{{METADATA}}}guest", nsmap={"virtproof": METADATA})
    guest.text = spec.id
    for name, value in resources.mark.items():
        guest.set(name, value)
    add_text(domain, "memory", str(spec.memory_mib), unit="MiB")
    add_text(domain, "vcpu", str(spec.cpus))
    if any(disk.iothread for disk in spec.data_disks):
        add_text(domain, "iothreads", "1")
    _firmware(domain, spec)
    features = etree.SubElement(domain, "features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    _cpu(domain, spec)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "preserve")):
        add_text(domain, f"on_{event}", action)
    devices = etree.SubElement(domain, "devices")
    if spec.emulator:
        add_text(devices, "emulator", spec.emulator)
    add_disks(devices, spec, resources.root, resources.data)
    if spec.nic is not None:
        devices.append(_nic(spec.nic, resources, spec))
    _serial_ports(devices, resources)
    video = etree.SubElement(devices, "video")
    etree.SubElement(video, "model", type="vga")
    etree.SubElement(devices, "memballoon", model="none")
    qemu_xml.add_nvme(domain, spec, (resources.root, *resources.data))
    qemu_xml.make_legacy(domain)
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def _serial_ports(devices: etree._Element, resources: Resources) -> None:
    for port, path in (("0", ""), ("1", resources.agent_socket)):
        serial = etree.SubElement(devices, "serial", type="unix" if path else "pty")
        if path:
            etree.SubElement(serial, "source", mode="bind", path=path)
        etree.SubElement(serial, "target", type="isa-serial", port=port)
    console = etree.SubElement(devices, "console", type="pty")
    etree.SubElement(console, "target", type="serial", port="0")


def restored_xml(
    saved: str, spec: GuestSpec, resources: Resources, nic_address: str = ""
) -> tuple[str, str]:
    """The domain of a saved guest as another guest's: (domain without NIC, its NIC) XML.

    The saved one was stripped of its NIC, which stood at ``nic_address`` (an ``<address>`` element).
    """
    domain = etree.fromstring(saved)
    for tag, value in (("name", resources.name), ("uuid", resources.uuid)):
        domain.find(tag).text = value  # type: ignore[union-attr]  # libvirt's own XML has both
    domain.find("genid").text = resources.uuid  # type: ignore[union-attr]  # as ours has
    paths = {ROOT_SERIAL: resources.root}
    paths.update(
        {disk.serial: path for disk, path in zip(spec.data_disks, resources.data, strict=True)}
    )
    for element in domain.findall("devices/disk"):
        element.find("source").set("file", paths[element.findtext("serial", "")])  # type: ignore[union-attr]
        for stale in element.findall("backingStore"):
            element.remove(stale)
    for source in domain.findall("devices/serial[@type='unix']/source"):
        source.set("path", resources.agent_socket)
    if spec.nic is None:
        return etree.tostring(domain, encoding="unicode"), ""
    nic = _nic(spec.nic, resources, spec)
    nic.append(etree.fromstring(nic_address))
    return etree.tostring(domain, encoding="unicode"), text(nic)


def _nic(nic: NicModel, resources: Resources, spec: GuestSpec) -> etree._Element:
    ring = Ring(spec.virtio, spec.packed)
    element = interface(
        nic, resources.mac, resources.network, isolated=resources.isolated, ring=ring
    )
    if spec.nic_queues > 1:
        # By QEMU itself: with vhost, the processor time would be a kernel thread's.
        driver = driver_of(element)
        driver.set("name", "qemu")
        driver.set("queues", str(spec.nic_queues))
    if spec.nic_bytes_per_s:
        bandwidth = etree.SubElement(element, "bandwidth")
        etree.SubElement(bandwidth, "inbound", average=str(spec.nic_bytes_per_s // 1000))
    return element


def mark(metadata: str) -> dict[str, str]:
    """Attributes of our element in a domain's metadata, as ``Resources.mark`` had them."""
    return {str(name): str(value) for name, value in etree.fromstring(metadata).attrib.items()}


def disk_files(domain: str) -> tuple[str, ...]:
    """Paths of a domain's disks."""
    sources = etree.fromstring(domain).findall("devices/disk/source")
    return tuple(str(source.get("file")) for source in sources if source.get("file"))


def _firmware(domain: etree._Element, spec: GuestSpec) -> None:
    attributes = {"firmware": "efi"} if spec.firmware is Firmware.UEFI else {}
    system = etree.SubElement(domain, "os", attributes)
    add_text(system, "type", "hvm", arch="x86_64", machine=spec.machine.value)
    if spec.firmware is Firmware.BIOS:
        etree.SubElement(system, "bios", useserial="yes")
    else:
        # Else libvirt may take the first firmware of all, which loads nothing that is not signed.
        wants = etree.SubElement(system, "firmware")
        for name in ("enrolled-keys", "secure-boot"):
            etree.SubElement(wants, "feature", enabled="no", name=name)
    for name in ("kernel", "initrd", "cmdline"):
        if value := getattr(spec, name):
            add_text(system, name, value)


def _cpu(domain: etree._Element, spec: GuestSpec) -> None:
    """Virtualisation only where it is wanted: it makes a guest load kvm_amd or kvm_intel."""
    lacks = [] if spec.nested else ["svm"]
    if spec.accel is Accel.KVM:
        cpu = etree.SubElement(domain, "cpu", mode="host-passthrough")
        lacks += [] if spec.nested else ["vmx"]
    elif spec.nested:
        # All that emulation has: SVM with nested paging, where qemu64 has SVM without.
        cpu = etree.SubElement(domain, "cpu", mode="maximum")
    else:
        cpu = etree.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        etree.SubElement(cpu, "model", fallback="forbid").text = "qemu64"
    if spec.accel is Accel.TCG:
        # QEMU 7.2 was seen to crash or hang guests on its emulated cmpxchg16b; without it, none did.
        lacks.insert(0, "cx16")
    if spec.accel is Accel.TCG and spec.nested:
        # Less for emulated nested paging to do. No cure: level 2 was seen to hang with and without.
        lacks += ["la57", "pku"]
    for feature in lacks:
        etree.SubElement(cpu, "feature", policy="disable", name=feature)

"""GuestSpec -> libvirt domain XML. Pure; names are libvirt's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from virtproof.spec import Accel, CacheMode, DataDisk, DiskBus, Firmware, GuestSpec, NicModel

# Marks a domain as ours, so that a sweep of a user's own libvirt touches nothing else.
METADATA = "urn:virtproof:guest"
ROOT_SERIAL = "root"


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
    _text(domain, "name", resources.name)
    _text(domain, "uuid", resources.uuid)
    # Tells a restored guest that it is a copy, so that its kernel seeds its random numbers anew.
    etree.SubElement(domain, "genid")
    metadata = etree.SubElement(domain, "metadata")
    guest = etree.SubElement(metadata, f"{{{METADATA}}}guest", nsmap={"virtproof": METADATA})
    guest.text = spec.id
    for name, value in resources.mark.items():
        guest.set(name, value)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(spec.cpus))
    if any(disk.iothread for disk in spec.data_disks):
        _text(domain, "iothreads", "1")
    _firmware(domain, spec)
    features = etree.SubElement(domain, "features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    _cpu(domain, spec)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "preserve")):
        _text(domain, f"on_{event}", action)
    devices = etree.SubElement(domain, "devices")
    if spec.emulator:
        _text(devices, "emulator", spec.emulator)
    _disks(devices, spec, resources)
    if spec.nic is not None:
        devices.append(_nic(spec.nic, resources, spec.nic_queues))
    _serial_ports(devices, resources)
    video = etree.SubElement(devices, "video")
    etree.SubElement(video, "model", type="vga")
    etree.SubElement(devices, "memballoon", model="none")
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
    nic = _nic(spec.nic, resources, spec.nic_queues)
    nic.append(etree.fromstring(nic_address))
    return etree.tostring(domain, encoding="unicode"), text(nic)


def interface(
    nic: NicModel, mac: str, network: str, mtu: int | None = None, *, isolated: bool = True
) -> etree._Element:
    """``<interface>`` on a libvirt network; no option ROM, since no guest here boots from the network.

    ``isolated``: its port of the bridge reaches the bridge itself, and no other port that is isolated.
    """
    element = etree.Element("interface", type="network")
    etree.SubElement(element, "mac", address=mac)
    etree.SubElement(element, "source", network=network)
    if isolated:
        etree.SubElement(element, "port", isolated="yes")
    etree.SubElement(element, "model", type=nic.value)
    if mtu is not None:
        etree.SubElement(element, "mtu", size=str(mtu))
    etree.SubElement(element, "rom", enabled="no")
    return element


def _nic(nic: NicModel, resources: Resources, queues: int) -> etree._Element:
    element = interface(nic, resources.mac, resources.network, isolated=resources.isolated)
    if queues > 1:
        # By QEMU itself: with vhost, the processor time would be a kernel thread's.
        driver = etree.Element("driver", name="qemu", queues=str(queues))
        element.find("model").addnext(driver)  # type: ignore[union-attr]  # it has one
    return element


def root_disk(path: str, target: str, bus: DiskBus, at: tuple[int, int] = (0, 0)) -> etree._Element:
    """``<disk>`` of the root's overlay, which the guest boots from.

    It goes with its guest: what the guest flushes reaches the host's kernel (so a power cut takes none of
    it), but the host need not put it on its disk at once.
    """
    element = _disk(path, ("qcow2", CacheMode.UNSAFE), target, bus, ROOT_SERIAL, at)
    etree.SubElement(element, "boot", order="1")
    return element


def _disk(
    path: str,
    kept: tuple[str, CacheMode],
    target: str,
    bus: DiskBus,
    serial: str,
    at: tuple[int, int],
) -> etree._Element:
    """``<disk>`` of a file whose discards reach the host; ``kept`` is its format and cache mode.

    ``at`` is the SCSI controller's index and the unit on it, used for the SCSI buses alone.
    """
    kind, cache = kept
    element = etree.Element("disk", type="file", device="disk")
    etree.SubElement(element, "driver", name="qemu", type=kind, cache=cache, discard="unmap")
    etree.SubElement(element, "source", file=path)
    etree.SubElement(element, "target", dev=target, bus=bus.libvirt_bus)
    _text(element, "serial", serial)
    if bus.controller_model is not None:
        controller, unit = map(str, at)
        where = {"controller": controller, "bus": "0", "target": "0", "unit": unit}
        etree.SubElement(element, "address", {"type": "drive", **where})
    return element


def data_disk(
    data: DataDisk, path: str, target: str, at: tuple[int, int] = (0, 0)
) -> etree._Element:
    """``<disk>`` of a data disk."""
    element = _disk(path, ("raw", data.cache), target, data.bus, data.serial, at)
    if data.io is not None:
        element.find("driver").set("io", data.io.value)  # type: ignore[union-attr]  # it has one
    if data.bus is DiskBus.VIRTIO:  # of virtio-scsi, the controller has them
        _own_threads(element.find("driver"), data)
    if data.bytes_per_s:
        limit = etree.SubElement(element, "iotune")
        _text(limit, "total_bytes_sec", str(data.bytes_per_s))
    if data.readonly:
        etree.SubElement(element, "readonly")
    return element


def _own_threads(driver: etree._Element | None, disk: DataDisk) -> None:
    """Queues and I/O thread, where they are wanted."""
    assert driver is not None
    if disk.queues:
        driver.set("queues", str(disk.queues))
    if disk.iothread:
        driver.set("iothread", "1")


def mark(metadata: str) -> dict[str, str]:
    """Attributes of our element in a domain's metadata, as ``Resources.mark`` had them."""
    return {str(name): str(value) for name, value in etree.fromstring(metadata).attrib.items()}


def disk_files(domain: str) -> tuple[str, ...]:
    """Paths of a domain's disks."""
    sources = etree.fromstring(domain).findall("devices/disk/source")
    return tuple(str(source.get("file")) for source in sources if source.get("file"))


def text(element: etree._Element) -> str:
    """An element as libvirt takes it."""
    return etree.tostring(element, pretty_print=True, encoding="unicode")


def _disks(devices: etree._Element, spec: GuestSpec, resources: Resources) -> None:
    names = _Names()
    buses = [spec.disk, *(data.bus for data in spec.data_disks)]
    controllers = list(dict.fromkeys(bus for bus in buses if bus.controller_model))
    units = dict.fromkeys(controllers, 0)

    def place(bus: DiskBus) -> tuple[int, int]:
        if bus not in units:
            return 0, 0
        units[bus] += 1
        return controllers.index(bus), units[bus] - 1

    target = names.next(spec.disk)
    devices.append(root_disk(resources.root, target, spec.disk, place(spec.disk)))
    for data, path in zip(spec.data_disks, resources.data, strict=True):
        devices.append(data_disk(data, path, names.next(data.bus), place(data.bus)))
    for index, bus in enumerate(controllers):
        model = str(bus.controller_model)
        element = etree.SubElement(
            devices, "controller", type="scsi", index=str(index), model=model
        )
        for data in spec.data_disks:
            if data.bus is bus and (data.queues or data.iothread):
                driver = element.find("driver")
                _own_threads(
                    etree.SubElement(element, "driver") if driver is None else driver, data
                )
    etree.SubElement(devices, "controller", type="usb", model="none")


class _Names:
    """Target names in the order of use: hda, sda, sdb, vda ..."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def next(self, bus: DiskBus) -> str:
        count = self._used.get(bus.target_prefix, 0)
        self._used[bus.target_prefix] = count + 1
        return f"{bus.target_prefix}{chr(ord('a') + count)}"


def _firmware(domain: etree._Element, spec: GuestSpec) -> None:
    attributes = {"firmware": "efi"} if spec.firmware is Firmware.UEFI else {}
    system = etree.SubElement(domain, "os", attributes)
    _text(system, "type", "hvm", arch="x86_64", machine=spec.machine.value)
    if spec.firmware is Firmware.BIOS:
        etree.SubElement(system, "bios", useserial="yes")
    for name in ("kernel", "initrd", "cmdline"):
        if value := getattr(spec, name):
            _text(system, name, value)


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


def _text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text

"""Single devices of a domain as libvirt's XML, to be in it from the start or to be plugged in. Pure."""

from __future__ import annotations

from lxml import etree

from virtproof.guest.qemu_xml import ROOT_SERIAL, Ring, driver_of
from virtproof.spec import CacheMode, DataDisk, DiskBus, GuestSpec, NicModel

PLAIN = Ring()


def interface(
    nic: NicModel,
    mac: str,
    network: str,
    mtu: int | None = None,
    *,
    isolated: bool = True,
    ring: Ring = PLAIN,
) -> etree._Element:
    """``<interface>`` on a libvirt network; no option ROM, since no guest here boots from the network.

    ``isolated``: its port of the bridge reaches the bridge itself, and no other port that is isolated.
    ``ring`` is of virtio's alone.
    """
    element = etree.Element("interface", type="network")
    etree.SubElement(element, "mac", address=mac)
    etree.SubElement(element, "source", network=network)
    if isolated:
        etree.SubElement(element, "port", isolated="yes")
    etree.SubElement(element, "model", type=nic.value)
    if nic is NicModel.VIRTIO:
        ring.give(element, f"nic-{mac.replace(':', '')}")
    if mtu is not None:
        etree.SubElement(element, "mtu", size=str(mtu))
    etree.SubElement(element, "rom", enabled="no")
    return element


def root_disk(
    path: str, target: str, spec: GuestSpec, at: tuple[int, int] = (0, 0)
) -> etree._Element:
    """``<disk>`` of the root's overlay, which the guest boots from.

    It goes with its guest: what the guest flushes reaches the host's kernel (so a power cut takes none of
    it), but the host need not put it on its disk at once.
    """
    element = _disk(path, ("qcow2", CacheMode.UNSAFE), target, spec.disk, ROOT_SERIAL, at)
    etree.SubElement(element, "boot", order="1")
    if spec.disk is DiskBus.VIRTIO:
        Ring(spec.virtio, spec.packed).give(element, ROOT_SERIAL)
        _own_threads(element, spec.queues)
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
    add_text(element, "serial", serial)
    if bus.controller_model is not None:
        controller, unit = map(str, at)
        where = {"controller": controller, "bus": "0", "target": "0", "unit": unit}
        etree.SubElement(element, "address", {"type": "drive", **where})
    return element


def data_disk(
    data: DataDisk, path: str, target: str, at: tuple[int, int] = (0, 0), ring: Ring = PLAIN
) -> etree._Element:
    """``<disk>`` of a data disk; ``ring`` is of virtio's alone (of virtio-scsi, the controller has it)."""
    element = _disk(path, ("raw", data.cache), target, data.bus, data.serial, at)
    if data.io is not None:
        driver_of(element).set("io", data.io.value)
    if data.bus is DiskBus.VIRTIO:  # of virtio-scsi, the controller has them
        ring.give(element, data.serial)
        _own_threads(element, data.queues, data.iothread)
    if data.bytes_per_s:
        limit = etree.SubElement(element, "iotune")
        add_text(limit, "total_bytes_sec", str(data.bytes_per_s))
    if data.readonly:
        etree.SubElement(element, "readonly")
    return element


def _own_threads(element: etree._Element, queues: int, iothread: bool = False) -> None:
    """Queues and I/O thread of a disk or controller, where they are wanted."""
    if queues:
        driver_of(element).set("queues", str(queues))
    if iothread:
        driver_of(element).set("iothread", "1")


def text(element: etree._Element) -> str:
    """An element as libvirt takes it."""
    return etree.tostring(element, pretty_print=True, encoding="unicode")


def add_disks(devices: etree._Element, spec: GuestSpec, root: str, paths: tuple[str, ...]) -> None:
    """The spec's disks and their controllers; ``paths`` are of its data disks. NVMe is not among them."""
    names = _Names()
    buses = [spec.disk, *(data.bus for data in spec.data_disks)]
    controllers = list(dict.fromkeys(bus for bus in buses if bus.controller_model))
    units = dict.fromkeys(controllers, 0)

    def place(bus: DiskBus) -> tuple[int, int]:
        if bus not in units:
            return 0, 0
        units[bus] += 1
        return controllers.index(bus), units[bus] - 1

    ring = Ring(spec.virtio, spec.packed)
    if spec.disk is not DiskBus.NVME:
        target = names.next(spec.disk)
        devices.append(root_disk(root, target, spec, place(spec.disk)))
    for data, path in zip(spec.data_disks, paths, strict=True):
        if data.bus is not DiskBus.NVME:
            target = names.next(data.bus)
            devices.append(data_disk(data, path, target, place(data.bus), ring))
    for index, bus in enumerate(controllers):
        devices.append(_controller(index, bus, spec))
    # xHCI, as the sticks of USB 2 that an older controller would have are slower, and no other.
    model = "qemu-xhci" if DiskBus.USB in spec.buses else "none"
    etree.SubElement(devices, "controller", type="usb", model=model)


def _controller(index: int, bus: DiskBus, spec: GuestSpec) -> etree._Element:
    """``<controller>`` of a SCSI bus; virtio's queues, threads and rings are its own, not its disks'."""
    element = etree.Element(
        "controller", type="scsi", index=str(index), model=str(bus.controller_model)
    )
    if bus is DiskBus.VIRTIO_SCSI:
        Ring(spec.virtio, spec.packed).give(element, f"scsi{index}")
    if bus is spec.disk:
        _own_threads(element, spec.queues)
    for data in spec.data_disks:
        if data.bus is bus:
            _own_threads(element, data.queues, data.iothread)
    return element


class _Names:
    """Target names in the order of use: hda, sda, sdb, vda ..."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def next(self, bus: DiskBus) -> str:
        count = self._used.get(bus.target_prefix, 0)
        self._used[bus.target_prefix] = count + 1
        return f"{bus.target_prefix}{chr(ord('a') + count)}"


def add_text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text

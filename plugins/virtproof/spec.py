"""What a guest is made of: frozen, pure, and refusing what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from virtproof.axes import (
    Accel,
    Axis,
    CacheMode,
    DiskBus,
    Firmware,
    IoMode,
    Machine,
    NicModel,
    VirtioMode,
    readable,
)
from virtproof.errors import UsageError

__all__ = [
    "Accel",
    "Axis",
    "CacheMode",
    "DataDisk",
    "DiskBus",
    "Firmware",
    "GuestSpec",
    "IoMode",
    "Machine",
    "NicModel",
    "VirtioMode",
    "readable",
]


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A second disk, empty when the guest first sees it; found in the guest by its serial.

    ``queues`` (0: QEMU's choice) and ``iothread`` are for virtio and virtio-scsi; ``bytes_per_s`` (0: none)
    is libvirt's ``<iotune>`` over reads and writes together.
    """

    bus: DiskBus
    serial: str
    size_mib: int = 64
    readonly: bool = False
    cache: CacheMode = CacheMode.WRITEBACK
    io: IoMode | None = None  # None: QEMU's choice
    iothread: bool = False
    queues: int = 0
    bytes_per_s: int = 0

    def __post_init__(self) -> None:
        if (self.iothread or self.queues) and not self.bus.is_virtio:
            raise UsageError(
                f"disk {self.serial}: {self.bus} has no queues and no I/O thread of its own",
                hint="they are for virtio and virtio-scsi",
            )
        if self.io is IoMode.NATIVE and self.cache not in (CacheMode.NONE, CacheMode.DIRECTSYNC):
            raise UsageError(
                f"disk {self.serial}: io native does not go with cache {self.cache}",
                hint="cache none or directsync",
            )
        if self.queues < 0 or self.bytes_per_s < 0:
            raise UsageError(f"disk {self.serial}: queues and bytes_per_s are not below 0")
        if self.bus is DiskBus.NVME and (self.readonly or self.bytes_per_s):
            raise UsageError(
                f"disk {self.serial}: one on nvme is neither read-only nor limited",
                hint="QEMU and libvirt have no way; use another bus",
            )
        plain = self.serial.isascii() and self.serial.isalnum()
        if not plain or len(self.serial) > 20:
            raise UsageError(f"disk serial {self.serial!r} is not 1 to 20 letters and digits")
        if self.size_mib < 1:
            raise UsageError(f"disk {self.serial}: size_mib is {self.size_mib}", hint="at least 1")


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A guest, wholly: two guests of one spec differ in nothing but their names.

    Sizes carry their unit in the name. Two guests that are ``isolated`` do not reach each other, but
    both reach the lab; one that is not reaches all others. ``nested``: the guest's processor has
    virtualisation (SVM or VMX), so that it can have KVM of its own; emulated, it is reliable with one
    CPU. ``nic_queues``: pairs of queues. ``nic_bytes_per_s`` (0: none) holds what goes into the guest
    to that, by libvirt's ``<bandwidth>``. ``virtio`` (None: QEMU's default, by the slot) and ``packed``
    rings are of all its virtio devices, ``queues`` (0: QEMU's choice) of its root disk. ``emulator`` is
    a QEMU of one's own; ``kernel``, ``initrd`` and ``cmdline`` are booted in the image's place
    (libvirt's direct kernel boot). What cannot be (IDE on q35) is refused with a hint.
    """

    image: str
    accel: Accel = Accel.TCG
    machine: Machine = Machine.PC
    firmware: Firmware = Firmware.BIOS
    disk: DiskBus = DiskBus.IDE
    nic: NicModel | None = NicModel.RTL8139
    cpus: int = 1
    memory_mib: int = 768
    data_disks: tuple[DataDisk, ...] = ()
    isolated: bool = True
    nested: bool = False
    nic_queues: int = 1
    nic_bytes_per_s: int = 0
    virtio: VirtioMode | None = None
    packed: bool = False
    queues: int = 0
    emulator: str = ""
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""

    def __post_init__(self) -> None:
        self._refuse_machine()
        self._refuse_virtio()
        if self.cpus < 1 or self.memory_mib < 128:
            raise UsageError(
                f"{self.cpus} CPUs and {self.memory_mib} MiB cannot run a guest",
                hint="at least 1 CPU and 128 MiB",
            )
        if self.nic_bytes_per_s and (self.nic_bytes_per_s < 1000 or not self.nic):
            raise UsageError(
                f"nic_bytes_per_s is {self.nic_bytes_per_s} on a NIC of model {self.nic}",
                hint="a NIC, and 1000 at least",
            )
        if (self.initrd or self.cmdline) and not self.kernel:
            raise UsageError("initrd and cmdline are of a kernel", hint="give kernel too")
        serials = [disk.serial for disk in self.data_disks]
        if len(set(serials)) != len(serials):
            raise UsageError(f"two data disks share a serial: {', '.join(sorted(serials))}")

    def _refuse_machine(self) -> None:
        """UsageError for disks and firmware that the machine cannot have."""
        if self.machine is Machine.Q35 and DiskBus.IDE in self.buses:
            raise UsageError(
                "machine q35 has no IDE controller", hint="use machine pc, or bus sata"
            )
        if self.firmware is Firmware.UEFI and self.machine is Machine.PC:
            raise UsageError("uefi is not offered on machine pc", hint="use machine q35")
        if self.firmware is Firmware.UEFI and self.disk is DiskBus.SCSI and not self.kernel:
            raise UsageError(
                "uefi has no driver for the LSI 53C895A of bus scsi",
                hint="use bus sata or virtio",
            )
        if sum(bus is DiskBus.IDE for bus in self.buses) > 3:
            raise UsageError("more than 3 IDE disks", hint="the fourth place is kept for a CD-ROM")

    def _refuse_virtio(self) -> None:
        """UsageError for what is virtio's on a guest, disk or NIC that is not, or on the old interface."""
        if self.nic_queues < 1 or (self.nic_queues > 1 and self.nic is not NicModel.VIRTIO):
            raise UsageError(
                f"a NIC of model {self.nic} cannot have {self.nic_queues} queues",
                hint="more than one is for virtio",
            )
        if self.queues < 0 or (self.queues and not self.disk.is_virtio):
            raise UsageError(
                f"a root disk on {self.disk} cannot have {self.queues} queues",
                hint="they are for virtio and virtio-scsi",
            )
        for name, value in (("virtio mode", self.virtio), ("packed ring", self.packed)):
            if value and not self.has_virtio:
                raise UsageError(
                    f"a {name} on a guest without a virtio device", hint="put disk or NIC on virtio"
                )
        if self.packed and self.virtio is VirtioMode.LEGACY:
            raise UsageError(
                "legacy virtio has no packed rings", hint="virtio transitional or modern"
            )

    @property
    def buses(self) -> tuple[DiskBus, ...]:
        """Of its disks, the root's first."""
        return (self.disk, *(disk.bus for disk in self.data_disks))

    @property
    def has_virtio(self) -> bool:
        """Whether a disk or its NIC is virtio."""
        return self.nic is NicModel.VIRTIO or any(bus.is_virtio for bus in self.buses)

    @property
    def id(self) -> str:
        """Readable id, as in ``debian-12/pc/ide+rtl8139/tcg``, with what is asked of virtio behind the
        devices (``debian-12/q35/virtio+virtio/modern+packed/tcg``).
        """
        return f"{self.image}/{self.axes_id}/{self.accel}"

    @property
    def axes_id(self) -> str:
        """The id without image and accelerator, as ``pc/ide+rtl8139``."""
        devices = (self.machine, self.firmware, self.disk, self.nic)
        return readable(*devices, self.virtio, self.packed, max(self.queues, self.nic_queues))

    def but(self, **changes: Any) -> GuestSpec:
        """The same guest with some fields changed."""
        return replace(self, **changes)

    def switched(self, **changes: Any) -> GuestSpec:
        """The same guest on other devices: what was asked of virtio devices goes with the last of them."""
        disk, nic = changes.get("disk", self.disk), changes.get("nic", self.nic)
        keep: dict[str, Any] = {}
        if nic is not NicModel.VIRTIO:
            keep["nic_queues"] = 1
        if nic is None:
            keep["nic_bytes_per_s"] = 0
        if not disk.is_virtio:
            keep["queues"] = 0
        if not any(bus.is_virtio for bus in (disk, *self.buses[1:])) and nic is not NicModel.VIRTIO:
            keep |= {"virtio": None, "packed": False}
        return replace(self, **keep, **changes)

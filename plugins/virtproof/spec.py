"""What a guest is made of: frozen, pure, and refusing what cannot be."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from virtproof.errors import UsageError


class Axis(StrEnum):
    """An axis of the matrix. ``parse`` names the nearest value for a typo."""

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            return cls(text)
        except ValueError:
            values = [member.value for member in cls]
            near = difflib.get_close_matches(text, values, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(values)}"
            raise UsageError(f"no {cls.__name__} is called {text!r}", hint=hint) from None


class Machine(Axis):
    """QEMU machine type."""

    PC = "pc"
    Q35 = "q35"


class Firmware(Axis):
    """What the machine boots by."""

    BIOS = "bios"
    UEFI = "uefi"


class Accel(Axis):
    """QEMU accelerator; libvirt's domain type is ``kvm`` or ``qemu``."""

    KVM = "kvm"
    TCG = "tcg"


class DiskBus(Axis):
    """How a disk is attached. ``scsi`` is a SCSI controller that is not virtio (LSI 53C895A)."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    VIRTIO = "virtio"
    VIRTIO_SCSI = "virtio-scsi"

    @property
    def libvirt_bus(self) -> str:
        """Value of libvirt's ``<target bus=...>``."""
        return "scsi" if self is DiskBus.VIRTIO_SCSI else self.value

    @property
    def controller_model(self) -> str | None:
        """Model of libvirt's ``<controller type='scsi'>``, for the buses that have one."""
        return {DiskBus.SCSI: "lsilogic", DiskBus.VIRTIO_SCSI: "virtio-scsi"}.get(self)

    @property
    def target_prefix(self) -> str:
        """Prefix of libvirt's ``<target dev=...>`` names."""
        return {DiskBus.IDE: "hd", DiskBus.VIRTIO: "vd"}.get(self, "sd")

    @property
    def is_virtio(self) -> bool:
        return self in (DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI)

    @property
    def drivers(self) -> tuple[str, ...]:
        """Linux drivers, by the name they carry in sysfs, that may drive the controller."""
        return {
            DiskBus.IDE: ("ata_piix",),
            DiskBus.SATA: ("ahci",),
            DiskBus.SCSI: ("sym53c8xx",),
            DiskBus.VIRTIO: ("virtio_blk",),
            DiskBus.VIRTIO_SCSI: ("virtio_scsi",),
        }[self]


class NicModel(Axis):
    """Value of libvirt's ``<interface><model type=...>``."""

    RTL8139 = "rtl8139"
    E1000 = "e1000"
    VIRTIO = "virtio"

    @property
    def drivers(self) -> tuple[str, ...]:
        """Linux drivers, by the name they carry in sysfs, that may drive the card."""
        return {
            NicModel.RTL8139: ("8139cp", "8139too"),
            NicModel.E1000: ("e1000",),
            NicModel.VIRTIO: ("virtio_net",),
        }[self]


class CacheMode(Axis):
    """Value of libvirt's ``<driver cache=...>``: ``none`` and ``directsync`` pass the host's page cache."""

    NONE = "none"
    WRITEBACK = "writeback"
    WRITETHROUGH = "writethrough"
    DIRECTSYNC = "directsync"
    UNSAFE = "unsafe"


class IoMode(Axis):
    """Value of libvirt's ``<driver io=...>``: how QEMU asks the host's kernel."""

    THREADS = "threads"
    NATIVE = "native"
    IO_URING = "io_uring"


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
    virtualisation (SVM or VMX), so that it can have KVM of its own. ``nic_queues``: pairs of queues.
    ``emulator`` is a QEMU of one's own; ``kernel``, ``initrd`` and ``cmdline`` are booted in the image's
    place (libvirt's direct kernel boot). What cannot be (IDE on q35) is refused with a hint.
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
    emulator: str = ""
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""

    def __post_init__(self) -> None:
        buses = {self.disk, *(disk.bus for disk in self.data_disks)}
        if self.machine is Machine.Q35 and DiskBus.IDE in buses:
            raise UsageError(
                "machine q35 has no IDE controller", hint="use machine pc, or bus sata"
            )
        if self.firmware is Firmware.UEFI and self.machine is Machine.PC:
            raise UsageError("uefi is not offered on machine pc", hint="use machine q35")
        ide = [d for d in self.data_disks if d.bus is DiskBus.IDE]
        if len(ide) + (self.disk is DiskBus.IDE) > 3:
            raise UsageError("more than 3 IDE disks", hint="the fourth place is kept for a CD-ROM")
        if self.cpus < 1 or self.memory_mib < 128:
            raise UsageError(
                f"{self.cpus} CPUs and {self.memory_mib} MiB cannot run a guest",
                hint="at least 1 CPU and 128 MiB",
            )
        if self.nic_queues < 1 or (self.nic_queues > 1 and self.nic is not NicModel.VIRTIO):
            raise UsageError(
                f"a NIC of model {self.nic} cannot have {self.nic_queues} queues",
                hint="more than one is for virtio",
            )
        if (self.initrd or self.cmdline) and not self.kernel:
            raise UsageError("initrd and cmdline are of a kernel", hint="give kernel too")
        serials = [disk.serial for disk in self.data_disks]
        if len(set(serials)) != len(serials):
            raise UsageError(f"two data disks share a serial: {', '.join(sorted(serials))}")

    @property
    def id(self) -> str:
        """Readable id, as in ``debian-12/pc/ide+rtl8139/tcg``."""
        nic = self.nic.value if self.nic else "no-nic"
        machine = self.machine.value if self.firmware is Firmware.BIOS else f"{self.machine}-uefi"
        return f"{self.image}/{machine}/{self.disk}+{nic}/{self.accel}"

    def but(self, **changes: Any) -> GuestSpec:
        """The same guest with some fields changed."""
        return replace(self, **changes)

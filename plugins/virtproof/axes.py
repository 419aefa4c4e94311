"""The axes of the matrix: enums whose values are those of libvirt's XML, or as near as can be."""

from __future__ import annotations

import difflib
from enum import StrEnum
from typing import Self

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


class VirtioMode(Axis):
    """What virtio devices offer their drivers: only the old interface, both, or only that of 1.0."""

    LEGACY = "legacy"
    TRANSITIONAL = "transitional"
    MODERN = "modern"

    @property
    def suffix(self) -> str:
        """What libvirt's model names append to ``virtio``; nothing for legacy, which it has no name for."""
        return {self.TRANSITIONAL: "-transitional", self.MODERN: "-non-transitional"}.get(self, "")


class DiskBus(Axis):
    """How a disk is attached. ``scsi`` is a SCSI controller that is not virtio (LSI 53C895A); ``usb`` a
    stick on an xHCI controller; ``nvme`` a controller and namespace of its own, which libvirt 9 has no
    name for.
    """

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    USB = "usb"
    NVME = "nvme"
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
            DiskBus.USB: ("usb-storage",),
            DiskBus.NVME: ("nvme",),
            DiskBus.VIRTIO: ("virtio_blk",),
            DiskBus.VIRTIO_SCSI: ("virtio_scsi",),
        }[self]

    @property
    def modules(self) -> tuple[str, ...]:
        """What a Linux kernel must have, all of it, for a disk on this bus to appear."""
        above = {DiskBus.USB: ("xhci_pci",)}.get(self, ("virtio_pci",) if self.is_virtio else ())
        return (*above, *(driver.replace("-", "_") for driver in self.drivers))


class NicModel(Axis):
    """Value of libvirt's ``<interface><model type=...>``."""

    RTL8139 = "rtl8139"
    E1000 = "e1000"
    E1000E = "e1000e"
    NE2K_PCI = "ne2k_pci"
    PCNET = "pcnet"
    VMXNET3 = "vmxnet3"
    VIRTIO = "virtio"

    @property
    def drivers(self) -> tuple[str, ...]:
        """Linux drivers, by the name they carry in sysfs, that may drive the card."""
        return {
            NicModel.RTL8139: ("8139cp", "8139too"),
            NicModel.E1000: ("e1000",),
            NicModel.E1000E: ("e1000e",),
            NicModel.NE2K_PCI: ("ne2k-pci",),
            NicModel.PCNET: ("pcnet32",),
            NicModel.VMXNET3: ("vmxnet3",),
            NicModel.VIRTIO: ("virtio_net",),
        }[self]

    @property
    def modules(self) -> tuple[str, ...]:
        """What a Linux kernel must have, all of it, for the card to work.

        Of RTL8139 that is 8139cp: 8139too loads, and declines QEMU's revision of the card.
        """
        above = ("virtio_pci",) if self is NicModel.VIRTIO else ()
        return (*above, self.drivers[0].replace("-", "_"))


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


def readable(
    machine: Machine,
    firmware: Firmware,
    disk: DiskBus,
    nic: NicModel | None,
    virtio: VirtioMode | None = None,
    packed: bool = False,
    queues: int = 0,
) -> str:
    """Machine and devices in an id: ``pc/ide+rtl8139``, ``q35-uefi/virtio+virtio/modern+packed``."""
    where = machine.value if firmware is Firmware.BIOS else f"{machine}-{firmware}"
    wants = [virtio.value] if virtio else []
    wants += ["packed"] if packed else []
    wants += [f"{queues}-queues"] if queues > 1 else []
    return "/".join([where, f"{disk}+{nic or 'no-nic'}", *filter(None, ["+".join(wants)])])

"""Cells of the matrix. Each has a readable ``id`` and the name of its check, a path as ``nic/e1000e``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from virtproof.spec import DiskBus, Firmware, GuestSpec, Machine, NicModel, VirtioMode


class Cell(Protocol):
    """What all cells have. ``axes``: what a run chooses by, and the marks of a test (``-m``) are made of."""

    @property
    def id(self) -> str: ...

    @property
    def axes(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RootCell:
    """A guest that is to boot: root disk and NIC on a machine. UsageError where it cannot be."""

    machine: Machine = Machine.PC
    firmware: Firmware = Firmware.BIOS
    disk: DiskBus = DiskBus.IDE
    nic: NicModel = NicModel.RTL8139
    virtio: VirtioMode | None = None
    packed: bool = False
    queues: int = 0

    def __post_init__(self) -> None:
        self.spec("any")

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of GuestSpec."""
        plain = {name: getattr(self, name) for name in ("machine", "firmware", "disk", "nic")}
        found = {**plain, "virtio": self.virtio, "packed": self.packed}
        if self.queues > 1:
            found["cpus"] = self.queues  # a NIC uses no more queues than there are processors
            found["queues"] = self.queues if self.disk.is_virtio else 0
            found["nic_queues"] = self.queues if self.nic is NicModel.VIRTIO else 1
        return found

    def spec(self, image: str) -> GuestSpec:
        return GuestSpec(image, **self.fields)

    @property
    def id(self) -> str:
        return self.spec("any").axes_id

    @property
    def check(self) -> str:
        return f"boot/{self.id}"

    @property
    def axes(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def modules(self) -> tuple[str, ...]:
        """What the kernel must have for it."""
        return tuple(dict.fromkeys((*self.disk.modules, *self.nic.modules)))


@dataclass(frozen=True, slots=True)
class DeviceCell:
    """A disk or a NIC that a running guest is given; ``virtio`` None: QEMU's default, or no virtio."""

    device: DiskBus | NicModel
    virtio: VirtioMode | None = None
    packed: bool = False
    # Told apart by it: as values of axes, a disk on virtio and a NIC on virtio are equal.
    is_disk: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_disk", isinstance(self.device, DiskBus))

    @property
    def id(self) -> str:
        kind = "disk" if self.is_disk else "nic"
        wants = [self.virtio.value] if self.virtio else []
        wants += ["packed"] if self.packed else []
        return "/".join([kind, self.device.value, *filter(None, ["+".join(wants)])])

    @property
    def check(self) -> str:
        return self.id

    @property
    def axes(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"disk" if self.is_disk else "nic": self.device}
        if self.device.value.startswith("virtio"):
            found |= {"virtio": self.virtio, "packed": self.packed}
        return found

    @property
    def modules(self) -> tuple[str, ...]:
        """What the kernel must have for it."""
        return self.device.modules


@dataclass(frozen=True, slots=True)
class SwitchCell:
    """An installed system whose root disk moves to virtio."""

    source: DiskBus
    target: DiskBus = DiskBus.VIRTIO

    @property
    def id(self) -> str:
        return f"root/{self.source}-to-{self.target}"

    @property
    def check(self) -> str:
        return self.id

    @property
    def axes(self) -> Mapping[str, Any]:
        return {"disk": self.target, "virtio": None, "packed": False}

    @property
    def modules(self) -> tuple[str, ...]:
        """What the kernel must have for it."""
        return self.target.modules


def device_cells() -> list[DeviceCell]:
    """Every NIC and disk, and virtio's in each mode and with packed rings."""
    plain = [DeviceCell(device) for device in (*NicModel, *DiskBus)]
    kinds = [(mode, False) for mode in VirtioMode] + [(None, True)]
    virtio = (NicModel.VIRTIO, DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI)
    return plain + [DeviceCell(device, *kind) for device in virtio for kind in kinds]

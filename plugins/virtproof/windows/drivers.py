"""The drivers of virtio-win as data: folders, hardware ids, services, and where each is to be found."""

from __future__ import annotations

from dataclasses import dataclass

from virtproof.windows.platform import Arch, Windows

_VIRTIO = 0x1AF4


@dataclass(frozen=True, slots=True)
class Device:
    """A device as QEMU shows it, by all ids that Windows makes of it, the most specific first."""

    name: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver. ``devices`` are to be taken all; of ``either``, one is enough."""

    folder: str
    inf: str
    service: str
    devices: tuple[Device, ...] = ()
    either: tuple[Device, ...] = ()
    lacks: tuple[Arch, ...] = ()  # architectures that it is not built for
    recent: bool = False  # media of before 2024 may not have it

    def expected(self, windows: Windows, arch: Arch) -> bool:
        """Whether a medium that has this Windows at all has the driver for it; of 10.0 and later."""
        return windows.major >= 10 and arch not in self.lacks


def _pci(name: str, vendor: int, device: int, subsystem: str, revision: int) -> Device:
    stem = f"PCI\\VEN_{vendor:04X}&DEV_{device:04X}"
    ids = (
        f"{stem}&SUBSYS_{subsystem}&REV_{revision:02X}",
        f"{stem}&SUBSYS_{subsystem}",
        f"{stem}&REV_{revision:02X}",
        stem,
    )
    return Device(name, ids)


def _modern(virtio_type: int) -> Device:
    return _pci("modern", _VIRTIO, 0x1040 + virtio_type, "11001AF4", 1)


def _both(transitional: int, virtio_type: int) -> tuple[Device, Device]:
    """A device's two faces; the transitional one has the virtio type in its subsystem's id."""
    old = _pci("transitional", _VIRTIO, transitional, f"{virtio_type:04X}1AF4", 0)
    return old, _modern(virtio_type)


def _acpi(hardware_id: str) -> Device:
    return Device("acpi", (f"ACPI\\{hardware_id}",))


DRIVERS: tuple[Driver, ...] = (
    Driver("NetKVM", "netkvm.inf", "netkvm", _both(0x1000, 1)),
    Driver("viostor", "viostor.inf", "viostor", _both(0x1001, 2)),
    Driver("vioscsi", "vioscsi.inf", "vioscsi", _both(0x1004, 8)),
    Driver("Balloon", "balloon.inf", "BALLOON", _both(0x1002, 5)),
    Driver("vioserial", "vioser.inf", "VirtioSerial", _both(0x1003, 3)),
    Driver("viorng", "viorng.inf", "VirtRng", _both(0x1005, 4)),
    Driver("vioinput", "vioinput.inf", "VirtioInput", (_modern(18),)),
    Driver("viogpudo", "viogpudo.inf", "VioGpuDod", (_modern(16),)),
    Driver("viofs", "viofs.inf", "VirtioFsDrv", (_modern(26),)),
    Driver(
        "viosock",
        "viosock.inf",
        "VirtioSocket",
        _both(0x1012, 19),
        lacks=(Arch.X86, Arch.ARM64),
        recent=True,
    ),
    Driver("viomem", "viomem.inf", "VIOMEM", (_modern(24),), lacks=(Arch.X86,), recent=True),
    Driver("fwcfg", "fwcfg.inf", "FwCfg", (_acpi("QEMU0002"),), lacks=(Arch.ARM64,), recent=True),
    Driver(
        "pvpanic",
        "pvpanic.inf",
        "PVPanic",
        either=(_acpi("QEMU0001"), _pci("pci", 0x1B36, 0x0011, "11001AF4", 1)),
    ),
)
# Not on every medium, and checked where it is.
OPTIONAL: tuple[Driver, ...] = (
    Driver("viocrypt", "viocrypt.inf", "viocrypt", (_modern(20),)),
    Driver("sriov", "vioprot.inf", "vioprot", lacks=(Arch.ARM64,)),
)
_BY_FOLDER = {driver.folder.lower(): driver for driver in (*DRIVERS, *OPTIONAL)}
# The storage drivers lie a second time below these folders, where Windows' setup looks for them.
COPIED = ("viostor", "vioscsi")


def driver_of(folder: str) -> Driver | None:
    """The driver that a folder is named after, in any case."""
    return _BY_FOLDER.get(folder.lower())

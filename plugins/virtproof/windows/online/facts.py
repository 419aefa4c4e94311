"""What a running Windows says of itself. The fields are those of the scripts in ``scripts``."""

from __future__ import annotations

import re
from dataclasses import dataclass

PHANTOM = 45  # CM_PROB_PHANTOM: the device is remembered and not there
# "0x0000007b (0xfffff..., 0x..., 0x..., 0x...)", as Windows Error Reporting has it.
STOP = re.compile(r"0x([0-9a-f]{1,16})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class System:
    """``build`` and ``revision`` as in 26100.1742; ``start_options`` of the boot loader, upper case."""

    caption: str
    version: str
    build: int
    revision: int
    architecture: str
    powershell: str
    start_options: str
    booted: str

    @property
    def test_signing(self) -> bool:
        """Whether the kernel takes drivers that were signed by anybody's test certificate."""
        return "TESTSIGNING" in self.start_options.split()

    @property
    def safe_mode(self) -> bool:
        return any(one.startswith("SAFEBOOT") for one in self.start_options.split())


@dataclass(frozen=True, slots=True)
class BoundDriver:
    """A driver that Windows has given to a device. ``inf`` is its name in the store (oem3.inf)."""

    device: str
    name: str
    inf: str
    version: str
    date: str
    provider: str
    signed: bool
    signer: str
    hardware_id: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device that PnP knows, be it there or not. ``problem`` is 0 where it works."""

    id: str
    name: str
    kind: str
    service: str
    present: bool
    problem: int
    hardware_ids: tuple[str, ...]

    @property
    def ghost(self) -> bool:
        """Remembered, and not there (any more)."""
        return not self.present or self.problem == PHANTOM


@dataclass(frozen=True, slots=True)
class Disk:
    """``bus`` is Windows' name of it (ATA, SAS, SCSI ...); ``service`` the driver of its controller."""

    number: int
    model: str
    serial: str
    bus: str
    size_bytes: int
    boot: bool
    system: bool
    offline: bool
    service: str


@dataclass(frozen=True, slots=True)
class Address:
    """``origin`` is Manual, Dhcp, WellKnown ..."""

    ip: str
    prefix: int
    origin: str


@dataclass(frozen=True, slots=True)
class Nic:
    """A network adapter that is there. ``mac`` with hyphens, as Windows writes it."""

    index: int
    name: str
    description: str
    device: str
    mac: str
    status: str
    service: str
    driver_version: str
    addresses: tuple[Address, ...]
    gateways: tuple[str, ...]
    dns: tuple[str, ...]

    @property
    def static(self) -> tuple[str, ...]:
        """Its IPv4 addresses that somebody typed in, as 192.0.2.7/24."""
        typed = (one for one in self.addresses if one.origin == "Manual" and "." in one.ip)
        return tuple(sorted(f"{one.ip}/{one.prefix}" for one in typed))


@dataclass(frozen=True, slots=True)
class Service:
    """``start`` is the registry's Start (0: by the boot loader); ``override`` StartOverride\\0, or none."""

    name: str
    start: int | None
    override: int | None
    image: str
    state: str


@dataclass(frozen=True, slots=True)
class Crash:
    """An event that tells of a crash: ``text`` is Windows' first parameter of it."""

    id: int
    time: str
    text: str

    @property
    def code(self) -> int:
        """The stop code; 0 where the event tells of a loss of power only."""
        if self.text.isdecimal() and len(self.text) <= 20:
            return int(self.text)
        found = STOP.match(self.text)
        return int(found.group(1), 16) if found else 0


@dataclass(frozen=True, slots=True)
class Package:
    """A driver package in Windows' store. ``inf`` is oem3.inf, ``original`` what it was called."""

    inf: str
    original: str
    version: str
    provider: str

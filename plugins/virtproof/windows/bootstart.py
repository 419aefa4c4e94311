"""Whether a Windows that is switched off could boot from virtio: facts of its registry, judged. Pure.

A boot disk's driver must be started by the boot loader, and Windows must know that the device's ids are that
driver's. What is wrong here ends in stop 0x7B (INACCESSIBLE_BOOT_DEVICE).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from virtproof.errors import ImageError

# Service -> PCI device ids of virtio's vendor, 1AF4: transitional, modern.
STORAGE_IDS = {"viostor": ("1001", "1042"), "vioscsi": ("1004", "1048")}
BOOT_START, DEMAND_START = 0, 3
STARTS = {0: "boot", 1: "system", 2: "automatic", 3: "on demand", 4: "disabled"}
KERNEL_DRIVER = 1
WINDOWS_8 = (6, 2)
FIRST_BUILD_OF_11 = 22000
LABEL = re.compile(r"(x86|amd64|arm|arm64)_[0-9a-f]{16}")


class Check(StrEnum):
    """What is looked at."""

    AWAKE = "awake"
    NTFS_CLEAN = "ntfs-clean"
    HIVES_WHOLE = "hives-whole"
    SERVICE = "service"
    BOOT_START = "boot-start"
    START_OVERRIDE = "start-override"
    DRIVER_FILE = "driver-file"
    IDS = "ids"
    LABEL = "driver-label"


# What is wrong, but does not keep the system from booting.
NOT_FATAL = (Check.LABEL,)


@dataclass(frozen=True, slots=True)
class WindowsFacts:
    """What the hives of a switched-off Windows say. ``version``: of NT, as (10, 0).

    ``services``: viostor and vioscsi, each with start, type, imagepath, start_override, file (whether it is
    there); None where there is no such service. ``critical``: CriticalDeviceDatabase, ``database``:
    DriverDatabase, by PCI id in lower case; ``packages``: labels of the DriverDatabase's driver packages.
    """

    product: str
    version: tuple[int, int]
    build: int
    architecture: str
    control_set: str
    dirty: bool
    hibernated: bool
    unfinished: tuple[str, ...] = ()
    services: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    critical: Mapping[str, str] = field(default_factory=dict)
    database: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a person calls it: the registry calls Windows 11 "Windows 10" too."""
        product = self.product
        if self.build >= FIRST_BUILD_OF_11:
            product = product.replace("Windows 10", "Windows 11")
        return f"{product} (build {self.build}, {self.architecture})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer. ``driver`` is empty where it is the installation's, not a driver's."""

    check: Check
    driver: str
    ok: bool
    detail: str


def parse(told: Mapping[str, Any]) -> WindowsFacts:
    """Facts from the reading process's JSON; ImageError for what no Windows says."""
    if "error" in told:
        raise ImageError(str(told["error"]), hint=str(told.get("hint", "")))
    values = {one.name: told[one.name] for one in fields(WindowsFacts) if one.name in told}
    try:
        values["version"] = _version(told)
        values["build"] = int(str(told["build"]))
        values["unfinished"] = tuple(told["unfinished"])
        values["packages"] = tuple(map(str, told.get("packages", ())))
        values["database"] = {key: tuple(infs) for key, infs in told["database"].items()}
        for name in ("product", "architecture"):
            values[name] = _printable(told[name])
        return WindowsFacts(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"its registry does not say what Windows it is: {error}") from None


def _version(told: Mapping[str, Any]) -> tuple[int, int]:
    """Windows 10 and later keep the truth in numbers, and "6.3" in the text."""
    if isinstance(told.get("major"), int):
        return int(told["major"]), int(told.get("minor") or 0)
    major, _, minor = str(told["version"]).partition(".")
    return int(major), int(minor)


def _printable(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return "".join(char if char.isprintable() else "?" for char in value[:200])


def judge(facts: WindowsFacts) -> list[Finding]:
    """Every check of an installation: its state first, then each driver of a boot disk."""
    found = list(_state(facts))
    for driver, ids in STORAGE_IDS.items():
        found += _driver(facts, driver, ids)
    return found


def ready(findings: list[Finding], driver: str) -> bool:
    """Whether nothing is known that keeps this Windows from booting with that driver."""
    counted = (one for one in findings if one.check not in NOT_FATAL)
    return all(one.ok for one in counted if one.driver in ("", driver))


def _state(facts: WindowsFacts) -> Iterator[Finding]:
    yield Finding(
        Check.AWAKE,
        "",
        not facts.hibernated,
        "a system sleeps in hiberfil.sys: shut Windows down wholly (shutdown /s /t 0, fast start-up off)"
        if facts.hibernated
        else "no system sleeps on it",
    )
    yield Finding(
        Check.NTFS_CLEAN,
        "",
        not facts.dirty,
        "NTFS was not closed: boot Windows and shut it down, or run chkdsk /f"
        if facts.dirty
        else "NTFS was closed",
    )
    open_hives = ", ".join(facts.unfinished)
    yield Finding(
        Check.HIVES_WHOLE,
        "",
        not facts.unfinished,
        f"not written out wholly: {open_hives}; what it lacks stands in its transaction logs"
        if facts.unfinished
        else "hives are written out",
    )


def _driver(facts: WindowsFacts, driver: str, ids: tuple[str, ...]) -> Iterator[Finding]:
    service = facts.services.get(driver)
    if service is None:
        yield Finding(Check.SERVICE, driver, False, f"no service {driver}: it is not installed")
        return
    yield Finding(Check.SERVICE, driver, True, f"{facts.control_set}\\Services\\{driver}")
    start, kind = service.get("start"), service.get("type")
    starts = STARTS.get(start, str(start)) if isinstance(start, int) else f"no Start ({start!r})"
    good = start == BOOT_START and kind == KERNEL_DRIVER
    detail = f"starts: {starts}" + ("" if kind == KERNEL_DRIVER else f"; Type is {kind!r}, not 1")
    yield Finding(Check.BOOT_START, driver, good, detail)
    yield _override(driver, service.get("start_override") or {})
    path = service.get("imagepath")
    there = bool(service.get("file"))
    yield Finding(
        Check.DRIVER_FILE, driver, there, f"{path}" if there else f"{path!r} is not on the volume"
    )
    yield _ids(facts, driver, ids)
    yield from _label(facts, driver, ids)


def _override(driver: str, values: Mapping[str, Any]) -> Finding:
    """StartOverride\\0 above 0 takes the start away again once a driver was not needed at a boot."""
    value = values.get("0")
    ok = value in (None, BOOT_START)
    told = "none" if value is None else STARTS.get(value, repr(value))
    return Finding(Check.START_OVERRIDE, driver, ok, f"StartOverride\\0: {told}")


def _ids(facts: WindowsFacts, driver: str, ids: tuple[str, ...]) -> Finding:
    """Each id must be known where this version of Windows looks."""
    if facts.version < WINDOWS_8:
        where = "CriticalDeviceDatabase"
        known = [key for key, service in facts.critical.items() if service.lower() == driver]
    else:
        where, known = "DriverDatabase", [key for key, infs in facts.database.items() if infs]
    lacks = [one for one in ids if not any(f"dev_{one}" in key for key in known)]
    told = f"{where} has " + (f"no 1AF4:{', no 1AF4:'.join(lacks)}" if lacks else " and ".join(ids))
    return Finding(Check.IDS, driver, not lacks, told)


def _label(facts: WindowsFacts, driver: str, ids: tuple[str, ...]) -> Iterator[Finding]:
    """Windows calls a package NAME.inf_ARCHITECTURE_HASH; under another name its tools do not find it."""
    claims = {
        inf.lower()
        for key, infs in facts.database.items()
        if any(f"dev_{one}" in key for one in ids)
        for inf in infs
    }
    for label in facts.packages:
        inf, _, rest = label.lower().partition("_")
        if inf in claims and not LABEL.fullmatch(rest):
            said = f"package {label}: pnputil and upgrades of the driver stumble over this name"
            yield Finding(Check.LABEL, driver, False, said)

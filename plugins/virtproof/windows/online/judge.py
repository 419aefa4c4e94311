"""What was seen of a running Windows, judged: each check says what is wrong, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from virtproof.windows.bootstart import BOOT_START as BY_LOADER
from virtproof.windows.bootstart import STARTS
from virtproof.windows.online import facts
from virtproof.windows.online.packages import Wanted
from virtproof.windows.online.probes import Windows

DUMMY = "dummy"  # the serial of the disk that makes Windows start a driver
VIRTIO = "VEN_1AF4"


class Check(StrEnum):
    """What is looked at in a running Windows."""

    NORMAL_MODE = "normal-mode"
    SIGNATURES_WANTED = "signatures-wanted"
    DUMMY_SEEN = "dummy-seen"
    DRIVER_BOUND = "driver-bound"
    DRIVER_VERSION = "driver-version"
    DRIVER_SIGNED = "driver-signed"
    NO_PROBLEM = "no-problem"
    BOOT_START = "boot-start"
    ROOT_ON_DRIVER = "root-on-driver"
    NIC_ON_DRIVER = "nic-on-driver"
    ADDRESS_KEPT = "address-kept"
    OLD_NIC_GONE = "old-nic-gone"
    NO_CRASH = "no-crash"


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a Windows said at one moment."""

    system: facts.System
    drivers: tuple[facts.BoundDriver, ...]
    devices: tuple[facts.Device, ...]
    disks: tuple[facts.Disk, ...]
    nics: tuple[facts.Nic, ...]
    services: dict[str, facts.Service]
    crashes: tuple[facts.Crash, ...]


@dataclass(frozen=True, slots=True)
class Aim:
    """What must be: the disk's driver, the NIC's (None: it stays as it is), and what was before."""

    disk: Wanted
    nic: Wanted | None = None
    mac: str = ""
    before: Seen | None = None


def look(windows: Windows) -> Seen:
    """Ask for everything, in one order: a transcript has it so."""
    return Seen(
        windows.system(),
        windows.drivers(),
        windows.devices(),
        windows.disks(),
        windows.nics(),
        windows.services(),
        windows.crashes(),
    )


def faults(check: Check, seen: Seen, aim: Aim) -> list[str]:
    """What is wrong by that check, a line each."""
    return list(CHECKS[check](seen, aim))


def nic_of(seen: Seen, mac: str) -> facts.Nic | None:
    """The adapter that has the MAC, which a switch keeps."""
    return next((nic for nic in seen.nics if _plain(nic.mac) == _plain(mac)), None)


def _plain(mac: str) -> str:
    return mac.replace("-", "").replace(":", "").lower()


def _normal_mode(seen: Seen, _aim: Aim) -> Iterator[str]:
    if seen.system.safe_mode:
        yield f"Windows is in safe mode ({seen.system.start_options})"


def _signatures(seen: Seen, _aim: Aim) -> Iterator[str]:
    if seen.system.test_signing:
        yield "test signing is on: that a driver loads says nothing of its signature"


def _dummy(seen: Seen, aim: Aim) -> Iterator[str]:
    disk = next((one for one in seen.disks if one.serial == DUMMY), None)
    if disk is None:
        yield f"Windows does not see the disk {DUMMY!r}"
    elif disk.service.lower() != aim.disk.service.lower():
        yield f"the disk {DUMMY!r} is on {disk.service or 'no driver'}, not on {aim.disk.service}"


def _bound_to(seen: Seen, wanted: Wanted) -> list[facts.BoundDriver]:
    ids = [one.upper() for one in wanted.ids]
    found = (one for one in seen.drivers if one.hardware_id.upper().startswith("PCI\\"))
    # By what the id begins with: "PCI\VEN_1AF4&DEV_1001", behind which come subsystem and revision.
    return [one for one in found if any(one.hardware_id.upper().startswith(each) for each in ids)]


def _wanted(seen: Seen, aim: Aim) -> list[Wanted]:
    """The drivers that there are devices for: before the switch, there is none for the NIC's."""
    old = nic_of(aim.before, aim.mac) if aim.before else None
    new = nic_of(seen, aim.mac)
    there = aim.nic is not None and (old is None or new is None or old.device != new.device)
    return [aim.disk, *([aim.nic] if aim.nic and there else [])]


def _bound(seen: Seen, aim: Aim) -> Iterator[str]:
    for wanted in _wanted(seen, aim):
        if not _bound_to(seen, wanted):
            yield f"no device is bound to {wanted.service}"


def _version(seen: Seen, aim: Aim) -> Iterator[str]:
    for wanted in _wanted(seen, aim):
        for driver in _bound_to(seen, wanted):
            if driver.version != wanted.version:
                yield (
                    f"{driver.name} has {driver.inf} of version {driver.version}, "
                    f"the medium's is {wanted.version}"
                )


def _signed(seen: Seen, aim: Aim) -> Iterator[str]:
    for wanted in _wanted(seen, aim):
        for driver in _bound_to(seen, wanted):
            if not driver.signed:
                yield f"{driver.name}: its driver {driver.inf} is not signed"


def _problem(seen: Seen, _aim: Aim) -> Iterator[str]:
    for device in seen.devices:
        virtio = VIRTIO in device.id.upper()
        if virtio and not device.ghost and device.problem:
            yield f"{device.name or device.id}: problem code {device.problem}"


def _boot_start(seen: Seen, aim: Aim) -> Iterator[str]:
    service = seen.services.get(aim.disk.service)
    if service is None:
        yield f"there is no service {aim.disk.service}"
        return
    if service.start != BY_LOADER:
        told = STARTS.get(service.start or 0, "") if service.start is not None else "no Start"
        yield f"{service.name} starts: {told or service.start}"
    if service.override not in (None, BY_LOADER):
        yield f"{service.name}: StartOverride\\0 is {service.override}: the next boot is stop 0x7B"
    if service.state != "Running":
        yield f"{service.name} is {service.state or 'of no state'}, not running"


def _root(seen: Seen, aim: Aim) -> Iterator[str]:
    roots = [disk for disk in seen.disks if disk.boot]
    if not roots:
        yield "Windows names no disk that it has booted from"
    for disk in roots:
        if disk.service.lower() != aim.disk.service.lower():
            yield f"the boot disk is on {disk.service or 'no driver'}, not on {aim.disk.service}"


def _nic(seen: Seen, aim: Aim) -> Iterator[str]:
    if aim.nic is None:
        return
    nic = nic_of(seen, aim.mac)
    if nic is None:
        yield f"no adapter has the MAC {aim.mac}"
    elif nic.service.lower() != aim.nic.service.lower():
        yield f"the adapter {nic.mac} is on {nic.service or 'no driver'}, not on {aim.nic.service}"
    elif nic.status != "Up":
        yield f"the adapter {nic.mac} is {nic.status}, not up"


def _address(seen: Seen, aim: Aim) -> Iterator[str]:
    old = nic_of(aim.before, aim.mac) if aim.before else None
    new = nic_of(seen, aim.mac)
    if old is None or not old.static:
        return  # DHCP's is another's to keep
    if new is None:
        yield f"no adapter has the MAC {aim.mac}"
        return
    for what in ("static", "gateways", "dns"):
        had, has = getattr(old, what), getattr(new, what)
        if had != has:
            told = ", ".join(has) or "none"
            yield f"{what} was {', '.join(had) or 'none'}, and is {told}"


def _old_nic(seen: Seen, aim: Aim) -> Iterator[str]:
    old = nic_of(aim.before, aim.mac) if aim.before else None
    if old is None or aim.nic is None or old.service.lower() == aim.nic.service.lower():
        return
    for device in seen.devices:
        if device.id.upper() == old.device.upper() and not device.ghost:
            yield f"the old adapter {old.description} is still there ({device.id})"


def _crash(seen: Seen, aim: Aim) -> Iterator[str]:
    known = set(aim.before.crashes) if aim.before else set()
    for crash in seen.crashes:
        if crash not in known:
            told = f"stop 0x{crash.code:X}" if crash.code else "a loss of power"
            yield f"{crash.time}: {told}: {crash.text}"


CHECKS: dict[Check, Callable[[Seen, Aim], Iterator[str]]] = {
    Check.NORMAL_MODE: _normal_mode,
    Check.SIGNATURES_WANTED: _signatures,
    Check.DUMMY_SEEN: _dummy,
    Check.DRIVER_BOUND: _bound,
    Check.DRIVER_VERSION: _version,
    Check.DRIVER_SIGNED: _signed,
    Check.NO_PROBLEM: _problem,
    Check.BOOT_START: _boot_start,
    Check.ROOT_ON_DRIVER: _root,
    Check.NIC_ON_DRIVER: _nic,
    Check.ADDRESS_KEPT: _address,
    Check.OLD_NIC_GONE: _old_nic,
    Check.NO_CRASH: _crash,
}

"""What is wrong with a guest that runs, by name: rules over what its check-up found. Pure.

Each rule gives the line that shows the fault. They stand in an order in which causes come before what
follows from them: a disk that fails, then the root that was remounted read-only for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from virtproof.diagnose.evidence import Diagnosis
from virtproof.diagnose.text import quoted
from virtproof.probe.exercise import Path, WorkedDisk
from virtproof.probe.health import Driven, Function, Link, Root

# Ratios within one guest at one time, as absolute rates say nothing on a shared machine.
SLOW_DISK = 1 / 8  # of the fastest disk's rate; IDE was seen at 1/2 of virtio_blk
SLOW_PATH = 150.0  # times loopback; RTL8139 under emulation was seen at 20
LOST = 0.01  # of the pings to the gateway
FLAPS = 10  # changes of carrier since the NIC came; one or two are its coming up
FULL = 0.005  # of the root file system left
CLOCK_S = 60.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a check-up found. Empty, or None, where it was not asked or could not be told.

    ``needed``: PCI addresses that the domain's disks and NICs hang on, and what for. ``clock_s``: the
    guest's clock less the host's. ``lease``: the address that DHCP gave, empty where it gave none.
    ``answered_by``: MACs that answer for it. ``flush_lost``: a disk that lost what it had flushed.
    """

    needed: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[Function, ...] = ()
    kernel_errors: tuple[str, ...] = ()
    disks: tuple[WorkedDisk, ...] = ()
    root: Root | None = None
    links: tuple[Link, ...] = ()
    lease: str | None = None
    answered_by: tuple[str, ...] = ()
    path: Path | None = None
    virtio: tuple[Driven, ...] = ()
    clock_s: float = 0.0
    failed_units: tuple[str, ...] = ()
    flush_lost: str = ""


def complaints(vitals: Vitals) -> tuple[Diagnosis, ...]:
    """Everything that is wrong, the likeliest cause first; empty for a guest in good health."""
    found = [
        Diagnosis(name, quoted(line), "check-up") for name, rule in RULES for line in rule(vitals)
    ]
    return tuple(found)


def _drivers(kind: str) -> Callable[[Vitals], Iterator[str]]:
    def rule(vitals: Vitals) -> Iterator[str]:
        there = {function.address: function for function in vitals.functions}
        for address, use in vitals.needed.items():
            function = there.get(address)
            if use != kind or (function is not None and function.driver is not None):
                continue
            what = f"{function.id} has no driver" if function else "is not there"
            yield f"PCI function {address} of a {use} {what}"

    return rule


def _io_errors(vitals: Vitals) -> Iterator[str]:
    for disk in vitals.disks:
        for said in disk.failed:
            yield f"disk {disk.name}: {said}"
    yield from (f"kernel: {line}" for line in vitals.kernel_errors)


def _wrong_data(vitals: Vitals) -> Iterator[str]:
    for disk in vitals.disks:
        if disk.wrong_at:
            at = disk.wrong_at[0]
            yield f"disk {disk.name}: at byte {at}, other data was read than had been written"


def _flush(vitals: Vitals) -> Iterator[str]:
    if vitals.flush_lost:
        yield f"disk {vitals.flush_lost}: what was flushed is gone after a power cut"


def _read_only(vitals: Vitals) -> Iterator[str]:
    if vitals.root is not None and vitals.root.read_only:
        yield f"/ is mounted read-only ({vitals.root.options})"


def _full(vitals: Vitals) -> Iterator[str]:
    root = vitals.root
    if root is not None and root.free_kib < root.size_kib * FULL:
        yield f"/ has {root.free_kib} KiB left of {root.size_kib}"


def _down(vitals: Vitals) -> Iterator[str]:
    for link in vitals.links:
        if link.carrier is False:
            yield f"{link.name} ({link.mac}) has no carrier"


def _flaps(vitals: Vitals) -> Iterator[str]:
    for link in vitals.links:
        if link.changes >= FLAPS:
            yield f"{link.name} ({link.mac}): its carrier changed {link.changes} times"


def _duplicate(vitals: Vitals) -> Iterator[str]:
    if len(vitals.answered_by) > 1:
        yield f"{vitals.lease} is answered for by {', '.join(vitals.answered_by)}"


def _no_address(vitals: Vitals) -> Iterator[str]:
    if vitals.lease == "":
        off = [link.name for link in vitals.links if link.carrier is None]
        why = f": nothing in the guest brings {off[0]} up" if off else ""
        yield f"DHCP gave the guest no address{why}"


def _loss(vitals: Vitals) -> Iterator[str]:
    path = vitals.path
    if path is not None and path.lost > max(1.0, path.sent * LOST):
        yield f"{path.lost} of {path.sent} pings to {path.gateway} were lost"


def _mtu(vitals: Vitals) -> Iterator[str]:
    path = vitals.path
    if path is not None and path.passes and path.mtu not in path.passes:
        yield f"packets of {path.mtu} bytes, the NIC's MTU, do not reach {path.gateway}"


def _slow_path(vitals: Vitals) -> Iterator[str]:
    path = vitals.path
    if path is None or not path.big_ms or not path.loopback_ms:
        return
    if path.big_ms > path.loopback_ms * SLOW_PATH:
        to = f"60 kB to {path.gateway} and back take {path.big_ms:.1f} ms"
        yield f"{to}, on loopback {path.loopback_ms:.2f} ms"


def _slow_disk(vitals: Vitals) -> Iterator[str]:
    rates = {disk.name: disk.read_mib_s for disk in vitals.disks if disk.read_mib_s}
    best = max(rates, key=lambda name: rates[name], default="")
    for name, rate in rates.items():
        if rate < rates[best] * SLOW_DISK:
            yield f"disk {name} reads {rate:.1f} MiB/s, {best} {rates[best]:.0f} MiB/s"


def _legacy(vitals: Vitals) -> Iterator[str]:
    for device in vitals.virtio:
        if not device.version_1:
            yield f"{device.name} ({device.type}) is driven as legacy, without VIRTIO_F_VERSION_1"


def _clock(vitals: Vitals) -> Iterator[str]:
    if abs(vitals.clock_s) > CLOCK_S:
        where = "ahead of" if vitals.clock_s > 0 else "behind"
        yield f"the guest's clock is {abs(vitals.clock_s):.0f} s {where} the host's"


def _units(vitals: Vitals) -> Iterator[str]:
    yield from (f"{unit} failed" for unit in vitals.failed_units)


RULES: Final[tuple[tuple[str, Callable[[Vitals], Iterator[str]]], ...]] = (
    ("disk-driver-missing", _drivers("disk")),
    ("nic-driver-missing", _drivers("nic")),
    ("disk-io-error", _io_errors),
    ("disk-data-wrong", _wrong_data),
    ("flush-lost", _flush),
    ("root-read-only", _read_only),
    ("root-full", _full),
    ("link-down", _down),
    ("link-flaps", _flaps),
    ("duplicate-address", _duplicate),
    ("no-address", _no_address),
    ("packet-loss", _loss),
    ("mtu-mismatch", _mtu),
    ("nic-slow", _slow_path),
    ("disk-slow", _slow_disk),
    ("virtio-legacy", _legacy),
    ("clock-off", _clock),
    ("unit-failed", _units),
)

"""Made-up measurements as the throughput suites would give them; compared by the real statistics."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from virtproof.measure.measurement import Better, Comparison, Measurement
from virtproof.measure.results import GuestRecord, TestRecord
from virtproof.measure.statistics import against, outruns, pair, together

# By side: tcp-to-guest, tcp-from-guest in bit/s; what either costs in s/B.
NETWORK = {
    "rtl8139": (176e6, 148e6, 39e-9, 45e-9),
    "e1000": (402e6, 371e6, 17e-9, 19e-9),
    "virtio": (981e6, 1240e6, 6.8e-9, 5.2e-9),
}
# By side: read-128k, write-128k in B/s; randread-4k, randwrite-4k in 1/s; their costs.
DISK = {
    "ide": (61e6, 57e6, 2350.0, 2210.0, 16e-9, 17e-9, 97e-9, 104e-9),
    "virtio": (312e6, 268e6, 9800.0, 8900.0, 2.9e-9, 3.4e-9, 22e-9, 25e-9),
}
JOBS = {"tcp": "bit/s", "rand": "1/s", "read": "B/s", "write": "B/s"}
TOOLS = {"tcp": "iperf 3.12; guest: iperf 3.12", "rand": "fio-3.33", "read": "fio-3.33"}
FLOWS = ("tcp-to-guest", "tcp-from-guest")
PATTERNS = ("read-128k", "write-128k", "randread-4k", "randwrite-4k")
INTO = {"into the guest": FLOWS[:1], "out of the guest": FLOWS[1:]}
WORK = {"reading": PATTERNS[::2], "writing": PATTERNS[1::2]}


def measurements(
    sides: Mapping[str, Sequence[float]],
    names: Sequence[str],
    guest: GuestRecord,
    blocks: int,
    profile: str = "quick",
    noise: float = 0.04,
) -> list[Measurement]:
    """Each side of each block: its level, times the block's own luck, times some noise."""
    chance = random.Random(f"{names}{blocks}{noise}")
    found = []
    for block in range(blocks):
        luck = chance.gauss(0, noise)
        for order, (side, levels) in enumerate(sides.items()):
            for name, level in zip((*names, *(f"{n}.cpu" for n in names)), levels, strict=True):
                cost = name.endswith(".cpu")
                value = level * math.exp((-luck if cost else luck) + chance.gauss(0, noise))
                unit, better = ("s/B", "lower") if cost else (_unit(name), "higher")
                found.append(_measurement(name, unit, better, value, (side, block, order), guest))
    return [replace(one, profile=profile) for one in found]


def compared(
    found: Sequence[Measurement], b: str, groups: Mapping[str, Sequence[str]]
) -> list[Comparison]:
    """As the bench compares: claims first, then every figure."""
    rivals = [side for side in dict.fromkeys(one.side for one in found) if side != b]
    names = list(dict.fromkeys(one.name for one in found))
    claims = [
        outruns(together([pair(found, n, a, b) for n in members], name), a, b, 1.0, 0.975)
        for a in rivals
        for name, members in groups.items()
    ]
    return claims + [outruns(pair(found, name, a, b), a, b) for a in rivals for name in names]


def with_figures(record: TestRecord, kind: str) -> TestRecord:
    """The two tests of PERF with what they measured; others as they are."""
    if "PERF-1" in record.claims:
        sides = dict(NETWORK) if kind != "good" else {k: NETWORK[k] for k in ("rtl8139", "virtio")}
        return _measured(record, sides, FLOWS, INTO, kind)
    if "PERF-2" in record.claims:
        sides = dict(DISK)
        if kind != "good":  # writing is no faster there
            slow = DISK["ide"]
            sides["virtio"] = tuple(
                slow[at] if at % 2 else value for at, value in enumerate(DISK["virtio"])
            )
        return _measured(record, sides, PATTERNS, WORK, kind)
    return record


def kernels(guest: GuestRecord) -> TestRecord:
    """Two kernels held against each other: a regression, and what is no different."""
    old, new = "6.1.0-28", "6.12.9"
    base = NETWORK["virtio"]
    sides = {old: base, new: (base[0] * 0.82, base[1], base[2] * 1.2, base[3])}
    found = measurements(sides, FLOWS, guest, 10, "release", 0.012)
    pairs = {name: pair(found, name, old, new) for name in dict.fromkeys(m.name for m in found)}
    return TestRecord(
        "suites/compare/test_compare.py::test_b_holds_against_a",
        "failed",
        "AssertionError: tcp-to-guest: 6.12.9 / 6.1.0-28 0.82 x: regression",
        [],
        guest,
        None,
        [one.as_dict() for one in found],
        611.0,
        None,
        [one.as_dict() for one in against(pairs, old, new)],
    )


def hostile(record: TestRecord, text: str) -> TestRecord:
    """Every text of a measurement and of a comparison with something nasty in it."""

    def spoilt(one: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        return {**one, **{key: f"{one[key]}{text}" for key in keys}}

    measured = [
        spoilt(one, ("name", "side", "profile"))
        | {"job": {"version": text, "tool": text}, "guest": {"image": text}}
        for one in record.measurements
    ]
    found = [spoilt(one, ("name", "a", "b")) for one in record.comparisons]
    return replace(record, measurements=measured, comparisons=found)


def _measured(
    record: TestRecord,
    sides: Mapping[str, Sequence[float]],
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    kind: str,
) -> TestRecord:
    assert record.guest is not None
    quick = kind == "good"
    profile = "quick" if quick else "nightly"
    found = measurements(sides, names, record.guest, 4 if quick else 5, profile)
    comparisons = compared(found, "virtio", groups)
    return replace(
        record,
        measurements=[one.as_dict() for one in found],
        comparisons=[one.as_dict() for one in comparisons],
    )


def _unit(name: str) -> str:
    return next(unit for start, unit in JOBS.items() if name.startswith(start))


def _measurement(
    name: str,
    unit: str,
    better: Better,
    value: float,
    at: tuple[str, int, int],
    guest: GuestRecord,
) -> Measurement:
    side, block, order = at
    tool = next((tool for start, tool in TOOLS.items() if name.startswith(start)), "fio-3.33")
    return Measurement(
        name,
        unit,
        better,
        value,
        [] if better == "lower" else [value * 0.98, value * 1.02],
        side,
        block,
        order,
        f"2025-01-15T09:{10 + block}:{10 * order:02}+00:00",
        {"tool": tool.split()[0], "seconds": 1, "version": tool},
        {
            "image": guest.image,
            "kernel": guest.kernel,
            "machine": guest.machine,
            "nic": side if name.startswith("tcp") else None,
        },
    )

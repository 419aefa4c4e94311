"""What changed from one run to another: newly broken, fixed, otherwise changed, new and gone. Pure.

Tests are matched by their ids; what is left, by their ids without the kernel's version, so that two
versions of a kernel compare. Kernels of different flavours (cloud, rt) never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtproof.measure.results import TestRecord
from virtproof.report.compat.grid import feature_changes
from virtproof.report.compat.kernels import flavour, release_order

KINDS = ("broke", "fixed", "changed", "new", "gone")
_BAD = ("failed", "error", "broken")


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that is not as it was. ``was`` and ``now`` are a cell's verdict or a test's outcome, None where
    it was not run; ``reason`` and ``diagnosis`` are of what is there now, else of what was.
    """

    kind: str
    test: str
    check: str
    image: str
    kernels: tuple[str, str]
    was: str | None
    now: str | None
    reason: str
    diagnosis: str
    gained: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__ if name != "kernels"}
        for name in ("gained", "lost"):
            found[name] = {device: list(names) for device, names in found[name].items()}
        return {**found, "kernel_was": self.kernels[0], "kernel_now": self.kernels[1]}


def differences(
    before: Sequence[TestRecord], after: Sequence[TestRecord]
) -> tuple[list[Difference], int]:
    """What differs, by kind and then in the order of the tests; and how many tests are as they were."""
    pairs = _paired(before, after)
    found = [_difference(one, two) for one, two in pairs]
    told = [one for one in found if one is not None]
    told.sort(key=lambda one: (KINDS.index(one.kind), one.now not in _BAD))
    return told, len(found) - len(told)


def image_of(record: TestRecord) -> str:
    if record.guest:
        return record.guest.image
    return (record.compat.image if record.compat else None) or ""


def kernel_of(record: TestRecord) -> str:
    """The release; empty where no guest told it."""
    guest, compat = record.guest, record.compat
    told = (guest.kernel or guest.kernel_under_test) if guest else None
    told = told or (compat.kernel if compat else None)
    return told or image_of(record).partition("@")[2]


def _plain(record: TestRecord) -> str:
    """The test's id with its kernel's flavour in the place of its release."""
    image = image_of(record)
    name, at, release = image.partition("@")
    return record.test.replace(image, f"{name}@{flavour(release)}") if at else record.test


_Pair = tuple[TestRecord | None, TestRecord | None]


def _paired(before: Sequence[TestRecord], after: Sequence[TestRecord]) -> list[_Pair]:
    """Each test of either run once. Of several versions of a kernel that are left, the newest is compared."""
    old = {record.test: record for record in before}
    pairs: list[_Pair] = []
    left: list[TestRecord] = []
    for record in after:
        found = old.get(record.test)
        if found is not None and _alike(found, record):
            pairs.append((old.pop(record.test), record))
        else:
            left.append(record)
    by_id: dict[str, list[TestRecord]] = {}
    for record in sorted(old.values(), key=lambda one: release_order(kernel_of(one))):
        by_id.setdefault(_plain(record), []).append(record)
    for record in left:
        candidates = [one for one in by_id.get(_plain(record), ()) if _alike(one, record)]
        match = candidates[-1] if candidates else None
        if match is not None:
            by_id[_plain(record)].remove(match)
            del old[match.test]
        pairs.append((match, record))
    return [*pairs, *((record, None) for record in old.values())]


def _alike(one: TestRecord, two: TestRecord) -> bool:
    """Whether both ran on a kernel of one flavour, as far as that is known."""
    kernels = kernel_of(one), kernel_of(two)
    return not all(kernels) or flavour(kernels[0]) == flavour(kernels[1])


def _state(record: TestRecord | None) -> str | None:
    """A cell's verdict, else the test's outcome. An error is never better than that."""
    if record is None:
        return None
    if record.compat is None or record.outcome == "error":
        return record.outcome
    return record.compat.verdict


def _difference(one: TestRecord | None, two: TestRecord | None) -> Difference | None:
    was, now = _state(one), _state(two)
    gained, lost = feature_changes(_features(one), _features(two))
    kind = _kind(was, now, features=bool(gained or lost))
    if kind is None:
        return None
    told = two or one
    assert told is not None
    return Difference(
        kind,
        told.test,
        told.compat.check if told.compat else "",
        image_of(told),
        (kernel_of(one) if one else "", kernel_of(two) if two else ""),
        was,
        now,
        told.reason or "",
        told.diagnosis["name"] if told.diagnosis else "",
        gained,
        lost,
    )


def _kind(was: str | None, now: str | None, *, features: bool) -> str | None:
    if was is None or now is None:
        return "new" if was is None else "gone"
    if (was in _BAD) != (now in _BAD):
        if now in _BAD:
            return "broke"
        return "fixed" if now in ("passed", "works") else "changed"
    return "changed" if was != now or features else None


def _features(record: TestRecord | None) -> dict[str, list[str]]:
    return record.compat.features if record and record.compat else {}


def newly_broken(found: Iterable[Difference]) -> bool:
    return any(one.kind == "broke" for one in found)

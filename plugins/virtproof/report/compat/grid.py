"""The compatibility matrix of one or more runs: systems (an image and a kernel) and their cells. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.report.compat.kernels import flavour, release_order, without_release

UNKNOWN = "kernel unknown"


class State(StrEnum):
    """State of a cell; what was not run was not seen, whatever else passed."""

    WORKS = "works"
    UNSUPPORTED = "not supported"
    BROKEN = "broken"
    NOT_RUN = "not run"


_STATES = {
    "works": State.WORKS,
    "not-supported": State.UNSUPPORTED,
    "broken": State.BROKEN,
    "not-run": State.NOT_RUN,
}
_WORST_FIRST = (State.BROKEN, State.WORKS, State.UNSUPPORTED, State.NOT_RUN)
Features = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Source:
    """A run, its records, and the directory that it left them in."""

    run: RunRecord
    results: Sequence[TestRecord]
    place: Path


@dataclass(frozen=True, slots=True)
class System:
    """An image on a kernel."""

    image: str
    kernel: str

    @property
    def flavour(self) -> str:
        return flavour(self.kernel)

    @property
    def label(self) -> str:
        return f"{self.image} on {self.kernel}"


@dataclass(frozen=True, slots=True)
class Filled:
    """A check on a system: what was found, by which tests, of which run."""

    state: State
    reason: str
    features: Features
    records: tuple[TestRecord, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Grid:
    """Systems from the oldest kernel to the newest, checks by kind; ``cells``: what tests have filled."""

    systems: tuple[System, ...]
    checks: tuple[str, ...]
    cells: Mapping[tuple[System, str], Filled]
    distributions: Mapping[System, str] = field(default_factory=dict)

    def state(self, system: System, check: str) -> State:
        found = self.cells.get((system, check))
        return found.state if found else State.NOT_RUN

    def of(self, system: System) -> dict[str, Filled]:
        """The system's cells by check, in the checks' order."""
        return {c: self.cells[system, c] for c in self.checks if (system, c) in self.cells}

    def features(
        self, system: System, checks: Container[str] | None = None
    ) -> dict[str, frozenset[str]]:
        """By device, what was negotiated in any of the system's cells, or in those of some checks."""
        found: dict[str, frozenset[str]] = {}
        for check, cell in self.of(system).items():
            if checks is not None and check not in checks:
                continue
            for device, names in cell.features.items():
                found[device] = found.get(device, frozenset()) | names
        return dict(sorted(found.items()))


def grid(sources: Sequence[Source]) -> Grid:
    """The matrix; of a cell that two runs have filled, the later run's counts."""
    cells: dict[tuple[System, str], Filled] = {}
    distributions: dict[System, str] = {}
    for source in sorted(sources, key=lambda one: one.run.start):
        groups: dict[tuple[System, str], list[TestRecord]] = {}
        for system, record in placed(source.results):
            if record.compat is not None:
                groups.setdefault((system, record.compat.check), []).append(record)
            if record.guest and record.guest.distribution:
                distributions[system] = record.guest.distribution
        for key, records in groups.items():
            filled = _filled(records, source)
            if filled.state is not State.NOT_RUN or key not in cells:
                cells[key] = filled
    systems = sorted({system for system, _ in cells}, key=_order)
    checks = sorted({check for _, check in cells}, key=_by_kind)
    return Grid(tuple(systems), tuple(checks), cells, distributions)


def placed(results: Iterable[TestRecord]) -> list[tuple[System, TestRecord]]:
    """Each test on its system. What does not tell its kernel joins its image's only one."""
    told = [(record, *_system(record)) for record in results]
    kernels: dict[str, set[str]] = {}
    for _, image, kernel in told:
        if kernel:
            kernels.setdefault(image, set()).add(kernel)
    found = []
    for record, image, kernel in told:
        only = kernels.get(image, set())
        here = kernel or (next(iter(only)) if len(only) == 1 else UNKNOWN)
        found.append((System(without_release(image), here), record))
    return found


def _system(record: TestRecord) -> tuple[str, str]:
    """Image and kernel (empty: not told) of a test."""
    compat, guest = record.compat, record.guest
    image = (guest.image if guest else None) or (compat.image if compat else None) or "host"
    kernel = (guest.kernel or guest.kernel_under_test) if guest else None
    return image, kernel or (compat.kernel if compat else None) or image.partition("@")[2]


def _filled(records: Sequence[TestRecord], source: Source) -> Filled:
    """The worst that was seen of a check; that it worked once outweighs a test that could not run."""
    features: dict[str, frozenset[str]] = {}
    by_state: dict[State, TestRecord] = {}
    for record in records:
        assert record.compat is not None
        by_state.setdefault(_STATES[record.compat.verdict], record)
        for device, names in record.compat.features.items():
            features[device] = features.get(device, frozenset()) | set(names)
    state = next(one for one in _WORST_FIRST if one in by_state)
    told = by_state[state].compat
    assert told is not None
    return Filled(state, told.reason, features, tuple(records), source)


def _order(system: System) -> tuple[object, ...]:
    return (release_order(system.kernel), system.image)


_KINDS = ("root", "boot", "disk", "nic")  # the page's question first


def _by_kind(check: str) -> tuple[int, str, int, str]:
    kind = check.partition("/")[0]
    place = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    return place, kind, check.count("/"), check


@dataclass(frozen=True, slots=True)
class Change:
    """From one system to the next: states of ``checks``, features ``gained`` and ``lost`` by device."""

    before: System
    after: System
    checks: tuple[tuple[str, State, State], ...]
    gained: Mapping[str, tuple[str, ...]]
    lost: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.checks or self.gained or self.lost)


def changes(full: Grid) -> list[Change]:
    """From kernel to kernel of one flavour, oldest first. What was not run on either says nothing."""
    found = []
    for kind in dict.fromkeys(system.flavour for system in full.systems):
        chain = [system for system in full.systems if system.flavour == kind]
        found += [_change(full, one, two) for one, two in pairwise(chain)]
    return [change for change in found if change]


def _change(full: Grid, before: System, after: System) -> Change:
    pairs = [(check, full.state(before, check), full.state(after, check)) for check in full.checks]
    checks = [
        (check, was, now)
        for check, was, now in pairs
        if was != now and State.NOT_RUN not in (was, now)
    ]
    # What was tried on one of them only (packed rings) says nothing of the other.
    both = {check for check, was, now in pairs if was == now == State.WORKS}
    gained, lost = feature_changes(full.features(before, both), full.features(after, both))
    return Change(before, after, tuple(checks), gained, lost)


def feature_changes(
    before: Mapping[str, Iterable[str]], after: Mapping[str, Iterable[str]]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Gained and lost, by device, of devices that both have."""
    both = [device for device in after if device in before]
    gained = {device: tuple(sorted({*after[device]} - {*before[device]})) for device in both}
    lost = {device: tuple(sorted({*before[device]} - {*after[device]})) for device in both}
    return _some(gained), _some(lost)


def _some(found: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {device: names for device, names in found.items() if names}

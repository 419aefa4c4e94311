"""What the page of a history is made of: plain facts, already judged. Who fills them in is no matter here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What has become of a change for the worse."""

    NEW = "new"  # nobody was told yet
    OPEN = "open"
    REPORT_ONLY = "report only"  # its host has not passed its A/A check
    ACKNOWLEDGED = "acknowledged"

    @property
    def certain(self) -> bool:
        """Whether somebody has yet to look at it."""
        return self in (State.NEW, State.OPEN)


@dataclass(frozen=True, slots=True)
class Point:
    """A run's point. ``value`` is in the trend's unit; ``subject`` and ``control`` are medians of sessions in
    the figure's own, ``control`` None where the run had no control guest. ``started`` is ISO 8601 in UTC."""

    run: int
    started: str
    value: float
    subject: float
    control: float | None
    sessions: int
    controls: int
    tracked: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a run records and that another run has otherwise."""

    name: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Level:
    """Points ``first`` to before ``end`` of a trend, as its own indices: one level. ``changes``: what is not
    the same in the run before it and in its first."""

    first: int
    end: int
    centre: float
    changes: Sequence[Change] = ()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of a stretch of points, each in the trend's unit."""

    label: str
    runs: int
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was pinned: the level of the points up to ``last``, an index of the trend (below 0: before it)."""

    run: int
    last: int
    centre: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A series as it is drawn: its newest points, with ``earlier`` ones left out.

    ``made_by`` is what it was measured on and by, name and value. ``unit`` is the points', ``own_unit`` that
    of the figure; ``controlled`` says that they are ratios to a control guest. ``recorded`` is what
    ``tracked`` is of a point: kernel, QEMU or image.
    """

    id: str
    title: str
    unit: str
    own_unit: str
    better: str
    controlled: bool
    recorded: str
    made_by: Sequence[tuple[str, str]]
    points: Sequence[Point]
    levels: Sequence[Level]
    sessions: Sequence[Sessions]
    earlier: int = 0
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Regression:
    """A change for the worse that still holds. ``first`` is the trend's first bad point; ``good`` is the last
    before it and ``bad`` that one itself, of a drift the newest; ``changes`` are between these two.

    ``ratio`` is after / before, its interval ``low`` to ``high`` at ``confidence``. ``again`` are commands,
    each with what it does. ``alert`` is its number once it was told, ``told`` when, ``why`` what was said of
    it.
    """

    trend: Trend
    state: State
    drift: bool
    first: int
    ratio: float
    low: float
    high: float
    confidence: float
    p: float
    n_before: int
    n_after: int
    good: Point
    bad: Point
    changes: Sequence[Change]
    again: Sequence[tuple[str, str]]
    alert: int | None = None
    told: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A series in the overview: ``recent`` points, oldest first. ``state`` where it has got worse, ``judged``
    whether there are enough points to say."""

    id: str
    figure: str
    rest: str  # of the title
    unit: str
    better: str
    points: int
    recent: Sequence[float]
    controlled: bool
    judged: bool
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A host's A/A check: whether it passed (None: there is too little for one), and that in words."""

    passed: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Past:
    """An alert of before whose change does not hold any more."""

    alert: int
    text: str
    told: str
    why: str


@dataclass(frozen=True, slots=True)
class History:
    """A whole history, judged. ``regressions`` have sections, the worst first; ``untold`` is how many more
    there are, whose series only stand in the overview. ``named`` are the series that were asked for."""

    source: str
    subject: str
    made: str  # ISO 8601 in UTC
    version: str
    runs: int
    points: int
    first: str
    last: str
    rows: Sequence[Row]
    hosts: Sequence[Host]
    regressions: Sequence[Regression] = ()
    untold: int = 0
    named: Sequence[Trend] = ()
    past: Sequence[Past] = ()
    notes: Sequence[str] = field(default_factory=tuple)

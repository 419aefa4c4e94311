"""What a history says: has a series got worse, by how much, how surely, since when. Nothing here stores.

All tests are on logarithms of points, one point a run. Beside a change stand as few as three points, so the
test is Student's with one variance for both sides: Welch's has two degrees of freedom then, and a permutation
test of 20 against 3 cannot say less than 1/1771.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import special

from virtproof.history.detectors import LEAST, MAX_P, Detector
from virtproof.history.points import Series

CHANGE = 0.05  # smaller is not told, however sure
BEFORE, AFTER = 20, LEAST  # points of history, and since the change
DRIFT = 10  # points, and of the pinned baseline
WINDOW = 200  # points that are looked at: what changed before was told when it was young
NEAR = 3  # points by which a change may be placed elsewhere when more of it is known
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Found:
    """A change for the worse of one series: of points ``[before)`` to the level from ``first`` on (indices of
    the series). ``ratio`` is after / before; its interval is ``low`` to ``high`` at ``CONFIDENCE``."""

    series: Series
    kind: Literal["step", "drift"]
    first: int
    ratio: float
    low: float
    high: float
    p: float
    n_before: int
    n_after: int

    @property
    def last_good(self) -> int:
        return self.first - 1


@dataclass(frozen=True, slots=True)
class Test:
    """Two groups of logarithms against each other."""

    __test__ = False

    ratio: float
    low: float
    high: float
    p: float


def compare(before: Any, after: Any) -> Test:
    """Student's t, one variance, two-sided."""
    n, m = len(before), len(after)
    difference = float(np.mean(after) - np.mean(before))
    squares = float(np.var(before) * n + np.var(after) * m)
    error = math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m)) if n + m > 2 else math.inf
    if error < 1e-12:
        p = 1.0 if abs(difference) < 1e-9 else 0.0
        return Test(math.exp(difference), math.exp(difference), math.exp(difference), p)
    p = float(2 * special.stdtr(n + m - 2, -abs(difference) / error))
    reach = float(special.stdtrit(n + m - 2, (1 + CONFIDENCE) / 2)) * error
    return Test(math.exp(difference), math.exp(difference - reach), math.exp(difference + reach), p)


def levels(logs: Any, detector: Detector) -> list[int]:
    """Where the series changes surely and by ``CHANGE`` or more: the detector's candidates, less the weakest
    as long as there is one that does not."""
    marks = [0, *detector.changes([float(one) for one in logs]), len(logs)]
    while len(marks) > 2:
        tests = [
            compare(logs[start:mark], logs[mark:end])
            for start, mark, end in zip(marks, marks[1:], marks[2:], strict=False)
        ]
        worst = max(range(len(tests)), key=lambda at: tests[at].p)
        if tests[worst].p <= MAX_P:
            worst = min(range(len(tests)), key=lambda at: abs(math.log(tests[at].ratio)))
            if _matters(tests[worst].ratio):
                break
        del marks[worst + 1]
    return marks[1:-1]


def step(series: Series, detector: Detector) -> Found | None:
    """The newest change for the worse that still holds; None where there is none, or too little history."""
    offset = max(0, len(series) - WINDOW)
    logs = np.log(series.values[offset:])
    if len(series) < BEFORE + AFTER:
        return None
    marks = [0, *levels(logs, detector), len(logs)]
    for at in range(len(marks) - 2, 0, -1):
        start, mark, end = marks[at - 1], marks[at], marks[at + 1]
        if offset + mark < BEFORE or end - mark < AFTER:
            continue
        test = compare(logs[start:mark], logs[mark:end])
        now = math.exp(float(np.mean(logs[marks[-2] :]) - np.mean(logs[start:mark])))
        if _worse(series, test.ratio) and _worse(series, now):
            return _found(series, "step", offset + mark, test, mark - start, end - mark)
    return None


def drift(series: Series, pinned: int) -> Found | None:
    """The last ten points against those up to the pinned one, where none is in both."""
    baseline = np.log(series.values[max(0, pinned + 1 - DRIFT) : pinned + 1])
    first = len(series) - DRIFT
    if len(baseline) < LEAST or first <= pinned:
        return None
    test = compare(baseline, np.log(series.values[first:]))
    if test.p > MAX_P or not _worse(series, test.ratio):
        return None
    return replace(_found(series, "drift", first, test, len(baseline), DRIFT), first=pinned + 1)


def _found(
    series: Series, kind: Literal["step", "drift"], first: int, test: Test, n: int, m: int
) -> Found:
    return Found(series, kind, first, test.ratio, test.low, test.high, test.p, n, m)


def _matters(ratio: float) -> bool:
    """Whether a change is one of ``CHANGE`` or more: 5 % less, or what would have to lose 5 % to be back."""
    return abs(math.log(ratio)) >= -math.log1p(-CHANGE) - 1e-9


def _worse(series: Series, ratio: float) -> bool:
    return _matters(ratio) and (ratio < 1) == (series.better == "higher")

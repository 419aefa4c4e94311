"""A host's A/A check: does it find nothing where nothing has changed? Until it does, its alerts are reports.

Groups of points of one series are relabelled A and B, and held against each other. They are taken in order:
a host that drifts differs from itself in that order only, and labels drawn at random would always pass.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from virtproof.history.judge import BEFORE, WINDOW
from virtproof.history.points import Series

PAIRS = 200
GROUP = 5  # points a side
LEVEL = 0.01
ALLOWED = 5  # of the pairs below that level
SEED = 20  # the same history is to be judged alike each time


@dataclass(frozen=True, slots=True)
class Alike:
    """``pairs`` of groups were held against each other, and ``below`` of them "differed" at ``LEVEL``; no
    pairs: no series is long enough yet."""

    host: str
    pairs: int
    below: int

    @property
    def passed(self) -> bool:
        return self.pairs >= PAIRS and self.below <= ALLOWED


def alike(host: str, series: Sequence[Series], changed: Mapping[str, Sequence[int]]) -> Alike:
    """The A/A check on what is stored of a host.

    A pair is five points in a row and five later ones of the same stretch: between them lies none of the
    changes that are known or found now (``changed``, by series' id). 200 are drawn from all series.
    """
    if max((len(one) for one in series), default=0) < BEFORE:
        return Alike(host, 0, 0)
    stretches = [part for one in series for part in _stretches(one, changed.get(one.id, ()))]
    counts = np.cumsum([_pairs(len(part)) for part in stretches])
    total = int(counts[-1]) if len(counts) else 0
    if not total:
        return Alike(host, 0, 0)
    chosen = random.Random(SEED)
    drawn = (
        chosen.sample(range(total), PAIRS)
        if total >= PAIRS
        else chosen.choices(range(total), k=PAIRS)
    )
    groups = []
    for number in drawn:
        at = int(np.searchsorted(counts, number, side="right"))
        groups.append(_pair(stretches[at], number - int(counts[at - 1] if at else 0)))
    both = np.array(groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.ttest_ind(both[:, 0], both[:, 1], axis=1).pvalue
    return Alike(host, PAIRS, int(np.sum(p < LEVEL)))


def _stretches(one: Series, marks: Sequence[int]) -> list[np.ndarray]:
    """Logarithms of the points between changes, where a pair fits in."""
    begin = max(0, len(one) - WINDOW)
    ends = sorted({begin, len(one), *(mark for mark in marks if mark > begin)})
    parts = [np.log(one.values[start:end]) for start, end in pairwise(ends)]
    return [part for part in parts if len(part) >= 2 * GROUP]


def _pairs(length: int) -> int:
    """Two groups of a stretch that do not overlap."""
    free = length - 2 * GROUP + 1
    return free * (free + 1) // 2


def _pair(part: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.triu_indices(len(part) - 2 * GROUP + 1)
    first, second = int(rows[number]), int(columns[number]) + GROUP
    return part[first : first + GROUP], part[second : second + GROUP]

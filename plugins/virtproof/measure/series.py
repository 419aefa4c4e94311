"""What the sessions of one figure come to: their centre, with its interval. Of records, for whoever tells.

Centres are geometric means and their intervals t intervals of the logarithms, as in ``measure.statistics``:
so the ratio of two centres over the same blocks is the ratio that a comparison tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from virtproof.measure.measurement import Better, Comparison, Role
from virtproof.measure.results import TestRecord
from virtproof.measure.statistics import CONFIDENCE, LEAST


@dataclass(frozen=True, slots=True)
class Series:
    """The sessions of one figure of one side in one test, in the order of their blocks.

    ``centre`` in ``unit``; ``low`` and ``high`` are None where there are too few sessions for an interval.
    """

    test: str
    image: str
    name: str
    unit: str
    better: Better
    side: str
    role: Role
    profile: str
    blocks: tuple[int, ...]
    values: tuple[float, ...]
    centre: float
    low: float | None
    high: float | None

    @property
    def whose(self) -> str:
        """The side, and that it is the control if it is."""
        return f"{self.side} (control)" if self.role == "control" else self.side

    @property
    def variation(self) -> float | None:
        """Coefficient of variation of the sessions, a fraction."""
        if len(self.values) < LEAST or not self.centre:
            return None
        return float(np.std(self.values, ddof=1) / np.mean(self.values))


def series_of(record: TestRecord) -> list[Series]:
    """A test's figures in the order of their jobs; of each the sides, the one held against others last.

    Turns in a block are by chance, and no order to tell in.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    keys = ("name", "unit", "better", "side", "role", "profile")
    for one in record.measurements:
        groups.setdefault(tuple(one[key] for key in keys), []).append(one)
    figures = dict.fromkeys(key[0] for key in groups)
    compared = [one["a"] for one in record.comparisons] + [one["b"] for one in record.comparisons]
    sides = dict.fromkeys([*compared, *sorted({key[3] for key in groups})])
    ordered = sorted(groups, key=lambda key: ([*figures].index(key[0]), [*sides].index(key[3])))
    return [_series(record, groups[key]) for key in ordered]


def comparisons_of(record: TestRecord) -> list[Comparison]:
    """A test's comparisons as such."""
    return [Comparison(**one) for one in record.comparisons]


def measured(records: Iterable[TestRecord]) -> list[TestRecord]:
    """The records that have something to tell of throughput."""
    return [record for record in records if record.measurements or record.comparisons]


def is_claim(found: Comparison) -> bool:
    """Whether it is one of several figures as one (``statistics.together``): these have no unit."""
    return found.unit == "1"


def centre_of(values: Sequence[float], unit: str) -> tuple[float, float | None, float | None]:
    """Centre, lower and upper end. Of a fraction, which may be 0, the plain mean."""
    logs = unit != "1" and all(value > 0 for value in values)
    numbers = np.log(values) if logs else np.asarray(values, dtype=float)
    mean, n = float(np.mean(numbers)), len(values)
    ends: tuple[float, float] | None = None
    if n >= LEAST:
        spread = float(np.std(numbers, ddof=1)) / math.sqrt(n)
        reach = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread
        ends = mean - reach, mean + reach
    if logs:
        low, high = (math.exp(min(end, 700.0)) for end in ends) if ends else (None, None)
        return math.exp(mean), low, high
    return (mean, max(0.0, ends[0]), ends[1]) if ends else (mean, None, None)


def _series(record: TestRecord, sessions: list[dict[str, Any]]) -> Series:
    sessions = sorted(sessions, key=lambda one: int(one["block"]))
    first = sessions[0]
    image = first["guest"].get("image") or (record.guest.image if record.guest else "")
    values = tuple(float(one["value"]) for one in sessions)
    centre, low, high = centre_of(values, first["unit"])
    return Series(
        record.test,
        str(image),
        first["name"],
        first["unit"],
        first["better"],
        first["side"],
        first["role"],
        first["profile"],
        tuple(int(one["block"]) for one in sessions),
        values,
        centre,
        low,
        high,
    )

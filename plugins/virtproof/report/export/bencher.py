"""Bencher Metric Format: for each benchmark its measures, each with a value and the ends of its interval.

The direction (more or less is better) is a measure's in Bencher, set by its thresholds: hence a measure for
each unit, and two for ratios.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.report.export.named import named_comparisons, named_series

MEASURES = {
    "bit/s": "bits-per-second",
    "B/s": "bytes-per-second",
    "1/s": "operations-per-second",
    "s": "seconds",
    "s/B": "cpu-seconds-per-byte",
    "1": "fraction",
}
RATIOS = {"higher": "ratio", "lower": "ratio-of-costs"}


def bencher(_run: RunRecord, records: Sequence[TestRecord]) -> str:
    """The run's figures and ratios as BMF JSON."""
    made: dict[str, dict[str, dict[str, float]]] = {}
    for name, one in named_series(records).items():
        made[name] = {MEASURES[one.unit]: _metric(one.centre, one.low, one.high)}
    for name, found in named_comparisons(records).items():
        metric = _metric(found.ratio, found.low, found.high)
        made.setdefault(name, {})[RATIOS[found.better]] = metric
    return json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _metric(value: float, low: float | None, high: float | None) -> dict[str, float]:
    metric = {"value": value}
    if low is not None and high is not None:
        metric |= {"lower_value": low, "upper_value": high}
    return metric

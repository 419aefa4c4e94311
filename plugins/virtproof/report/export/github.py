"""github-action-benchmark: one array for ``customBiggerIsBetter`` and one for ``customSmallerIsBetter``.

It charts whatever unit it is given, so that these never change with the value: Mbit/s, MiB/s, IOPS ...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from virtproof.measure.measurement import Better
from virtproof.measure.results import TestRecord
from virtproof.measure.store import clean_line
from virtproof.report.export.named import named_comparisons, named_series

UNITS = {
    "bit/s": (1e6, "Mbit/s"),
    "B/s": (2.0**20, "MiB/s"),
    "1/s": (1.0, "IOPS"),
    "s": (1e-6, "\N{MICRO SIGN}s"),
    "s/B": (2.0**-30, "s/GiB"),
    "1": (0.01, "%"),
}


def github(records: Sequence[TestRecord], better: Better) -> str:
    """The array of what is better in that direction; the action refuses an empty one."""
    made: list[dict[str, Any]] = []
    for name, one in named_series(records).items():
        if one.better == better:
            factor, unit = UNITS[one.unit]
            extra = clean_line(f"{len(one.values)} sessions, {one.profile}")
            made.append(_entry(name, unit, (one.centre, one.low, one.high), factor, extra))
    for name, found in named_comparisons(records).items():
        if found.better == better:
            extra = f"{found.n} blocks: {found.verdict}"
            made.append(_entry(name, "x", (found.ratio, found.low, found.high), 1.0, extra))
    return json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(
    name: str,
    unit: str,
    numbers: tuple[float, float | None, float | None],
    factor: float,
    extra: str,
) -> dict[str, Any]:
    value, low, high = numbers
    entry = {"name": name, "unit": unit, "value": value / factor, "extra": extra}
    if low is not None and high is not None:
        entry["range"] = f"{low / factor:.4g} to {high / factor:.4g}"
    return entry

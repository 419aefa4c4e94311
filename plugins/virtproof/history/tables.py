"""A history as text: the series, one series' points, and all points for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from virtproof.history.points import Series
from virtproof.history.store import Contents

FIELDS = (
    *("series", "name", "device", "shape", "image", "kernel", "qemu", "accel", "host", "tool"),
    *("tool_version", "job", "better", "unit", "basis", "run", "started", "value", "sessions"),
    "control_sessions",
)


def overview(series: Sequence[Series], contents: Contents) -> Iterator[str]:
    """The series, a line each, and the alerts."""
    rows = [("series", "points", "last", "unit", "pinned", "what")]
    pins = contents.pins
    for one in series:
        pinned = str(pins.get(one.id, "-"))
        last = f"{one.values[-1]:.4g}"
        rows.append((one.id, str(len(one)), last, one.unit, pinned, one.title))
    yield from _aligned(rows)
    for alert in contents.alerts:
        state = f"acknowledged: {alert.why}" if alert.acknowledged else "open"
        yield f"alert {alert.id} ({alert.found[:10]}, {state}): {alert.text}"


def points(one: Series, contents: Contents, subject: str) -> Iterator[str]:
    """One series: what it is of, and its points."""
    yield f"{one.id}: {one.title}"
    yield "  ".join(f"{name}={value}" for name, value in one.key.items())
    yield f"{one.better} is better; {one.basis}; in {one.unit}"
    if len(one) == 1:
        yield "one point: nothing to compare it with yet"
    alerts = {alert.first_bad: alert.id for alert in contents.alerts if alert.series == one.id}
    pinned = contents.pins.get(one.id)
    rows = [("run", "start", "value", "sessions", "control", subject, "")]
    for row in _rows(one, contents, subject):
        note = f"alert {alerts[row['run']]}" if row["run"] in alerts else ""
        note = f"{note} pinned".strip() if row["run"] == pinned else note
        told = (row["run"], row["started"][:16], f"{row['value']:.5g}", row["sessions"])
        rows.append((*map(str, told), str(row["control_sessions"]), row[subject], note))
    yield from _aligned(rows)


def export(
    series: Sequence[Series], contents: Contents, subject: str, form: str, to: TextIO
) -> None:
    """All points: CSV with a header, or a JSON object a line."""
    rows = (row for one in series for row in _rows(one, contents, subject))
    if form == "csv":
        writer = csv.DictWriter(to, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            to.write(json.dumps(row) + "\n")


def _rows(one: Series, contents: Contents, subject: str) -> Iterator[dict[str, Any]]:
    same = {**one.key, "series": one.id, "basis": one.basis, "unit": one.unit}
    columns = (one.runs, one.values, one.tracked, one.sessions, one.controls)
    for at, value, tracked, sessions, controls in zip(*columns, strict=True):
        run = contents.runs[at]
        told = {**same, subject: tracked, "run": run["id"], "started": run["started"]}
        told |= {
            "value": float(value),
            "sessions": int(sessions),
            "control_sessions": int(controls),
        }
        yield {name: told[name] for name in FIELDS}


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()

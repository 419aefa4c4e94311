"""A trend's charts, each with a table of the same figures beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from virtproof.report.forest import exact
from virtproof.report.markup import Markup, el, join
from virtproof.report.trends import charts
from virtproof.report.trends.facts import Change, Level, Point, Sessions, Trend
from virtproof.report.trends.told import unit_of
from virtproof.report.units import Told, percent, significant, told_in

_DASH = "\N{EN DASH}"


def figures(one: Trend, name: str, bad: int | None) -> list[Markup]:
    """Points and sessions, and every point in a fold. ``bad`` is the first point of the change meant."""
    unit = "ratio to the control guest" if one.controlled else _unit(one).label
    better = "more is better" if one.better == "higher" else "less is better"
    left = f"; {one.earlier} earlier points left out" if one.earlier else ""
    runs = el("figcaption", el("b", "By run"), f" {_DASH} {unit}, {better}{left}")
    lie = el("figcaption", el("b", "Sessions"), f" {_DASH} each a guest of its own; line: median")
    return [
        el("figure", runs, charts.history(one, f"{name}-runs", bad), _levels(one), class_="plot"),
        el("figure", lie, charts.sessions(one, f"{name}-sessions"), _sessions(one), class_="plot"),
        _points(one),
    ]


def changed(change: Change) -> Markup:
    """``kernel 6.1.0-28 → 6.1.0-29``."""
    return join(f"{change.name} ", el("code", change.was), " → ", el("code", change.now))


def _unit(one: Trend) -> Told:
    return unit_of(one.unit, max(point.value for point in one.points))


def _levels(one: Trend) -> Markup:
    unit = _unit(one)
    rows = [_level_row(one, number, level, unit) for number, level in enumerate(one.levels)]
    if one.baseline:
        centre = exact(one.baseline.centre, unit(one.baseline.centre))
        pinned = [f"up to run {one.baseline.run}", centre, ""]
        rows.append(_cells("pinned", pinned))
    return _table(("", "Since", "Level", "What changed there"), rows, "figures levels")


def _level_row(one: Trend, number: int, level: Level, unit: Told) -> Markup:
    first = one.points[level.first]
    since = f"run {first.run}, {first.started[:10]}"
    points = el("small", f"{level.end - level.first} points")
    if not number:
        centre = exact(level.centre, unit(level.centre))
        return _cells(_DASH, [join(since, " ", points), centre, ""])
    moved = el("small", f"{(level.centre / one.levels[number - 1].centre - 1) * 100:+.1f} %")
    parts = [el("div", changed(change)) for change in level.changes]
    centre = join(exact(level.centre, unit(level.centre)), " ", moved)
    what = join(*parts) if parts else "nothing that a run records"
    return _cells(charts.letter(number - 1), [join(since, " ", points), centre, what])


def _sessions(one: Trend) -> Markup:
    unit = unit_of(one.unit, max(value for row in one.sessions for value in row.values))
    rows = [_session_row(row, unit) for row in one.sessions]
    return _table(("Sessions", "Median", "Middle half", "Variation"), rows)


def _session_row(row: Sessions, unit: Told) -> Markup:
    ordered = sorted(row.values)
    low, high = (ordered[math.floor(share * (len(ordered) - 1))] for share in (0.25, 0.75))
    middle = charts.median(ordered)
    half = join(exact(low, unit.number(low)), " to ", exact(high, unit.number(high)))
    count = el("small", f"{len(ordered)} of {row.runs} runs")
    return _cells(
        join(row.label, " ", count), [exact(middle, unit(middle)), half, _variation(row.values)]
    )


def _variation(values: Sequence[float]) -> str:
    """The standard deviation as a fraction of the mean."""
    if len(values) < 2:
        return _DASH
    mean = sum(values) / len(values)
    square = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return percent(math.sqrt(square) / mean)


def _points(one: Trend) -> Markup:
    """Every point that is drawn."""
    own = told_in(one.own_unit, max(point.subject for point in one.points))
    rows = [_point_row(point, own) for point in reversed(one.points)]
    heads = ("Run", "Point", f"Median, {own.label}", "Control", "Sessions", one.recorded)
    summary = el("summary", f"Every point ({len(one.points)}), the newest first")
    return el("details", summary, _table(heads, rows))


def _point_row(point: Point, own: Told) -> Markup:
    control = _DASH if point.control is None else own.number(point.control)
    count = f"{point.sessions} + {point.controls}" if point.controls else str(point.sessions)
    return _cells(
        join(str(point.run), " ", el("small", point.started[:16].replace("T", " "))),
        [
            exact(point.value, significant(point.value)),
            own.number(point.subject),
            control,
            count,
            el("code", point.tracked),
        ],
    )


def _table(heads: Sequence[str], rows: Sequence[Markup], class_: str = "figures") -> Markup:
    return el(
        "table",
        el("thead", el("tr", *[el("th", said, scope="col") for said in heads])),
        el("tbody", *rows),
        class_=class_,
    )


def _cells(head: str, cells: Sequence[str]) -> Markup:
    return el("tr", el("th", head, scope="row"), *[el("td", cell) for cell in cells])

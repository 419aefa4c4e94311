"""A trend as charts: its points by run with levels and what changed, its sessions, and a line of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from virtproof.report import chart
from virtproof.report.markup import Markup, el
from virtproof.report.trends.facts import Change, Level, Point, Trend
from virtproof.report.trends.told import unit_of
from virtproof.report.units import significant, told_in

LEFT, RIGHT = 11.0, 1.5  # per cent: on the left stand the ticks' numbers
_MAIN, _LOWER, _LABEL, _GAP = 170.0, 90.0, 16.0, 30.0
_LABELS = 6  # changes that get a line of their own above the chart
_WORDS = 24  # characters of it, as a phone has room for
_BINS = 32
_BARS = 34.0
SPARK = (120, 22)  # pixels


@dataclass(frozen=True, slots=True)
class Panel:
    """A band of a chart, ``top`` to ``bottom`` in pixels, for values between ``low`` and ``high``."""

    top: float
    bottom: float
    low: float
    high: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))


def letter(number: int) -> str:
    """The name of a trend's change: A, B ... Z, then by number."""
    return chr(ord("A") + number) if number < 26 else f"#{number + 1}"


def in_short(changes: Sequence[Change]) -> str:
    """What changed, for a chart: one thing with its value, of several the names."""
    if not changes:
        return "nothing recorded"
    if len(changes) == 1:
        return f"{changes[0].name} {changes[0].now}"
    return ", ".join(change.name for change in changes)


def history(trend: Trend, name: str, bad: int | None = None) -> Markup:
    """The points by run: levels, changes (``bad`` is the first point of the one that is meant), the baseline;
    below them what subject and control guest themselves did."""
    marks = [level.first for level in trend.levels[1:]]
    top = _LABEL * min(len(marks), _LABELS) + 8
    told = unit_of(trend.unit, max(point.value for point in trend.points))
    values = [point.value / told.factor for point in trend.points]
    if trend.baseline:
        values.append(trend.baseline.centre / told.factor)
    panel = _panel(values, top, _MAIN)
    parts: list[str] = [*_grid(panel, chart.tick_label)]
    parts += _changes(trend.levels[1:], len(trend.points), panel, bad)
    parts += [_dot(trend, at, panel, told.factor) for at in range(len(trend.points))]
    parts += _levels(trend, panel, told.factor)
    parts += _baseline(trend, panel, told.factor)
    bottom = panel.bottom
    if any(point.control is not None for point in trend.points):
        lower, made = _own(trend, bottom + _GAP)
        parts += made
        bottom = lower.bottom
    parts += _dates(trend.points, bottom)
    return chart.svg(name, f"{trend.title}, by run", _described(trend), bottom + 20, *parts)


def _across(at: float, count: int) -> float:
    return LEFT + (100 - LEFT - RIGHT) * (at + 0.5) / count


def _panel(values: Sequence[float], top: float, height: float) -> Panel:
    """Holds all values; never less than 10 % from end to end, or noise would look like news."""
    low, high = min(values), max(values)
    middle = (low + high) / 2
    reach = max((high - low) / 2 * 1.1, middle * 0.05, 1e-300)
    return Panel(top, top + height, middle - reach, middle + reach)


def _grid(panel: Panel, label: Callable[[float], str]) -> list[Markup]:
    found = []
    for tick in chart.nice_ticks(panel.low, panel.high, 3):
        y = panel.y(tick)
        found.append(chart.level(LEFT, 100 - RIGHT, y, "grid"))
        found.append(chart.text(LEFT - 1.2, y + 4, label(tick), "tick", "end"))
    return found


def _changes(levels: Sequence[Level], count: int, panel: Panel, bad: int | None) -> list[Markup]:
    found = []
    for number, level in enumerate(levels):
        x = _across(level.first - 0.5, count)
        row = min(number, _LABELS - 1)
        y = _LABEL * row + 12
        class_ = "change failed" if level.first == bad else "change"
        found.append(chart.upright(x, y - 10, panel.bottom, class_))
        said = letter(number)
        if number < _LABELS:
            short = in_short(level.changes)
            short = f"{short[: _WORDS - 1]}…" if len(short) > _WORDS else short
            said = f"{said}: {short}"
        left = x < 50
        place = x + (0.8 if left else -0.8)
        found.append(chart.text(place, y, said, "name", "start" if left else "end"))
    return found


def _dot(trend: Trend, at: int, panel: Panel, factor: float) -> Markup:
    """A point; what it is is told when one points at it."""
    point = trend.points[at]
    said = f"run {point.run}, {point.started[:10]}: {significant(point.value / factor)}"
    return el(
        "circle",
        el("title", f"{said}, {trend.recorded} {point.tracked}"),
        cx=f"{_across(at, len(trend.points)):.2f}%",
        cy=f"{panel.y(point.value / factor):.1f}",
        r="2.6",
        class_="point",
    )


def _levels(trend: Trend, panel: Panel, factor: float) -> list[Markup]:
    count = len(trend.points)
    return [
        chart.level(
            _across(level.first - 0.4, count),
            _across(level.end - 0.6, count),
            panel.y(level.centre / factor),
            "centre-line",
        )
        for level in trend.levels
    ]


def _baseline(trend: Trend, panel: Panel, factor: float) -> list[Markup]:
    if trend.baseline is None:
        return []
    count = len(trend.points)
    y = panel.y(trend.baseline.centre / factor)
    begin = _across(max(-0.5, trend.baseline.last), count)
    return [
        chart.level(begin, 100 - RIGHT, y, "floor"),
        chart.text(100 - RIGHT, y - 5, "pinned baseline", "tick", "end"),
    ]


def _own(trend: Trend, top: float) -> tuple[Panel, list[Markup]]:
    """Medians of subject and control in the figure's own unit: what moved, the guest or the host."""
    count = len(trend.points)
    most = max(max(point.subject, point.control or 0.0) for point in trend.points)
    told = told_in(trend.own_unit, most)
    values = [point.subject / told.factor for point in trend.points]
    values += [point.control / told.factor for point in trend.points if point.control is not None]
    panel = _panel(values, top, _LOWER)
    found = [*_grid(panel, chart.tick_label)]
    found.append(chart.text(LEFT, top - 8, f"● guest  ○ control guest, {told.label}", "name"))
    for at, point in enumerate(trend.points):
        x = _across(at, count)
        if point.control is not None:
            found.append(chart.dot(x, panel.y(point.control / told.factor), 2.4, "frozen"))
        found.append(chart.dot(x, panel.y(point.subject / told.factor), 2.0, "point"))
    return panel, found


def _dates(points: Sequence[Point], bottom: float) -> list[Markup]:
    """The first, the middle and the last run's day."""
    places = sorted({0, len(points) // 2, len(points) - 1})
    if len(points) < 8:
        places = places[:1]
    found = []
    for at in places:
        x = _across(at, len(points))
        anchor = "start" if at == 0 else "end" if at == len(points) - 1 else "middle"
        found.append(chart.text(x, bottom + 16, points[at].started[:10], "tick", anchor))
    return found


def _described(trend: Trend) -> str:
    told = unit_of(trend.unit, max(point.value for point in trend.points))
    return "; ".join(
        f"from {trend.points[level.first].started[:10]} {told(level.centre)}"
        for level in trend.levels
    )


# --- sessions ---------------------------------------------------------------------------------


def sessions(trend: Trend, name: str) -> Markup:
    """How the sessions of each stretch lie: a histogram a row, all on one scale."""
    values = [value for row in trend.sessions for value in row.values]
    told = unit_of(trend.unit, max(values))
    low, high = min(values) / told.factor, max(values) / told.factor
    reach = max((high - low) / 2, (high + low) / 2 * 0.02)
    scale = chart.Scale((low + high) / 2 - reach, (low + high) / 2 + reach)
    bottom = (_BARS + 24) * len(trend.sessions)
    ticks = chart.nice_ticks(scale.low, scale.high)
    parts: list[str] = [*chart.axis(scale, ticks, 0, bottom, chart.tick_label)]
    for number, row in enumerate(trend.sessions):
        top = (_BARS + 24) * number
        said = f"{row.label}: {len(row.values)} sessions of {row.runs} runs"
        parts.append(chart.text(0, top + 13, said, "name"))
        parts += _bars([value / told.factor for value in row.values], scale, top + 20)
    said = "; ".join(f"{row.label}: median {told(median(row.values))}" for row in trend.sessions)
    title = f"Sessions of {trend.title}, {told.label}"
    return chart.svg(name, title, said, bottom + 20, *parts)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _bars(values: Sequence[float], scale: chart.Scale, top: float) -> list[Markup]:
    counts = [0] * _BINS
    for value in values:
        share = (value - scale.low) / (scale.high - scale.low)
        counts[min(_BINS - 1, max(0, math.floor(share * _BINS)))] += 1
    edges = [scale.low + (scale.high - scale.low) * at / _BINS for at in range(_BINS + 1)]
    most, bottom = max(counts), top + _BARS
    found = [
        chart.bar(scale(left), scale(right), bottom - _BARS * count / most, bottom, "bin")
        for (left, right), count in zip(pairwise(edges), counts, strict=True)
        if count
    ]
    return [*found, chart.upright(scale(median(values)), top - 3, bottom, "median")]


# --- a line -----------------------------------------------------------------------------------


def spark(values: Sequence[float]) -> Markup:
    """A series' recent points as a line as small as a word, each on its own scale."""
    width, height = SPARK
    low, high = min(values), max(values)
    reach = max((high - low) / 2, (high + low) / 2 * 0.05, 1e-300)
    middle = (low + high) / 2
    step = (width - 6) / max(1, len(values) - 1)
    places = [
        (3 + step * at, height / 2 - (height / 2 - 3) * (value - middle) / reach)
        for at, value in enumerate(values)
    ]
    path = "L".join(f"{x:.0f} {y:.1f}" for x, y in places)
    x, y = places[-1]
    return el(
        "svg",
        el("path", d=f"M{path}"),
        el("circle", cx=f"{x:.0f}", cy=f"{y:.1f}", r="2.2"),
        class_="spark",
        width=str(width),
        height=str(height),
        aria_hidden="true",
    )

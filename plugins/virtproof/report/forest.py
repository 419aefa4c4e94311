"""Comparisons as a forest plot and its table: each ratio with its interval, on a logarithmic scale. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from virtproof.measure.measurement import Comparison
from virtproof.measure.series import is_claim
from virtproof.report import chart
from virtproof.report.markup import Markup, el, join
from virtproof.report.units import percent, significant

_ROW, _TOP = 40.0, 4.0
_WIDEST = (
    20.0  # an interval is cut at so many times the outermost ratio: two blocks reach to anywhere
)
# A verdict's shape, its colour (a class of the style sheet) and its sign.
_LOOKS = {
    "faster": ("diamond", "passed", "✓"),
    "improvement": ("diamond", "passed", "✓"),
    "no difference": ("square", "neutral", "="),
    "not shown": ("ring", "skipped", "○"),
    "inconclusive": ("ring", "skipped", "?"),
    "regression": ("cross", "failed", "✗"),
}


@dataclass(frozen=True, slots=True)
class Titles:
    """Of a plot: ``direction`` says which end is the good one."""

    title: str
    direction: str


_HIGHER = Titles("Ratios of rates", "more is better: right of 1")
_LOWER = Titles("Ratios of times and of processor time", "less is better: left of 1")


def word(found: Comparison) -> str:
    """The verdict as it is said: what costs less is cheaper, not faster."""
    return "cheaper" if found.verdict == "faster" and found.unit == "s/B" else found.verdict


def against(found: Comparison) -> str:
    return f"{found.b} / {found.a}"


def forests(comparisons: Sequence[Comparison], name: str) -> list[Markup]:
    """A plot and its table for what is better high, and for what is better low. Claims come first."""
    made = []
    for better, titles in (("higher", _HIGHER), ("lower", _LOWER)):
        mine = [one for one in comparisons if one.better == better]
        mine.sort(key=lambda one: not is_claim(one))
        if mine:
            picture = _plot(mine, f"{name}-{better}", titles)
            caption = el("figcaption", el("b", titles.title), f" \N{EN DASH} {titles.direction}")
            made.append(el("figure", caption, picture, _table(mine), class_="plot"))
    return made


def _plot(comparisons: Sequence[Comparison], name: str, titles: Titles) -> Markup:
    scale = _scale(comparisons)
    bottom = _TOP + _ROW * len(comparisons)
    ticks = chart.log_ticks(scale.low, scale.high)
    children: list[str] = [*chart.axis(scale, ticks, _TOP, bottom, chart.tick_label)]
    children.append(chart.upright(scale(1.0), _TOP, bottom, "one"))
    for number, one in enumerate(comparisons):
        children += _row(one, scale, _TOP + _ROW * number)
    said = "; ".join(f"{one.name}, {against(one)}: {_said(one)}" for one in comparisons)
    title = f"{titles.title}, {titles.direction}"
    return chart.svg(name, title, said, bottom + 20, *children)


def _row(found: Comparison, scale: chart.Scale, top: float) -> list[Markup]:
    kind, class_, _ = _LOOKS[found.verdict]
    y = top + 27.0
    label = "name strong" if is_claim(found) else "name"
    row = [
        chart.text(0, top + 13, f"{found.name}, {against(found)}", label),
        chart.text(100, top + 13, word(found), f"said {class_}", "end"),
    ]
    if found.floor is not None and found.floor != 1.0:
        edge = found.floor if found.better == "higher" else 1 / found.floor
        row.append(chart.upright(scale(edge), y - 8, y + 8, "floor"))
    row += chart.interval(scale, found.low, found.high, y, f"interval {class_}")
    row.append(chart.shape(kind, scale(found.ratio), y, f"centre {class_}"))
    return row


def _scale(comparisons: Sequence[Comparison]) -> chart.Scale:
    """Holds 1, every ratio and every floor; intervals as far as they are of use."""
    ratios = [1.0, *(one.ratio for one in comparisons)]
    ratios += [edge for one in comparisons if one.floor for edge in (one.floor, 1 / one.floor)]
    least, most = min(ratios), max(ratios)
    lows = [max(one.low, least / _WIDEST) for one in comparisons if one.low is not None]
    highs = [min(one.high, most * _WIDEST) for one in comparisons if one.high is not None]
    least, most = min([least, *lows]), max([most, *highs])
    return chart.Scale(min(least * 0.96, 0.96), max(most * 1.04, 1.04), log=True)


def _said(found: Comparison) -> str:
    reach = interval_of(found)
    return f"{significant(found.ratio)} ({reach}), {word(found)}"


def interval_of(found: Comparison) -> str:
    """The interval and how sure it is, in words."""
    if found.low is None or found.high is None:
        return "too few blocks for an interval"
    ends = f"{significant(found.low)} to {significant(found.high)}"
    return f"{ends} at {found.confidence * 100:g} %"


def _table(comparisons: Sequence[Comparison]) -> Markup:
    heads = [el("th", said, scope="col") for said in ("Figure", "Ratio", "Blocks", "Verdict")]
    rows = [_table_row(one) for one in comparisons]
    return el(
        "table",
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="figures",
    )


def _table_row(found: Comparison) -> Markup:
    _, class_, sign = _LOOKS[found.verdict]
    mark = el("span", sign, class_="sign", aria_hidden="true")
    floor = f"floor {found.floor:g}" if found.floor is not None and found.floor != 1.0 else None
    ends = (
        join(
            exact(found.low, significant(found.low)),
            " to ",
            exact(found.high, significant(found.high)),
            f" at {found.confidence * 100:g} %",
        )
        if found.low is not None and found.high is not None
        else interval_of(found)
    )
    return el(
        "tr",
        el("th", found.name, " ", el("small", against(found)), scope="row"),
        el("td", exact(found.ratio, significant(found.ratio)), " ", el("small", ends)),
        el("td", str(found.n)),
        el(
            "td",
            el("span", mark, " ", word(found), class_=f"mark {class_}"),
            _further(found, floor),
        ),
    )


def _further(found: Comparison, floor: str | None) -> Markup | None:
    """What a verdict was reached by: its p, and how small a difference is excluded or would be found."""
    parts = [floor]
    if found.verdict in ("regression", "improvement", "no difference", "inconclusive"):
        parts.append(_p(found.p) if found.p is not None else None)
        if found.margin is not None:
            parts.append(f"none above {percent(found.margin)}")
        elif found.smallest is not None:
            parts.append(f"would find {percent(found.smallest)}")
    said = ", ".join(part for part in parts if part)
    return el("small", said) if said else None


def _p(p: float) -> str:
    return f"p {p:.2g}" if p >= 0.001 else "p < 0.001"


def exact(value: float, said: str) -> Markup:
    """A number as it is told, with the record's own beside it for programs."""
    return el("data", said, value=repr(value))

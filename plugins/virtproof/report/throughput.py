"""The report's section on throughput: for each test that measured, its ratios, rates and sessions.

Every chart has a table of the same figures. Pure; names and sides are texts of whoever wrote the test or
of a guest, and escaped as all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from virtproof.measure.results import TestRecord
from virtproof.measure.series import Series, comparisons_of, measured, series_of
from virtproof.report import chart
from virtproof.report.cases import short_name
from virtproof.report.forest import exact, forests
from virtproof.report.markup import Markup, el, join
from virtproof.report.overview import mark
from virtproof.report.units import Told, percent, significant, told_in

_ROW = 34.0
_STRIP = 40.0
_INTRO = (
    "Sides that were measured beside each other, block by block; a session is one guest with a measurement "
    "of its own. Ratios hold beyond this machine and this hour, rates do not."
)
_QUICK = "quick: sessions of a second, enough for a verdict, not for figures to quote"


def section(records: Sequence[TestRecord]) -> Markup | None:
    """All that was measured; None where nothing was."""
    tests = measured(records)
    if not tests:
        return None
    parts = [_test(record, f"chart-{number}") for number, record in enumerate(tests, start=1)]
    heading = el("h2", "Throughput")
    return el("section", heading, el("p", _INTRO, class_="intro"), *parts, id="throughput")


def _test(record: TestRecord, name: str) -> Markup:
    series = series_of(record)
    costs = [one for one in series if one.unit == "s/B"]
    rates = [one for one in series if one.unit != "s/B"]
    return el(
        "article",
        el("h3", mark(record.outcome), " ", short_name(record)),
        _circumstances(record, series),
        *forests(comparisons_of(record), name),
        _rates(rates, f"{name}-rate", "Rates and times"),
        _rates(costs, f"{name}-cost", "What a byte cost QEMU\u2019s processor"),
        _sessions(series, f"{name}-sessions"),
        class_="measured",
    )


def _circumstances(record: TestRecord, series: Sequence[Series]) -> Markup:
    jobs = [one["job"] for one in record.measurements]
    tools = dict.fromkeys(str(job.get("version")) for job in jobs if job.get("version"))
    profiles = dict.fromkeys(one.profile for one in series)
    images = dict.fromkeys(one.image for one in series if one.image)
    parts: list[str] = [el("code", image) for image in images]
    parts += [el("b", _QUICK) if name == "quick" else f"profile {name}" for name in profiles]
    parts += tools
    parts += [el("b", name) for name in record.claims]
    return el("ul", *[el("li", part) for part in parts], class_="inline")


# --- rates ----------------------------------------------------------------------------------


def _rates(series: Sequence[Series], name: str, title: str) -> Markup | None:
    """A panel for each figure, with a row for each side; and one table."""
    if not series:
        return None
    panels, rows = [], []
    for number, (figure, group) in enumerate(groupby(series, key=lambda one: one.name)):
        sides = list(group)
        told = told_in(sides[0].unit, max(one.centre for one in sides))
        panels.append(_panel(figure, sides, told, f"{name}-{number}"))
        rows += [_rate_row(one, told) for one in sides]
    heads = [el("th", said, scope="col") for said in ("Figure", "Mean", "Sessions")]
    table = el("table", el("thead", el("tr", *heads)), el("tbody", *rows), class_="figures")
    caption = el(
        "figcaption", el("b", title), " \N{EN DASH} means with 95 % intervals; faint: sessions"
    )
    return el("figure", caption, el("div", *panels, class_="panels"), table, class_="plot")


def _panel(figure: str, sides: Sequence[Series], told: Told, name: str) -> Markup:
    ends = [one.high for one in sides if one.high is not None]
    most = max(value for one in sides for value in (one.centre, *one.values))
    reach = min(max([most, *ends]), 2 * most)
    scale, ticks = chart.from_zero(reach / told.factor)
    bottom = _ROW * len(sides) + 4
    children: list[str] = [*chart.axis(scale, ticks, 0, bottom, chart.tick_label)]
    for number, one in enumerate(sides):
        top = _ROW * number
        children.append(chart.text(0, top + 13, one.whose, "name"))
        children += _marks(one, scale, told, top + 23)
    better = "more is better" if sides[0].better == "higher" else "less is better"
    said = "; ".join(f"{one.whose}: {_said(one, told)}" for one in sides)
    picture = chart.svg(name, f"{figure} in {told.label}, {better}", said, bottom + 20, *children)
    heading = el("h4", figure, " ", el("small", f"{told.label}, {better}"))
    return el("div", heading, picture)


def _marks(one: Series, scale: chart.Scale, told: Told, y: float) -> list[Markup]:
    faint = [chart.dot(scale(value / told.factor), y, 3.5, "session") for value in one.values]
    ends = [None if end is None else end / told.factor for end in (one.low, one.high)]
    reach = chart.interval(scale, ends[0], ends[1], y, "interval")
    return [*faint, *reach, chart.dot(scale(one.centre / told.factor), y, 4.5, "centre")]


def _said(one: Series, told: Told) -> str:
    if one.low is None or one.high is None:
        return told(one.centre)
    return f"{told(one.centre)} ({told.number(one.low)} to {told.number(one.high)})"


def _rate_row(one: Series, told: Told) -> Markup:
    reach: str = "too few sessions for an interval"
    if one.low is not None and one.high is not None:
        ends = exact(one.low, told.number(one.low)), exact(one.high, told.number(one.high))
        reach = join(ends[0], " to ", ends[1])
    count = join(str(len(one.values)), " ", el("small", one.profile))
    return el(
        "tr",
        el("th", one.name, " ", el("small", one.whose), scope="row"),
        el("td", exact(one.centre, told(one.centre)), " ", el("small", reach)),
        el("td", count),
    )


# --- sessions -------------------------------------------------------------------------------


def _sessions(series: Sequence[Series], name: str) -> Markup | None:
    """How each session lay to the centre of its series: what was noise, and what drifted by block."""
    if not series:
        return None
    several = [one for one in series if len(one.values) > 1 and one.centre > 0]
    parts = [_strips(several, name)] if several else []
    heads = [el("th", said, scope="col") for said in ("Figure", "Sessions by block", "Variation")]
    rows = [_session_row(one) for one in series]
    table = el("table", el("thead", el("tr", *heads)), el("tbody", *rows), class_="figures")
    summary = el("summary", f"Every session ({sum(len(one.values) for one in series)})")
    return el("details", summary, el("figure", *parts, table, class_="plot"))


def _strips(series: Sequence[Series], name: str) -> Markup:
    away = [[value / one.centre - 1 for value in one.values] for one in series]
    most = max(0.01, *(abs(share) for shares in away for share in shares))
    scale = chart.Scale(-most * 100, most * 100)
    bottom = _STRIP * len(series)
    ticks = chart.nice_ticks(scale.low, scale.high)
    children: list[str] = [*chart.axis(scale, ticks, 0, bottom, _away)]
    children.append(chart.upright(scale(0), 0, bottom, "one"))
    for number, (one, shares) in enumerate(zip(series, away, strict=True)):
        top = _STRIP * number
        children.append(chart.text(0, top + 13, f"{one.name}, {one.whose}", "name"))
        step = 16 / max(1, len(shares) - 1)  # the first block above, the last below: drift is seen
        children += [
            chart.dot(scale(share * 100), top + 19 + step * place, 3, "session")
            for place, share in enumerate(shares)
        ]
    said = "; ".join(
        f"{one.name}, {one.whose}: {percent(min(shares))} to {percent(max(shares))}"
        for one, shares in zip(series, away, strict=True)
    )
    title = "Sessions, by how far they lie from the mean of their series"
    caption = el("figcaption", el("b", title), "; the first block above, the last below")
    return join(caption, chart.svg(name, title, said, bottom + 20, *children))


def _away(tick: float) -> str:
    return f"{tick:+g} %" if tick else "0"


def _session_row(one: Series) -> Markup:
    told = told_in(one.unit, one.centre)
    parts: list[str] = []
    for value in one.values:
        parts += [", " if parts else "", exact(value, told.number(value))]
    spread = one.variation
    return el(
        "tr",
        el("th", one.name, " ", el("small", one.whose), scope="row"),
        el("td", *parts, f" {told.label}"),
        el("td", "\N{EN DASH}" if spread is None else f"{significant(spread * 100, 2)} %"),
    )

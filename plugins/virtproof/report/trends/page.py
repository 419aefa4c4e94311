"""The page of a history: what has got worse first, with all that somebody needs to act; then every series.

One file without scripts. Titles, kernels and images are what guests and users said: escaped as all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby

from virtproof.report.frame import head
from virtproof.report.markup import Markup, document, el, join
from virtproof.report.trends import charts, told
from virtproof.report.trends.facts import History, Past, Row, State
from virtproof.report.trends.sections import regression, trend
from virtproof.report.trends.told import Verdict

_OPEN = 40  # rows of the overview that are shown unasked
_LOOKS = {
    State.NEW: ("failed", "✗"),
    State.OPEN: ("failed", "✗"),
    State.REPORT_ONLY: ("skipped", "?"),
    State.ACKNOWLEDGED: ("not-run", "○"),
}


def render(history: History) -> str:
    """The page's text, to be written as UTF-8."""
    verdict = told.verdict(history)
    anchors = _anchors(history)
    shown = {*anchors, *(f"series-{one.id}" for one in history.named)}
    sections = {
        "regressions": _regressions(history, anchors),
        "shown": _named(history),
        "series": _overview(history.rows, shown),
        "past": _past(history.past),
    }
    there = {name: part for name, part in sections.items() if part is not None}
    links = [el("li", el("a", name.capitalize(), href=f"#{name}")) for name in there]
    body = el(
        "body",
        el(
            "main",
            _header(history, verdict),
            el("nav", el("ul", *links, class_="inline"), aria_label="Sections"),
            *there.values(),
        ),
        el("footer", f"Made by Virtproof {history.version} of {history.source} at {history.made}."),
    )
    return document(head(verdict.sentence), body)


def _header(history: History, verdict: Verdict) -> Markup:
    hosts = [
        el("li", host.words, class_=None if host.passed else "doubt") for host in history.hosts
    ]
    notes = [el("li", note) for note in history.notes]
    span = f", {history.first[:10]} to {history.last[:10]}" if history.runs else ""
    return el(
        "header",
        el("p", f"Virtproof history, by {history.subject}", class_="kicker"),
        el("h1", verdict.sentence, class_="verdict"),
        el(
            "p",
            el("span", verdict.badge, class_=f"badge {verdict.class_}"),
            f" {verdict.rest[:1].upper()}{verdict.rest[1:]}.",
            class_="lead",
        ),
        el("p", f"{history.points} points of {history.runs} runs{span}", class_="intro"),
        el("ul", *hosts, *notes, class_="notes") if hosts or notes else None,
    )


def _regressions(history: History, anchors: Sequence[str]) -> Markup | None:
    found = history.regressions
    if not found:
        return None
    parts = [regression(one, anchor) for one, anchor in zip(found, anchors, strict=True)]
    more = (
        f"{history.untold} more stand in the list of series only; --series ID shows one here."
        if history.untold
        else None
    )
    return el(
        "section",
        el("h2", "What has got worse"),
        *parts,
        el("p", more, class_="intro") if more else None,
        id="regressions",
    )


def _anchors(history: History) -> list[str]:
    """A name for each regression's section: its series', or with a number where that has two."""
    names: list[str] = []
    for one in history.regressions:
        name = f"series-{one.trend.id}"
        names.append(f"{name}-{len(names)}" if name in names else name)
    return names


def _named(history: History) -> Markup | None:
    if not history.named:
        return None
    parts = [trend(one, f"series-{one.id}") for one in history.named]
    return el("section", el("h2", "Asked for by --series"), *parts, id="shown")


# --- every series -----------------------------------------------------------------------------


def _overview(rows: Sequence[Row], shown: AbstractSet[str]) -> Markup | None:
    if not rows:
        return None
    heading = el("h2", "Every series")
    intro = el(
        "p",
        "Each line shows the newest points on a scale of its own, never finer than 10 %. "
        "Ratios are to the control guest of the same run.",
        class_="intro",
    )
    if len(rows) <= _OPEN:
        return el("section", heading, intro, _table(rows, shown), id="series")
    parts = []
    for figure, group in groupby(rows, key=lambda row: row.figure):
        these = list(group)
        summary = el("summary", figure, " ", el("small", _summed(these)))
        parts.append(el("details", summary, _table(these, shown)))
    return el("section", heading, intro, *parts, id="series")


def _summed(rows: Sequence[Row]) -> str:
    worse = sum(row.state is not None for row in rows)
    return told.counted(len(rows)) + (f", {worse} worse" if worse else "")


def _table(rows: Sequence[Row], shown: AbstractSet[str]) -> Markup:
    heads = ("Series", "Newest points", "Last", "State")
    return el(
        "table",
        el("thead", el("tr", *[el("th", said, scope="col") for said in heads])),
        el("tbody", *[_row(row, shown) for row in rows]),
        class_="figures trends",
    )


def _row(row: Row, shown: AbstractSet[str]) -> Markup:
    unit = told.unit_of(row.unit, row.recent[-1])
    return el(
        "tr",
        el("th", row.figure, " ", el("small", row.rest), scope="row"),
        el("td", charts.spark(row.recent), el("small", f"{row.points} points")),
        el("td", unit(row.recent[-1]), " ", el("small", f"{_better(row.better)} is better")),
        el("td", _state(row, shown), " ", el("small", el("code", row.id))),
    )


def _better(better: str) -> str:
    return "more" if better == "higher" else "less"


def _state(row: Row, shown: AbstractSet[str]) -> Markup:
    if row.state is None:
        said = "steady" if row.judged else "too few points"
        return el("span", said, class_="mark" if row.judged else "mark not-run")
    class_, sign = _LOOKS[row.state]
    said = join(el("span", sign, class_="sign", aria_hidden="true"), f" {row.state}")
    anchor = f"series-{row.id}"
    if anchor not in shown:
        return el("span", said, class_=f"mark {class_}")
    return el("a", said, href=f"#{anchor}", class_=f"mark {class_}")


# --- what was -----------------------------------------------------------------------------------


def _past(past: Sequence[Past]) -> Markup | None:
    if not past:
        return None
    rows = [
        el("li", f"alert {one.alert} of {one.told[:10]}: {one.text}", _why(one.why)) for one in past
    ]
    return el(
        "section",
        el("h2", "Told before, and no longer so"),
        el("ul", *rows, class_="notes"),
        id="past",
    )


def _why(why: str) -> Markup | None:
    return join(" \N{EN DASH} acknowledged: ", why) if why else None

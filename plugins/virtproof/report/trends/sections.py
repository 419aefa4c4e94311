"""A regression's section: what, how much, how sure, since when, what changed, how to see it again. Pure."""

from __future__ import annotations

from virtproof.report.markup import Markup, el, join
from virtproof.report.trends import told
from virtproof.report.trends.facts import Regression, State, Trend
from virtproof.report.trends.figures import changed, figures

_LOOKS = {
    State.NEW: "failed",
    State.OPEN: "failed",
    State.REPORT_ONLY: "skipped",
    State.ACKNOWLEDGED: "not-run",
}
_BEWARE = "No control guest was measured beside it: it may be the host that changed."
_DRIFT = "Between the pinned run and the newest: a drift has no day of its own."
_HELD = (
    "Its host has not passed its A/A check: a host that differs from itself finds such things, too."
)


def regression(found: Regression, anchor: str) -> Markup:
    """One change for the worse. ``anchor`` is its name on the page."""
    what = "has drifted from its baseline" if found.drift else "has got worse"
    title = el("h3", f"{found.trend.title} {what}: ", el("b", told.change(found)))
    return el(
        "article",
        title,
        _standing(found),
        el("dl", *_answers(found), class_="facts answers"),
        *figures(found.trend, anchor, None if found.drift else found.first),
        class_="case trend" if found.state.certain else "case trend held",
        id=anchor,
    )


def trend(one: Trend, anchor: str) -> Markup:
    """A series that somebody asked for."""
    facts = el("dl", _answer("What", _made_by(one)), class_="facts answers")
    return el(
        "article",
        el("h3", one.title),
        facts,
        *figures(one, anchor, None),
        class_="case trend held",
        id=anchor,
    )


def _standing(found: Regression) -> Markup:
    number = f"alert {found.alert} of {found.told[:10]}" if found.alert else None
    new = "not told yet: ./run history check" if found.state is State.NEW else None
    held = _HELD if found.state is State.REPORT_ONLY else None
    why = join("acknowledged: ", found.why) if found.why else None
    beware = _BEWARE if not found.trend.controlled else None
    parts = [el("li", part) for part in (number, new, held, why, beware) if part]
    badge = el("span", str(found.state), class_=f"badge {_LOOKS[found.state]}")
    return el("ul", el("li", badge), *parts, class_="inline")


# --- answers ----------------------------------------------------------------------------------


def _answers(found: Regression) -> list[Markup]:
    times = el("small", f" ({told.reach(found)})")
    since, last = told.since(found)
    better = "more" if found.trend.better == "higher" else "less"
    commands = [
        join(el("small", f"{what}:"), el("pre", command, tabindex="0"))
        for what, command in found.again
    ]
    return [
        _answer("What", _made_by(found.trend)),
        _answer("How much", join(told.change(found), times, f"; {better} is better")),
        _answer("How sure", told.sure(found)),
        _answer("Since", join(since, el("br"), el("small", last))),
        _answer("Changed", _changed(found)),
        _answer("Again", join(*commands)),
    ]


def _answer(question: str, answer: str) -> Markup:
    return el("div", el("dt", question), el("dd", answer))


def _made_by(one: Trend) -> Markup:
    parts = [el("li", f"{name} ", el("code", value)) for name, value in one.made_by]
    return el("ul", *parts, class_="inline")


def _changed(found: Regression) -> Markup:
    said = [el("li", changed(change)) for change in found.changes]
    if not said:
        said = [el("li", "nothing that a run records")]
    return join(el("ul", *said), el("small", _DRIFT) if found.drift else None)

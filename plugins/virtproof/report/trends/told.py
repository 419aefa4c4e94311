"""A history in words: its verdict, a regression's answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from virtproof.report.trends.facts import History, Point, Regression, State
from virtproof.report.units import Told, percent, told_in

RATIO = "x control"  # a unit: of ratios to the control guest
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``class_`` is the style sheet's: passed, failed, or skipped where nothing is certain."""

    class_: str
    badge: str
    sentence: str
    rest: str


def verdict(history: History) -> Verdict:
    """What is to be known first. Never that all is well where it could not be seen."""
    states = [row.state for row in history.rows]
    certain = sum(state is not None and state.certain for state in states)
    held = states.count(State.REPORT_ONLY)
    known = states.count(State.ACKNOWLEDGED)
    judged = sum(row.judged for row in history.rows)
    rest = f"{judged} of {counted(len(history.rows))} have enough points to be judged"
    rest += (
        f"; {counted(known)} {_have(known)} got worse and {_are(known)} acknowledged"
        if known
        else ""
    )
    if certain:
        rest += (
            f"; {counted(held)} more may have, on hosts that are not trusted yet" if held else ""
        )
        said = f"{counted(certain)} {_have(certain)} got worse"
        return Verdict("failed", "regression", said, rest)
    if held:
        said = f"{counted(held)} may have got worse"
        return Verdict("skipped", "report only", said, f"their host is not trusted yet; {rest}")
    if not judged:
        return Verdict("skipped", "no verdict", "Nothing can be said yet", rest)
    said = "Nothing else has got worse" if known else "Nothing has got worse"
    if judged < len(history.rows):
        said += f" in the {counted(judged)} that can be judged"
    return Verdict("passed", "no regression", said, rest)


def unit_of(unit: str, largest: float) -> Told:
    """What values of a trend are told in: a ratio with a sign for times."""
    return Told(1.0, "\N{MULTIPLICATION SIGN}") if unit == RATIO else told_in(unit, largest)


def counted(number: int) -> str:
    """``1 series``, ``3 series``: the word is the same."""
    return f"{number} series"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def change(found: Regression) -> str:
    """``15.2 % less``."""
    return f"{percent(abs(found.ratio - 1))} {'less' if found.ratio < 1 else 'more'}"


def reach(found: Regression) -> str:
    """The interval of the change, with signs: ``-17 % to -13 %, at 95 %``."""
    ends = sorted((found.low - 1, found.high - 1))
    said = " to ".join(
        f"{'+' if end > 0 else _MINUS if end < 0 else ''}{percent(abs(end))}" for end in ends
    )
    return f"{said}, at {found.confidence * 100:g} %"


def sure(found: Regression) -> str:
    """p, and how many points it rests on."""
    p = f"p = {found.p:.1g}" if found.p > 0 else "p below what can be computed"
    return f"{p}; {found.n_before} points before, {found.n_after} after"


def since(found: Regression) -> tuple[str, str]:
    """Since when, and the last good run."""
    if found.drift:
        return f"some time after {when(found.good)}", f"newest: {when(found.bad)}"
    return when(found.bad), f"last good: {when(found.good)}"


def when(point: Point) -> str:
    return f"run {point.run} of {point.started[:16].replace('T', ' ')}"

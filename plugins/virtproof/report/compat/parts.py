"""Parts of HTML that the compatibility page and the report share: states, and the tally of cells."""

from __future__ import annotations

from collections.abc import Sequence

from virtproof.measure.results import TestRecord
from virtproof.report.compat.grid import State
from virtproof.report.markup import Markup, el, href

PAGE = "compat.html"
SIGNS = {State.WORKS: "✓", State.UNSUPPORTED: "\N{EN DASH}", State.BROKEN: "✗", State.NOT_RUN: "○"}
# Colours are those of the report's outcomes.
CLASSES = {
    State.WORKS: "passed",
    State.UNSUPPORTED: "unsupported",
    State.BROKEN: "failed",
    State.NOT_RUN: "not-run",
}


def mark(state: State, word: str | None = None) -> Markup:
    """Sign and word; colour only underlines them."""
    return el("span", sign(state), " ", word or state.value, class_=f"mark {CLASSES[state]}")


def sign(state: State) -> Markup:
    return el("span", SIGNS[state], class_="sign", aria_hidden="true")


def tally(results: Sequence[TestRecord]) -> Markup | None:
    """The report's section, which leads to the page; None where no test filled a cell."""
    verdicts = [str(record.compat.verdict) for record in results if record.compat]
    if not verdicts:
        return None
    counted = [(state, verdicts.count(name)) for name, state in _VERDICTS]
    return el(
        "section",
        el("h2", "Compatibility"),
        el(
            "ul",
            *[el("li", el("b", str(n)), " ", mark(state)) for state, n in counted if n],
            class_="inline",
        ),
        el("p", el("a", "Images, kernels and checks", href=href(PAGE))),
        id="compatibility",
    )


_VERDICTS = (
    ("works", State.WORKS),
    ("broken", State.BROKEN),
    ("not-supported", State.UNSUPPORTED),
    ("not-run", State.NOT_RUN),
)

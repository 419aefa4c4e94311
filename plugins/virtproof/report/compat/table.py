"""The table of the compatibility page: a row a system, a column a check."""

from __future__ import annotations

from itertools import groupby

from virtproof.report.compat.grid import Grid, State, System
from virtproof.report.compat.parts import CLASSES, mark, sign
from virtproof.report.markup import Markup, el


def table(full: Grid) -> Markup:
    """The matrix, which scrolls by itself where it is wider than the page."""
    kinds = [(kind, len(list(of))) for kind, of in groupby(full.checks, key=kind_of)]
    groups = [el("th", kind, colspan=str(n), scope="colgroup") for kind, n in kinds]
    firsts = _firsts(full)
    names = [
        el("th", el("span", check.partition("/")[2]), scope="col", class_=_edge(check, firsts))
        for check in full.checks
    ]
    head = el("tr", el("th", "Image and kernel", scope="col", rowspan="2"), *groups)
    rows = [_row(full, number, firsts) for number in range(len(full.systems))]
    whole = el("table", el("thead", head, el("tr", *names)), el("tbody", *rows), class_="compat")
    return el(
        "section",
        el("h2", "Matrix"),
        el("ul", *[el("li", mark(state)) for state in State], class_="inline"),
        el("div", whole, class_="scroll", role="region", tabindex="0", aria_label="Matrix"),
        id="matrix",
    )


def anchor(full: Grid, system: System) -> str:
    return f"system-{full.systems.index(system) + 1}"


def kind_of(check: str) -> str:
    return check.partition("/")[0]


def _firsts(full: Grid) -> frozenset[str]:
    return frozenset(next(of) for _, of in groupby(full.checks, key=kind_of))


def _edge(check: str, firsts: frozenset[str]) -> str | None:
    return "first" if check in firsts else None


def _row(full: Grid, number: int, firsts: frozenset[str]) -> Markup:
    system = full.systems[number]
    name = el(
        "th",
        el("a", system.image, href=f"#{anchor(full, system)}"),
        el("small", system.kernel),
        scope="row",
    )
    return el("tr", name, *[_cell(full, system, check, firsts) for check in full.checks])


def _cell(full: Grid, system: System, check: str, firsts: frozenset[str]) -> Markup:
    state = full.state(system, check)
    found = full.cells.get((system, check))
    reason = f": {found.reason}" if found and found.reason else ""
    return el(
        "td",
        sign(state),
        el("span", state.value, class_="unseen"),
        class_=" ".join(filter(None, (CLASSES[state], _edge(check, firsts)))),
        title=f"{check} {state.value}{reason}",
    )

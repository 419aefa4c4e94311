"""The top of the HTML report: verdict, environment and the claims matrix."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from virtproof.measure.results import RunRecord
from virtproof.report.conclusion import Standing, Verdict
from virtproof.report.markup import Markup, el, join
from virtproof.report.verdicts import Cell, Column, Matrix, Row, State

SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "error": "!",
    "skipped": "»",
    "not run": "○",
    "elsewhere": "·",
}
_GROUPS = {
    "HOST": "Host",
    "GUEST": "Guest",
    "NET": "Network",
    "DISK": "Disk",
    "WIN": "Windows",
    "PERF": "Throughput",
}
_TOOLS = ("virtproof", "pytest", "python")
# The worst verdict first, and its class.
_COMPARED = {
    "regression": "failed",
    "inconclusive": "skipped",
    "improvement": "passed",
    "no difference": "passed",
}
_STANDINGS = {
    Standing.CONFORMS: "passed",
    Standing.FAILS: "failed",
    Standing.INCOMPLETE: "skipped",
}


def mark(state: str) -> Markup:
    """A state as sign and word; colour only underlines it."""
    sign = el("span", SIGNS[state], class_="sign", aria_hidden="true")
    return el("span", sign, " ", state, class_=f"mark {state.replace(' ', '-')}")


def header(run: RunRecord, verdict: Verdict) -> Markup:
    """The verdict, what it does not cover, and how many tests it rests on."""
    state = _STANDINGS[verdict.standing]
    sign = el("span", SIGNS[state], class_="sign", aria_hidden="true")
    title, _, rest = verdict.sentence.partition(": ")
    notes = [el("li", note) for note in verdict.notes]
    return el(
        "header",
        el("p", "Virtproof conformance report", class_="kicker"),
        el("h1", title, class_="verdict"),
        el(
            "p",
            el("span", sign, " ", verdict.standing.value, class_=f"badge {state}"),
            " ",
            _sentence(rest),
            class_="lead",
        ),
        el("ul", *notes, class_="notes") if notes else None,
        _tally(run.counts),
    )


def compared_header(
    run: RunRecord, found: Sequence[Mapping[str, Any]], said: str, named: str
) -> Markup:
    """The head of a run that held B against A; ``said`` is what it found, ``named`` the sides."""
    verdicts = {str(one["verdict"]) for one in found}
    worst = next((name for name in _COMPARED if name in verdicts), "no difference")
    return el(
        "header",
        el("p", "Virtproof comparison", class_="kicker"),
        el("h1", said, class_="verdict"),
        el("p", el("span", worst, class_=f"badge {_COMPARED[worst]}"), " ", named, class_="lead"),
        _tally(run.counts),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _tally(counts: Mapping[str, int]) -> Markup:
    total = sum(counts.values())
    shown = [name for name in ("passed", "failed", "error", "skipped") if counts[name]]
    segments = [
        el("span", class_=name.replace(" ", "-"), style=f"flex-grow:{counts[name]}")
        for name in shown
    ]
    words = [
        el("li", el("b", str(counts[name])), " ", mark(name), class_="count") for name in shown
    ]
    return join(
        el("div", *segments, class_="bar", aria_hidden="true"),
        el("ul", el("li", el("b", str(total)), " tests", class_="count"), *words, class_="tally"),
    )


def environment(run: RunRecord, columns: Sequence[Column]) -> Markup:
    """What the run ran on: the facts that explain a result without the evidence."""
    versions, host = run.versions, run.host
    guests = [
        join(
            el("b", column.label),
            f" {column.distribution}" if column.distribution else None,
            " ",
            el("code", column.kernel) if column.kernel else "(kernel unknown)",
            el("br"),
        )
        for column in columns
        if not column.is_host
    ]
    facts: list[tuple[str, str]] = [
        ("Accelerator", join(el("b", run.accelerator["name"].upper()), f" {_why(run)}")),
        ("QEMU", versions.get("qemu") or "unknown"),
        ("libvirt", versions.get("libvirt") or "unknown"),
        ("Host", join(str(host["distribution"]), " ", el("code", str(host["kernel"])))),
        ("CPU", _cpu(host)),
        ("Guests", join(*guests) if guests else "none was started"),
        ("Tools", ", ".join(f"{n} {versions[n]}" for n in _TOOLS if n in versions)),
        ("Time", _time(run)),
        ("Command", el("code", shlex.join(run.command_line))),
    ]
    rows = [el("div", el("dt", name), el("dd", value)) for name, value in facts]
    return el("section", el("h2", "Environment"), el("dl", *rows, class_="facts"), id="environment")


def _cpu(host: Mapping[str, Any]) -> str:
    processors = f"{host['cpus']} \N{MULTIPLICATION SIGN} {host['cpu_model']}"
    return f"{processors}, {host['memory_mib']} MiB of memory"


def _why(run: RunRecord) -> str:
    why = run.accelerator["why"]
    return f"because {why}" if why.startswith("/") else f"\N{EN DASH} {why}" if why else ""


def _time(run: RunRecord) -> str:
    start, end = datetime.fromisoformat(run.start), datetime.fromisoformat(run.end)
    return f"{start:%Y-%m-%d %H:%M} UTC, {duration((end - start).total_seconds())}"


def duration(seconds: float) -> str:
    """Seconds for a reader: ``0.42 s``, ``61.9 s``, ``7 min 33 s``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def claims(full: Matrix, anchors: Mapping[str, str]) -> Markup:
    """The matrix. ``anchors`` leads from a claim's id to its first failure on the page."""
    head = el(
        "tr",
        el("th", "Claim", scope="col", role="columnheader"),
        *[_heading(column) for column in full.columns],
        role="row",
    )
    bodies = [
        el("tbody", _group_row(name, len(full.columns)), *[_row(r, full, anchors) for r in rows])
        for name, rows in groupby(full.rows, key=lambda row: row.claim.group)
    ]
    caption = "Each claim on each guest; what no test touched is not run, never passed."
    table = el(
        "table",
        el("caption", caption),
        el("thead", head, role="rowgroup"),
        *bodies,
        class_="matrix",
        role="table",
    )
    return el("section", el("h2", "Claims"), table, id="claims")


def _heading(column: Column) -> Markup:
    kernel = column.kernel if column.is_host else column.kernel or "kernel unknown"
    details = " · ".join(filter(None, column.details))
    small = [el("small", text) for text in (column.distribution, kernel, details) if text]
    return el("th", el("b", column.label), *small, scope="col", role="columnheader")


def _group_row(name: str, columns: int) -> Markup:
    heading = _GROUPS.get(name, name)
    cell = el("th", heading, colspan=str(columns + 1), scope="colgroup", role="rowheader")
    return el("tr", cell, class_="group", role="row")


def _row(row: Row, full: Matrix, anchors: Mapping[str, str]) -> Markup:
    title = el(
        "th",
        el("code", row.claim.id),
        el("span", row.claim.title, class_="title"),
        el("small", row.claim.text),
        scope="row",
        role="rowheader",
    )
    if not row.touched:
        cell = el(
            "td", _state(row.whole, explain=True), colspan=str(len(full.columns)), role="cell"
        )
        return el("tr", title, cell, role="row", class_="untouched")
    anchor = anchors.get(row.claim.id)
    cells = [
        el(
            "td",
            _state(cell, anchor=anchor),
            data_label=column.label,
            role="cell",
            class_=_tint(cell),
        )
        for column, cell in zip(full.columns, row.cells, strict=True)
    ]
    return el("tr", title, *cells, role="row")


def _tint(cell: Cell) -> str | None:
    return (
        f"is-{cell.state}" if cell.state in (State.FAILED, State.ERROR, State.ELSEWHERE) else None
    )


def _state(cell: Cell, *, anchor: str | None = None, explain: bool = False) -> Markup:
    if cell.state is State.ELSEWHERE:
        return join(
            el("span", SIGNS["elsewhere"], aria_hidden="true", class_="sign"),
            el("span", "not for this column", class_="unseen"),
        )
    shown = mark(cell.state)
    bad = cell.state in (State.FAILED, State.ERROR)
    if bad and anchor:
        shown = el("a", shown, href=f"#{anchor}")
    said = explain or cell.state is State.SKIPPED
    reason = el("small", cell.reason) if said and cell.reason else None
    return el("div", shown, " ", el("span", _tests(cell), class_="of"), reason)


def _tests(cell: Cell) -> str | None:
    total = sum(cell.counts.values())
    mine = cell.counts.get(cell.state.value, 0)
    if total < 2:
        return None
    return f"{mine} of {total}" if mine != total else f"{total} tests"

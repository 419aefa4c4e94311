"""The sections of the compatibility page: one a system, and what changed from kernel to kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from virtproof.report.compat.grid import Change, Filled, Grid, State, System, changes
from virtproof.report.compat.parts import mark
from virtproof.report.compat.switching import THEN, answer
from virtproof.report.compat.table import anchor, kind_of
from virtproof.report.markup import Markup, el, href, join

_TITLES = {"boot": "Boots", "disk": "Disks", "nic": "NICs", "root": "Root disk switched"}
_QUESTION = "Can a root disk be switched to virtio?"


def system_section(full: Grid, system: System, page: Path) -> Markup:
    """What works on one kernel, and the answer to the question that one comes with."""
    cells = full.of(system)
    source = next(iter(cells.values())).source
    facts = [full.distributions.get(system, ""), source.run.accelerator["name"].upper()]
    facts += [f"QEMU {source.run.versions.get('qemu', 'unknown')}", source.run.start[:10]]
    kinds = dict.fromkeys(kind_of(check) for check in cells)
    return el(
        "article",
        el("h3", system.image, " ", el("code", system.kernel)),
        el("ul", *[el("li", fact) for fact in facts if fact], class_="inline"),
        _answer(full, system),
        *[_kind(kind, cells) for kind in kinds],
        _features(full, system),
        _all(cells, page),
        class_="case system",
        id=anchor(full, system),
    )


def _answer(full: Grid, system: System) -> Markup:
    found = answer(full, system)
    how = None
    if found.commands:
        how = join(
            el("p", f"Before it, as root, with {found.tool}:"),
            el("pre", found.commands),
            el("p", THEN),
        )
    return el(
        "div",
        el("p", el("b", _QUESTION), " ", mark(found.state, found.word)),
        el("p", f"{found.why[:1].upper()}{found.why[1:]}."),
        how,
        class_="diagnosis" if found.state is State.BROKEN else "diagnosis wanted",
    )


def _kind(kind: str, cells: dict[str, Filled]) -> Markup:
    """``NICs: works: virtio, e1000; not supported: rtl8139``: by state, and why not."""
    mine = {check.partition("/")[2]: one for check, one in cells.items() if kind_of(check) == kind}
    lines = []
    for state in (State.BROKEN, State.WORKS, State.UNSUPPORTED, State.NOT_RUN):
        names = [name for name, one in mine.items() if one.state is state]
        if not names:
            continue
        whys = dict.fromkeys(mine[name].reason for name in names if mine[name].reason)
        small = el("small", "; ".join(whys)) if state is not State.WORKS and whys else None
        lines.append(el("dd", mark(state), ": ", ", ".join(names), small))
    return el("dl", el("dt", _TITLES.get(kind, kind)), *lines, class_="kind")


def _features(full: Grid, system: System) -> Markup | None:
    """What drivers negotiated, by device: in all checks, and in some."""
    every = full.features(system)
    if not every:
        return None
    rows = []
    for device, names in every.items():
        sets = [one.features[device] for one in full.of(system).values() if device in one.features]
        always = frozenset.intersection(*sets)
        some = el("small", " in some checks: ", _list(names - always)) if names - always else None
        rows.append(
            el("tr", el("th", el("code", device), scope="row"), el("td", _list(always), some))
        )
    table = el("table", el("tbody", *rows), class_="figures")
    return el("details", el("summary", f"Features negotiated, {len(every)} drivers"), table)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _all(cells: dict[str, Filled], page: Path) -> Markup:
    rows = [
        el(
            "tr",
            el("th", el("code", check), scope="row"),
            el("td", mark(one.state), " ", el("small", one.reason) if one.reason else None),
            el("td", *_links(one, page)),
        )
        for check, one in cells.items()
    ]
    table = el("table", el("tbody", *rows), class_="figures")
    return el("details", el("summary", f"All {len(cells)} checks, with their evidence"), table)


def _links(cell: Filled, page: Path) -> list[Markup]:
    """To the evidence of the cell's tests, from where the page lies."""
    found = []
    for record in cell.records:
        folder = cell.source.place / record.evidence if record.evidence else None
        if folder is not None and folder.is_dir():
            steps = Path(os.path.relpath(folder, page.parent)).parts
            found.append(el("a", "evidence", href=f"{href(*steps)}/"))
    return found


def broken(full: Grid, page: Path) -> Markup | None:
    """Every broken cell, at the top of the page: what one has to act on."""
    rows = [
        el(
            "li",
            mark(State.BROKEN, check),
            " ",
            el("a", system.label, href=f"#{anchor(full, system)}"),
            " ",
            *_links(one, page),
            el("small", f" {one.reason}"),
        )
        for (system, check), one in full.cells.items()
        if one.state is State.BROKEN
    ]
    if not rows:
        return None
    return el("section", el("h2", f"Broken ({len(rows)})"), el("ul", *rows), id="broken")


def changed(full: Grid) -> Markup | None:
    """From kernel to kernel of one flavour: what works that did not, and the other way round."""
    found = changes(full)
    if not found:
        return None
    intro = "From the older kernel to the next of the same flavour."
    rows = [_change(full, change) for change in found]
    return el(
        "section", el("h2", "Between kernels"), el("p", intro, class_="intro"), *rows, id="changes"
    )


def _change(full: Grid, change: Change) -> Markup:
    lines = [
        el("dd", el("code", check), " ", mark(was), " → ", mark(now))
        for check, was, now in change.checks
    ]
    for word, by_device in (("gained", change.gained), ("lost", change.lost)):
        lines += [
            el("dd", el("b", word), " ", el("code", device), ": ", ", ".join(names))
            for device, names in by_device.items()
        ]
    title = join(
        el("a", change.before.label, href=f"#{anchor(full, change.before)}"),
        " → ",
        el("a", change.after.label, href=f"#{anchor(full, change.after)}"),
    )
    return el("dl", el("dt", title), *lines, class_="kind")

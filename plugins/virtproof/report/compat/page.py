"""The compatibility page: one file without scripts, whose links lead to the evidence beside the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from virtproof.errors import VirtproofError
from virtproof.report.compat.grid import Grid, Source, State, grid
from virtproof.report.compat.parts import PAGE, mark
from virtproof.report.compat.systems import broken, changed, system_section
from virtproof.report.compat.table import table
from virtproof.report.frame import head
from virtproof.report.markup import Markup, document, el, join


def write_page(sources: Sequence[Source], path: Path) -> bool:
    """Write the page; False, and nothing written, where no test filled a cell."""
    if not any(record.compat for source in sources for record in source.results):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(compat_page(grid(sources), path), encoding="utf-8")
    except OSError as error:
        raise VirtproofError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def page_beside(source: Source) -> None:
    """The page of a single run, beside its report."""
    write_page([source], source.place / PAGE)


def compat_page(full: Grid, path: Path) -> str:
    """The page's text; ``path`` is where it is to lie, as its links are relative."""
    said = sentence(full)
    systems = [system_section(full, system, path) for system in full.systems]
    sections = {
        "broken": broken(full, path),
        "matrix": table(full),
        "changes": changed(full),
        "systems": el("section", el("h2", "Image by image"), *systems, id="systems"),
    }
    links = [
        el("li", el("a", name.capitalize(), href=f"#{name}"))
        for name, section in sections.items()
        if section is not None
    ]
    navigation = el("nav", el("ul", *links, class_="inline"), aria_label="Sections")
    body = el("body", el("main", _header(full, said), navigation, *sections.values()))
    return document(head(said), body)


def sentence(full: Grid) -> str:
    """``6 checks on 2 of 13 kernels are broken``, or that none is."""
    where = [system for (system, _), one in full.cells.items() if one.state is State.BROKEN]
    kernels = f"{len(full.systems)} systems" if len(full.systems) != 1 else "one system"
    if not where:
        return f"Nothing is broken on {kernels}"
    count = "1 check is" if len(where) == 1 else f"{len(where)} checks are"
    return f"{count} broken, on {len(set(where))} of {kernels}"


def _header(full: Grid, said: str) -> Markup:
    counts = Counter(full.state(system, check) for system in full.systems for check in full.checks)
    images = len({system.image for system in full.systems})
    kernels = len({system.kernel for system in full.systems})
    lead = f"Images: {images}. Kernels: {kernels}. Checks: {len(full.checks)}."
    words = [el("li", el("b", str(counts[one])), " ", mark(one)) for one in State if counts[one]]
    return join(
        el(
            "header",
            el("p", "Virtproof compatibility report", class_="kicker"),
            el("h1", said, class_="verdict"),
            el("p", lead, class_="lead"),
            el("ul", *words, class_="tally"),
        )
    )

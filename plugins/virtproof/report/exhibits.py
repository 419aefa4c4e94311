"""How a test's evidence is shown in the HTML report: links, folded texts, XML diffs, picture."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from virtproof.errors import VirtproofError
from virtproof.measure.results import TestRecord
from virtproof.report.evidence import (
    Excerpt,
    Folder,
    domain_diff,
    excerpt,
    open_folder,
    picture,
    switch_title,
)
from virtproof.report.markup import Markup, el, href, join

_PICTURE_BYTES = 200_000
_DIFF_LINES = 400
_MANY = 8  # files of a folder, above which it gets one link
_FOLDED = (
    ("console.log", "Serial console"),
    ("qemu.log", "QEMU log"),
    ("shell-answers.txt", "Answers of the guest's emergency shell"),
    ("host-oom.txt", "Host's messages on memory"),
    ("dmesg.txt", "Guest's kernel messages"),
    ("journal.txt", "Guest's journal"),
    ("transcript.txt", "Commands that were run"),
    ("leases.txt", "Leases"),
)


def exhibits(record: TestRecord, out: Path, show: Callable[[Folder], Markup]) -> Markup | None:
    """Links to the test's evidence and what ``show`` makes of it; a refusal is said, not raised."""
    if not record.evidence:
        return None
    try:
        folder = open_folder(out, record.evidence)
        return join(_links(folder), show(folder))
    except VirtproofError as error:
        return el("p", str(error), class_="refused")
    except OSError as error:
        return el("p", f"evidence cannot be read: {error.strerror}", class_="refused")


def _links(folder: Folder) -> Markup:
    children = folder.children()
    many = [place for place in children if len(place.names()) > _MANY]
    places = [folder, *(place for place in children if place not in many)]
    items = [
        el(
            "li",
            el("a", f"{place.path.name}/", href=href(*place.steps())),
            " (all that was measured)",
        )
        for place in many
    ]
    items += [
        el("li", el("a", "/".join((*below, name)), href=href(*place.steps(), name)))
        for place in places
        for below in [place.path.relative_to(folder.path).parts]
        for name in place.names()
    ]
    label = el("li", "Evidence", class_="label")
    return el("ul", label, *items, class_="inline links")


def everything(folder: Folder) -> Markup:
    """All that explains a failure, folded; a second guest's under its own heading."""
    others = [
        join(el("h4", place.path.name), _evidence_of_guest(place)) for place in folder.children()
    ]
    return join(_evidence_of_guest(folder), *others)


def _evidence_of_guest(folder: Folder) -> Markup:
    diff = domain_diff(folder)
    texts = [folded_text(folder, name, title) for name, title in _FOLDED]
    return join(
        _fold("Domain XML, before and after", switch_title(diff), diff_lines(diff))
        if diff
        else None,
        *texts,
        _screenshot(folder),
    )


def folded_text(folder: Folder, name: str, title: str) -> Markup | None:
    """A file of the evidence, shortened and folded; None if there is no such file."""
    path = folder.file(name)
    if path is None:
        return None
    part = excerpt(path)
    return _fold(title, part.left_out, _excerpt(part))


def _excerpt(part: Excerpt) -> Markup:
    gap = el("span", f"⋯ {part.left_out} ⋯\n", class_="gap") if part.left_out else None
    # The inner element lets the box start scrolled to its end, where a log tells why it ended.
    return el("pre", el("span", part.head, gap, part.tail), class_="log", tabindex="0")


def _fold(title: str, note: str, content: Markup) -> Markup:
    small = el("small", note) if note else None
    return el("details", el("summary", title, " ", small), content)


def diff_lines(lines: Sequence[str]) -> Markup:
    """A unified diff with its signs kept and its lines tinted."""
    kinds = {"+": "add", "-": "del", "@": "hunk"}
    shown = [
        el("span", line, class_=kinds.get(line[:1]) if line[:3] not in ("+++", "---") else "hunk")
        for line in lines[:_DIFF_LINES]
        if line
    ]
    more = len(lines) - _DIFF_LINES
    gap = el("span", f"⋯ {more} lines left out ⋯", class_="gap") if more > 0 else None
    return el("pre", *shown, gap, class_="diff", tabindex="0")


def _screenshot(folder: Folder) -> Markup | None:
    data = picture(folder, _PICTURE_BYTES)
    if data is None:
        return None
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return _fold("Screenshot", "", el("img", src=source, alt="The guest's display at the end"))

"""The body of the HTML report: failures, switches, skipped and slow tests, and the whole list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from virtproof.errors import VirtproofError
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.report.evidence import Folder, domain_diff, open_folder, switch_title
from virtproof.report.exhibits import diff_lines, everything, exhibits, folded_text
from virtproof.report.junit import guest_id
from virtproof.report.markup import Markup, el, join
from virtproof.report.overview import duration, mark

_REASON_LINES = 40
_SLOWEST = 10


def short_name(record: TestRecord) -> str:
    """The test's own name, with its parameters."""
    path, _, name = record.test.partition("::")
    return name or path


def failures(records: Sequence[TestRecord], anchors: Mapping[int, str], out: Path) -> Markup:
    """Each failed test: what was diagnosed, why it failed, and its evidence."""
    articles = [_failure(r, anchors[id(r)], out) for r in records if id(r) in anchors]
    return el("section", el("h2", f"Failures ({len(articles)})"), *articles, id="failures")


def _failure(record: TestRecord, anchor: str, out: Path) -> Markup:
    return el(
        "article",
        el("h3", mark(record.outcome), " ", el("span", short_name(record), class_="name")),
        _circumstances(record),
        _diagnosis(record),
        _reason(record.reason),
        exhibits(record, out, everything),
        class_=f"case {record.outcome}",
        id=anchor,
    )


def _circumstances(record: TestRecord) -> Markup:
    guest = record.guest
    parts: list[str] = [el("code", record.test.partition("::")[0])]
    if guest:
        parts.append(el("code", guest_id(guest)))
        parts.append(guest.kernel or "kernel unknown")
    parts.append(duration(record.duration_s))
    parts += [el("b", name) for name in record.claims]
    return el("ul", *[el("li", part) for part in parts], class_="inline")


def _diagnosis(record: TestRecord) -> Markup | None:
    found = record.diagnosis
    if not found:
        return None
    return el(
        "div",
        el("p", "Diagnosis ", el("b", found["name"])),
        el("blockquote", el("code", found["line"]), el("footer", found["source"])),
        class_="diagnosis" if record.outcome != "passed" else "diagnosis wanted",
    )


def provoked(records: Sequence[TestRecord], out: Path) -> Markup | None:
    """Tests that passed because a failure they provoked was seen and named: the controls."""
    items = [
        el(
            "details",
            el(
                "summary",
                mark(record.outcome),
                " ",
                short_name(record),
                " ",
                el("small", record.diagnosis["name"]),
            ),
            _circumstances(record),
            _diagnosis(record),
            exhibits(record, out, everything),
        )
        for record in records
        if record.outcome == "passed" and record.diagnosis
    ]
    if not items:
        return None
    intro = "Tests that broke a guest on purpose, and passed because the reason was named."
    heading = el("h2", f"Controls ({len(items)})")
    return el("section", heading, el("p", intro, class_="intro"), *items, id="controls")


def _reason(reason: str | None) -> Markup | None:
    if not reason:
        return None
    lines = reason.split("\n")
    if len(lines) > _REASON_LINES:
        half = _REASON_LINES // 2
        left = len(lines) - _REASON_LINES
        lines = [*lines[:half], f"... {left} lines left out ...", *lines[-half:]]
    return el("pre", "\n".join(lines), class_="reason", tabindex="0")


def switches(records: Sequence[TestRecord], anchors: Mapping[int, str], out: Path) -> Markup | None:
    """For each test that switched a domain: the diff of its XML, and for a pass the console too."""
    shown = [r for r in records if r.outcome != "passed" or not r.diagnosis]
    items = [item for record in shown if (item := _switch(record, anchors, out))]
    if not items:
        return None
    intro = el("p", "What each switch changed in the domain XML.", class_="intro")
    return el("section", el("h2", f"Switches ({len(items)})"), intro, *items, id="switches")


def _switch(record: TestRecord, anchors: Mapping[int, str], out: Path) -> Markup | None:
    if not record.evidence:
        return None
    try:
        diff = domain_diff(open_folder(out, record.evidence))
    except (VirtproofError, OSError):
        return None  # said at the test itself
    if not diff:
        return None

    def show(folder: Folder) -> Markup:
        return join(diff_lines(diff), folded_text(folder, "console.log", "Serial console"))

    what = el("small", switch_title(diff))
    summary = el("summary", mark(record.outcome), " ", short_name(record), " ", what)
    if id(record) in anchors:
        link = el("a", "the failure above", href=f"#{anchors[id(record)]}")
        return el(
            "details", summary, el("p", "Console and reason stand with ", link), diff_lines(diff)
        )
    return el("details", summary, _circumstances(record), exhibits(record, out, show))


def skipped(records: Sequence[TestRecord]) -> Markup | None:
    """Skipped tests, by reason."""
    reasons: dict[str, list[TestRecord]] = {}
    for record in records:
        if record.outcome == "skipped":
            reasons.setdefault(record.reason or "no reason was given", []).append(record)
    if not reasons:
        return None
    items = [
        join(
            el("dt", reason),
            *[el("dd", el("code", short_name(r)), f" {' '.join(r.claims)}") for r in members],
        )
        for reason, members in reasons.items()
    ]
    count = sum(len(members) for members in reasons.values())
    return el("section", el("h2", f"Skipped ({count})"), el("dl", *items), id="skipped")


def timings(run: RunRecord, records: Sequence[TestRecord]) -> Markup:
    """Where the time went: by kind, and the slowest tests."""
    slowest = sorted(records, key=lambda record: -record.duration_s)[:_SLOWEST]
    most = max((record.duration_s for record in slowest), default=0) or 1
    rows = [
        el(
            "tr",
            el("th", short_name(record), scope="row"),
            el("td", duration(record.duration_s), class_="number"),
            el("td", _meter(record.duration_s / most), class_="meter"),
        )
        for record in slowest
    ]
    kinds = [
        el("li", f"{name} ", el("b", duration(seconds))) for name, seconds in run.timings.items()
    ]
    return el(
        "section",
        el("h2", "Timings"),
        el("ul", *kinds, class_="inline kinds") if kinds else None,
        el("table", el("caption", "Slowest tests"), el("tbody", *rows), class_="slow"),
        id="timings",
    )


def _meter(share: float) -> Markup:
    return el("span", style=f"width:{share * 100:.1f}%", aria_hidden="true")


def every_test(records: Sequence[TestRecord]) -> Markup:
    """All tests of the run, folded."""
    heads = [el("th", text, scope="col") for text in ("Test", "Result", "Guest", "Claims", "Time")]
    rows = [
        el(
            "tr",
            el("th", short_name(record), scope="row"),
            el("td", mark(record.outcome)),
            el("td", guest_id(record.guest) if record.guest else "\N{EN DASH}"),
            el("td", " ".join(record.claims)),
            el("td", duration(record.duration_s), class_="number"),
        )
        for record in records
    ]
    table = el("table", el("thead", el("tr", *heads)), el("tbody", *rows), class_="all")
    summary = el("summary", f"All {len(records)} tests")
    return el("section", el("h2", "Tests"), el("details", summary, table), id="tests")

"""The HTML report: one file that holds all it needs, and links into the evidence beside it."""

from __future__ import annotations

from pathlib import Path

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.report import cases, overview, throughput
from virtproof.report.compared import of_sides, sentence, sides_in_words
from virtproof.report.compat.parts import tally
from virtproof.report.conclusion import conclude
from virtproof.report.frame import head
from virtproof.report.markup import Markup, document, el, join
from virtproof.report.verdicts import matrix

_SECTIONS = (
    "environment",
    "claims",
    "compatibility",
    "failures",
    "throughput",
    "controls",
    "switches",
    "skipped",
    "timings",
    "tests",
)


def render(run: RunRecord, results: list[TestRecord], out_dir: Path) -> str:
    """The report's text, to be written into ``out_dir`` as UTF-8; reads evidence below it only."""
    full = matrix(results)
    verdict = conclude(run, results, full)
    broken = [record for record in results if record.outcome in ("failed", "error")]
    anchors = {id(record): f"failure-{number}" for number, record in enumerate(broken, start=1)}
    by_claim: dict[str, str] = {}
    for record in broken:
        for name in record.claims:
            by_claim.setdefault(name, anchors[id(record)])
    compared = of_sides(results)  # then that was the question, and no claim
    said = sentence(compared) if compared else verdict.sentence
    header = (
        overview.compared_header(run, compared, said, sides_in_words(results)) if compared else None
    )
    sections = [
        overview.environment(run, full.columns),
        None if compared else overview.claims(full, by_claim),
        tally(results),
        cases.failures(results, anchors, out_dir) if broken else None,
        throughput.section(results),
        cases.provoked(results, out_dir),
        cases.switches(results, anchors, out_dir),
        cases.skipped(results),
        cases.timings(run, results),
        cases.every_test(results),
    ]
    body = el(
        "body",
        el("main", header or overview.header(run, verdict), _contents(sections), *sections),
        el(
            "footer",
            f"Made by Virtproof {run.versions.get('virtproof', '')}. ",
            "Evidence links lead to the folder that lies beside this file.",
        ),
    )
    return document(head(said), body)


def _contents(sections: list[Markup | None]) -> Markup:
    """Links to the sections that are there."""
    there = [name for name, part in zip(_SECTIONS, sections, strict=True) if part is not None]
    links = [el("li", el("a", name.capitalize(), href=f"#{name}")) for name in there]
    return join(el("nav", el("ul", *links, class_="inline"), aria_label="Sections"))

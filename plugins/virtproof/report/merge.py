"""``virtproof merge``: the results of shards become those of one run: evidence, report and JUnit file too."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from virtproof.errors import UsageError, VirtproofError
from virtproof.measure.results import EVIDENCE_MARK, RunRecord, TestRecord
from virtproof.measure.store import ResultsWriter, clean_text, read_results, read_run, write_run
from virtproof.report.compat.grid import Source
from virtproof.report.compat.page import page_beside
from virtproof.report.html import render
from virtproof.report.junit import properties
from virtproof.report.merging import Part, merged

_COUNTS = ("tests", "failures", "errors", "skipped")


def merge(places: Sequence[Path], out: Path) -> tuple[RunRecord, list[TestRecord]]:
    """Write into ``out`` what one run without shards would have left; UsageError where that cannot be."""
    for place in places:
        if out.resolve() == place.resolve():
            raise UsageError(f"{out} is one of the shards", hint="give another directory by -o")
    parts = [_read(place) for place in places]
    run, results = merged(parts)
    try:
        _make_room(out)
        for place in places:
            _copy_evidence(place, out)
        with ResultsWriter(out / "results.jsonl") as writer:
            for record in results:
                writer.write(record)
        write_run(out / "run.json", run)
        (out / "report.html").write_text(render(run, results, out), encoding="utf-8")
        page_beside(Source(run, results, out))
        suite = _suite(
            run, [_cases(place, part) for place, part in zip(places, parts, strict=True)]
        )
        etree.ElementTree(suite).write(out / "junit.xml", encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise VirtproofError(f"cannot write {out}: {error.strerror or error}") from error
    return run, results


def _read(place: Path) -> Part:
    """A shard's directory; UsageError for one that is not whole, or of another version's schema."""
    if not place.is_dir():
        raise UsageError(f"{place} is no directory", hint="name the --out of each shard")
    try:
        return Part(str(place), read_run(place / "run.json"), read_results(place / "results.jsonl"))
    except VirtproofError as error:
        raise UsageError(error.what, hint=error.hint) from error


def _make_room(out: Path) -> None:
    """The evidence of an earlier run goes; what is not ours stays, and stops us."""
    old = out / "evidence"
    if old.is_dir() and any(old.iterdir()):
        if not (old / EVIDENCE_MARK).exists():
            raise UsageError(
                f"{old} was not made by virtproof", hint="give another directory by -o"
            )
        shutil.rmtree(old)
    out.mkdir(parents=True, exist_ok=True)


def _copy_evidence(place: Path, out: Path) -> None:
    """Links stay links: a shard may come from a machine that is not trusted."""
    source = place / "evidence"
    if source.is_dir():
        shutil.copytree(source, out / "evidence", symlinks=True, dirs_exist_ok=True)


def _suite(run: RunRecord, cases: Sequence[list[etree._Element]]) -> etree._Element:
    """One suite of all shards' cases, in the form in which pytest writes it."""
    found = [case for part in cases for case in part]
    counts = (
        len(found),
        sum(case.find("failure") is not None for case in found),
        sum(case.find("error") is not None for case in found),
        sum(case.find("skipped") is not None for case in found),
    )
    suites = etree.Element("testsuites", name="pytest tests")
    seconds = sum(float(case.get("time", "0")) for case in found)
    suite = etree.SubElement(suites, "testsuite", name="virtproof")
    for name, count in zip(_COUNTS, counts, strict=True):
        suite.set(name, str(count))
    suite.set("time", f"{seconds:.3f}")
    suite.set("timestamp", run.start)
    suite.extend(found)
    return suites


def _cases(place: Path, part: Part) -> list[etree._Element]:
    """The shard's cases as its own JUnit file has them; without such a file, by its records."""
    path = place / "junit.xml"
    if not path.is_file():
        return [_case(record) for record in part.results]
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        return list(etree.parse(path, parser).iter("testcase"))
    except (OSError, etree.XMLSyntaxError) as error:
        raise UsageError(f"{path} is no JUnit file", hint=clean_text(str(error))) from error


def _case(record: TestRecord) -> etree._Element:
    file, _, name = record.test.partition("::")
    case = etree.Element("testcase", classname=file.removesuffix(".py").replace("/", "."))
    for key, value in (("name", name or file), ("file", file), ("time", f"{record.duration_s}")):
        case.set(key, value)
    known = etree.SubElement(case, "properties")
    for key, value in properties(record):
        etree.SubElement(known, "property", name=key, value=value)
    tag = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(record.outcome)
    if tag is not None:
        told = etree.SubElement(case, tag, message=record.reason or "")
        told.text = record.reason
    return case

"""What ``virtproof report``, ``diff`` and ``merge`` do."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from virtproof.errors import UsageError, VirtproofError
from virtproof.measure.results import TestRecord
from virtproof.measure.store import read_results, read_run
from virtproof.report import merge as merging
from virtproof.report.compat.grid import Source
from virtproof.report.compat.page import write_page
from virtproof.report.compat.parts import PAGE
from virtproof.report.diff import diff_json, diff_lines, in_ascii
from virtproof.report.difference import differences, newly_broken
from virtproof.report.terminal import summary_lines


def compat(arguments: argparse.Namespace) -> int:
    """Write the compatibility page of one run or more; UsageError where no test filled a cell."""
    places = arguments.runs or [Path("out")]
    path = arguments.output or places[0] / PAGE
    if not write_page([source(place) for place in places], path):
        named = ", ".join(map(str, places))
        raise UsageError(
            f"no test in {named} filled a cell of the matrix",
            hint="./run conformance suites/matrix does",
        )
    print(path)
    return 0


def source(place: Path) -> Source:
    """A run's directory; UsageError for what is none, or is damaged."""
    try:
        return Source(read_run(place / "run.json"), read_results(place / "results.jsonl"), place)
    except VirtproofError as error:
        raise UsageError(error.what, hint=error.hint) from error


def diff(arguments: argparse.Namespace) -> int:
    """Tell what changed from A to B; 1 where something has newly broken."""
    before, after = (_results(place) for place in (arguments.a, arguments.b))
    found, same = differences(before, after)
    names = (str(arguments.a), str(arguments.b))
    if arguments.json:
        sys.stdout.write(diff_json(found, same, names))
        return int(newly_broken(found))
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    for line in diff_lines(found, same, names, every=arguments.all):
        print(line if encoding.startswith("utf") else in_ascii(line))
    return int(newly_broken(found))


def _results(place: Path) -> list[TestRecord]:
    """Of a run's directory, or of its results.jsonl; UsageError for what is neither, or has no test."""
    path = place / "results.jsonl" if place.is_dir() else place
    try:
        results = read_results(path)
    except VirtproofError as error:
        raise UsageError(error.what, hint=error.hint) from error
    if not results:
        raise UsageError(f"{path} has no tests", hint="no test of this run came to an end")
    return results


def merge(arguments: argparse.Namespace) -> int:
    """Merge, and say what the whole run says; its exit status."""
    out = arguments.output
    run, results = merging.merge(arguments.shards, out)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    width = shutil.get_terminal_size().columns
    for line in summary_lines(run, results, width, out=out, encoding=encoding):
        print(line)
    print(f"\nmerged {len(run.shards)} shards, {len(results)} tests: {out / 'report.html'}")
    return run.exit_status

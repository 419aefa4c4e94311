"""What ``virtproof export`` does: reads a run's results, and writes them in another format."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from virtproof.errors import UsageError, VirtproofError
from virtproof.measure.measurement import Better
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.series import measured
from virtproof.measure.store import read_results, read_run
from virtproof.report.export import otava
from virtproof.report.export.bencher import bencher
from virtproof.report.export.commands import FORMATS
from virtproof.report.export.github import github
from virtproof.report.export.kcidb import kcidb
from virtproof.report.export.openmetrics import openmetrics

_Results = tuple[RunRecord, list[TestRecord]]
_Single = Callable[[RunRecord, Sequence[TestRecord]], str]

_SINGLE: dict[str, _Single] = {"bencher": bencher, "openmetrics": openmetrics}
_SIDES: tuple[tuple[Better, str], ...] = (("higher", "bigger"), ("lower", "smaller"))


def write(arguments: argparse.Namespace) -> int:
    """Write the export; UsageError for what cannot be, VirtproofError where there is nothing to tell."""
    wanted, output = str(arguments.format), arguments.output
    if wanted not in FORMATS:
        near = difflib.get_close_matches(wanted, FORMATS, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(FORMATS)}"
        raise UsageError(f"no format is called {wanted!r}", hint=hint)
    if not re.fullmatch("[a-z0-9_]+", arguments.origin):
        raise UsageError(f"{arguments.origin!r} is no origin", hint="a-z, 0-9 and _ only")
    places = arguments.out or [Path("out")]
    if len(places) > 1 and wanted != "otava":
        raise UsageError(f"{wanted} takes one run", hint="--out is repeatable for otava only")
    runs = [_read(place, figures=wanted != "kcidb") for place in places]
    if wanted == "github-action-benchmark":
        return _two_files(runs[0][1], output)
    _put(_text(wanted, runs, arguments.origin), output)
    return 0


def _text(wanted: str, runs: Sequence[_Results], origin: str) -> str:
    if wanted == "otava":
        if left := otava.left_out(runs):
            print(f"left out, as not every run has them: {', '.join(left)}", file=sys.stderr)
        return otava.otava(runs)
    run, records = runs[0]
    return kcidb(run, records, origin) if wanted == "kcidb" else _SINGLE[wanted](run, records)


def _read(place: Path, *, figures: bool) -> _Results:
    results = place / "results.jsonl"
    if not results.is_file():
        raise VirtproofError(
            f"{place} has no results.jsonl", hint="name a run's directory by --out DIR"
        )
    run, records = read_run(place / "run.json"), read_results(results)
    if not records:
        raise VirtproofError(f"{results} has no tests", hint="no test of this run came to an end")
    if figures and not measured(records):
        raise VirtproofError(
            f"nothing was measured in {place}",
            hint="PERF-1 and PERF-2 measure: ./run conformance -k throughput",
        )
    return run, records


def _two_files(records: list[TestRecord], output: Path | None) -> int:
    output = output or Path("github-action-benchmark.json")
    for better, word in _SIDES:
        text = github(records, better)
        path = output.with_name(f"{output.stem}-{word}{output.suffix or '.json'}")
        if text.strip() == "[]":  # which the action takes for a fault
            path.unlink(missing_ok=True)
            print(f"nothing of this run is better when {word}: no {path}", file=sys.stderr)
            continue
        _put(text, path)
        print(f"{path}: tool custom{word.capitalize()}IsBetter")
    return 0


def _put(text: str, path: Path | None) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VirtproofError(f"cannot write {path}: {error.strerror or error}") from error

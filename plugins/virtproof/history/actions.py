"""What ``virtproof history add|check|report|show|export|pin|acknowledge`` do, and say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from virtproof.errors import UsageError, VirtproofError
from virtproof.history import checking, intake, reporting, tables
from virtproof.history.database import Database
from virtproof.history.detectors import detector
from virtproof.history.judge import BEFORE
from virtproof.history.points import Series, named, series_of
from virtproof.history.store import Added, Contents, Store
from virtproof.images.cache import default_cache


def main(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 for a fault, and for a new regression on a host that has passed its A/A check."""
    calls = {
        "add": _add,
        "check": _check,
        "report": _report,
        "show": _show,
        "export": _export,
        "pin": _pin,
        "acknowledge": _acknowledge,
    }
    with _store(arguments) as store:
        return calls[arguments.action](store, arguments)


@contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[Store]:
    where = arguments.db or str(default_cache() / "history.sqlite")
    database = Database(where, make=arguments.action == "add")
    try:
        yield Store(database)
    finally:
        database.close()


def _add(store: Store, arguments: argparse.Namespace) -> int:
    faults = 0
    for path in arguments.results:
        try:
            found = intake.read(path, arguments.quick_too)
            added = store.add(found)
        except VirtproofError as error:
            # The others are whole; each file is stored, or not, by itself.
            print(f"virtproof: error: {error}", file=sys.stderr)
            faults += 1
            continue
        for line in _added_lines(path, found, added):
            print(line)
    return 1 if faults else 0


def _added_lines(path: Path, found: intake.Intake, added: Added) -> Iterator[str]:
    if added.again:
        yield f"{path}: already in the history as run {added.run} (since {added.again}); nothing added"
    elif added.stored:
        controls = sum(one.control for one in found.sessions)
        yield (
            f"{path}: run {added.run}: {added.stored} sessions of {len(found.configs)}"
            f" configurations, {controls} of the control guest"
        )
    else:
        yield f"{path}: no measurement for a history; nothing added"
    if added.before:
        yield (
            f"{path}: this run began at {found.run['started'][:19]}, before one that is stored"
            f" ({added.before[:19]}): runs are ordered by their start"
        )
    if found.quick:
        yield (
            f"{path}: left out {found.quick} measurements: quick measurements are no history;"
            " run with --throughput nightly"
        )
    if found.fractions:
        yield f"{path}: left out {found.fractions} fractions, which have no ratio"


def _check(store: Store, arguments: argparse.Namespace) -> int:
    contents = store.contents()
    using = detector(arguments.detector)
    found = checking.check(store, contents, arguments.subject, using)
    points = sum(len(one) for one in found.series)
    print(f"{len(found.series)} series, {points} points of {len(contents.runs)} runs")
    if found.short:
        print(f"{found.short} series have fewer than {BEFORE} points, too few to judge")
    if found.uncontrolled:
        print(
            f"{found.uncontrolled} series are uncontrolled: no 5 sessions beside 5 of a control guest"
        )
    for host in found.hosts:
        print(checking.aa_line(host, contents))
    for number, one in found.new:
        print(f"alert {number}: {checking.headline(one)}")
        for line in checking.explained(one, contents, arguments.subject):
            print(f"  {line}")
        print(f"  seen it: ./run history acknowledge {number} --why TEXT")
    for one in found.held:
        print(f"report only: {checking.headline(one)}")
        for line in checking.explained(one, contents, arguments.subject):
            print(f"  {line}")
    for alert in found.known:
        print(f"known, alert {alert.id} of {alert.found[:10]}: {alert.text}")
    if not found.new:
        print("no new regression" if not found.held else "no new regression is certain")
    return 1 if found.new else 0


def _report(store: Store, arguments: argparse.Namespace) -> int:
    """The page, and its verdict in a line. Status 0 whatever it says: it is ``check`` that judges."""
    contents, using = store.contents(), detector(arguments.detector)
    path, given = arguments.output, arguments.series
    found = reporting.history(contents, store.name, arguments.subject, using, given)
    reporting.write(found, path)
    print(f"{path}: {reporting.in_a_line(found)}")
    return 0


def _show(store: Store, arguments: argparse.Namespace) -> int:
    contents = store.contents()
    series = series_of(contents.configs, contents.sessions, arguments.subject)
    if arguments.series is None:
        lines = tables.overview(series, contents)
    else:
        one = named(series, arguments.series)
        lines = tables.points(one, contents, arguments.subject)
    for line in lines:
        print(line)
    return 0


def _export(store: Store, arguments: argparse.Namespace) -> int:
    contents = store.contents()
    series = series_of(contents.configs, contents.sessions, arguments.subject)
    if arguments.series is not None:
        series = [named(series, arguments.series)]
    tables.export(series, contents, arguments.subject, arguments.format, sys.stdout)
    return 0


def _pin(store: Store, arguments: argparse.Namespace) -> int:
    contents = store.contents()
    series = series_of(contents.configs, contents.sessions, arguments.subject)
    one = named(series, arguments.series)
    run = _pinned(one, contents, arguments.at)
    store.pin(one.id, run)
    print(f"pinned {one.id} ({one.title}) at run {run}: `history check` holds what follows to it")
    return 0


def _pinned(one: Series, contents: Contents, wanted: int | None) -> int:
    numbers = [int(contents.runs[at]["id"]) for at in one.runs]
    if wanted is None:
        return numbers[-1]
    if wanted not in numbers:
        raise UsageError(
            f"series {one.id} has no point of run {wanted}", hint=f"./run history show {one.id}"
        )
    return wanted


def _acknowledge(store: Store, arguments: argparse.Namespace) -> int:
    if not arguments.why.strip():
        raise UsageError("--why is empty", hint="say what was found, for who looks next")
    alert = store.acknowledge(arguments.alert, arguments.why)
    print(f"acknowledged alert {alert.id}: {alert.text}")
    return 0

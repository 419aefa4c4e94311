"""The verdict on each system of a run and on the run as a whole, in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from virtproof.claims import CLAIMS, Claim
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.report.verdicts import Cell, Matrix, Row, State, matrix

_STOPPED = {2: "it was interrupted", 3: "of an internal error", 4: "it was started wrongly"}


class Standing(StrEnum):
    """``INCOMPLETE``: nothing failed, yet something that must be proved was not."""

    CONFORMS = "conforms"
    FAILS = "does not conform"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``sentence`` is the headline; ``notes`` say what it does not cover, a sentence each."""

    standing: Standing
    sentence: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tally:
    """Ids of the claims that one system has to hold, by how they fared."""

    system: str
    held: list[str]
    failed: list[str]
    open: list[str]


def conclude(run: RunRecord, results: Sequence[TestRecord], full: Matrix | None = None) -> Verdict:
    """The verdict of a run. Conforms only what held every claim that needs nothing special."""
    full = full or matrix(results)
    systems = list(dict.fromkeys(c.system for c in full.columns if not c.is_host)) or [""]
    tallies = [_tally(full, system) for system in systems]
    broken = [r for r in results if r.outcome in ("failed", "error")]
    stray = sum(1 for record in broken if not record.claims)
    stopped = _STOPPED.get(run.exit_status, "")
    if any(tally.failed for tally in tallies) or any(r.outcome == "failed" for r in broken):
        standing = Standing.FAILS
    elif stopped or broken or any(tally.open for tally in tallies):
        standing = Standing.INCOMPLETE
    else:
        standing = Standing.CONFORMS
    notes = [f"The run ended early because {stopped}."] if stopped else []
    if stray:
        notes.append(f"{_count(stray, 'test')} outside the claims failed.")
    notes += _open_notes(tallies) + _needs_notes(run, full)
    return Verdict(standing, _sentence(standing, tallies, bool(results)), tuple(notes))


def _tally(full: Matrix, system: str) -> _Tally:
    """How the system did; the claims of the host count for every system."""
    tally = _Tally(system, [], [], [])
    for row in full.rows:
        states = {cell.state for cell in _of_system(full, row, system)}
        if states & {State.FAILED}:
            tally.failed.append(row.claim.id)
        elif _optional(row.claim) and not states & {State.PASSED, State.ERROR}:
            continue
        elif State.PASSED in states and State.ERROR not in states:
            tally.held.append(row.claim.id)
        else:
            tally.open.append(row.claim.id)
    return tally


def _of_system(full: Matrix, row: Row, system: str) -> list[Cell]:
    return [
        cell
        for column, cell in zip(full.columns, row.cells, strict=True)
        if column.is_host or column.system == system
    ]


def _optional(claim: Claim) -> bool:
    """Whether a system may conform without it: it needs what a plain run has not, or is unknown."""
    return bool(claim.needs) or claim not in CLAIMS


def _sentence(standing: Standing, tallies: list[_Tally], any_test: bool) -> str:
    if not any_test:
        return "Nothing was proved: no test ran"
    names = _and([tally.system for tally in tallies if tally.system])
    place = f" on {names}" if names else " on this host"
    total = sum(len(t.held) + len(t.failed) + len(t.open) for t in tallies)
    held = sum(len(t.held) for t in tallies)
    failed = list(dict.fromkeys(name for t in tallies for name in t.failed))
    if standing is Standing.CONFORMS:
        return f"Virtio works{place}: all {_count(total, 'claim')} that had to hold did"
    if standing is Standing.FAILS and failed:
        bad = [t.system for t in tallies if t.failed and t.system]
        where = f" on {_and(bad)}" if bad else place
        named = _and(failed) if len(failed) <= 4 else f"{', '.join(failed[:3])} and others"
        verb = "fails" if len(failed) == 1 else "fail"
        return f"Virtio does not conform{where}: {named} {verb}, {held} of {total} claims held"
    if standing is Standing.FAILS:
        return f"Virtio does not conform{place}: a test outside the claims failed"
    return f"Not proved{place}: {held} of {total} claims held, none failed"


def _open_notes(tallies: list[_Tally]) -> list[str]:
    return [
        f"Not proved{f' on {tally.system}' if tally.system else ''}: {', '.join(tally.open)}."
        for tally in tallies
        if tally.open
    ]


def left_out(run: RunRecord, row: Row) -> bool:
    """Whether a claim was not run for want of something that a plain run does not have.

    Its tests may be skipped then. Where the run was given the option, a skip has another reason.
    """
    option = option_of(row.claim)
    asked = option and any(word.partition("=")[0] == option for word in run.command_line)
    return row.whole.state in (State.NOT_RUN, State.SKIPPED) and bool(row.claim.needs) and not asked


def option_of(claim: Claim) -> str:
    """The option that gives a claim what it needs, as ``--nested``; empty where there is none."""
    found = re.search(r"--[a-z][a-z-]*", claim.needs)
    return found[0] if found else ""


def _needs_notes(run: RunRecord, full: Matrix) -> list[str]:
    needs: dict[str, list[str]] = {}
    for row in full.rows:
        if left_out(run, row):
            needs.setdefault(row.claim.needs, []).append(row.claim.id)
    return [
        f"Not run: {_and(ids)}, which {'needs' if len(ids) == 1 else 'need'} {what}."
        for what, ids in needs.items()
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

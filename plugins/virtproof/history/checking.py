"""``history check``: every series judged, each host's A/A check, and what is to be told of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtproof.history.alike import Alike, alike
from virtproof.history.detectors import Detector
from virtproof.history.judge import BEFORE, NEAR, Found, drift, step
from virtproof.history.points import Series, series_of
from virtproof.history.store import Alert, Contents, Store

# Of a run, beside the one that is tracked: what may have changed between two of them.
ATTRIBUTES = (
    ("qemu", "QEMU"),
    ("libvirt", "libvirt"),
    ("host_kernel", "host kernel"),
    ("host_distribution", "host"),
    ("virtproof", "Virtproof"),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. ``new`` are alerts with a number; ``held`` those of hosts that have not passed
    their A/A check, which are told each time and stored nowhere; ``known`` were told before."""

    series: list[Series]
    short: int = 0
    uncontrolled: int = 0
    hosts: list[Alike] = field(default_factory=list)
    new: list[tuple[int, Found]] = field(default_factory=list)
    held: list[Found] = field(default_factory=list)
    known: list[Alert] = field(default_factory=list)


def check(store: Store, contents: Contents, subject: str, using: Detector) -> Checked:
    """Judge all series; new alerts are stored where their host has passed its A/A check."""
    series = series_of(contents.configs, contents.sessions, subject)
    found, known, changed = [], {}, {}
    for one in series:
        told = [alert for alert in contents.alerts if alert.series == one.id]
        at = {alert.id: _at(one, contents, alert.first_bad) for alert in told}
        changed[one.id] = [at[alert.id] for alert in told if alert.kind == "step"]
        for candidate in _candidates(one, contents, using):
            # A drift has no place: nothing after the pin is held against itself.
            end = len(one) if candidate.kind == "drift" else candidate.first + 1
            changed[one.id] += range(candidate.first, end)
            same = next((alert for alert in told if _same(candidate, alert, at[alert.id])), None)
            if same is None:
                found.append(candidate)
            else:
                known[same.id] = same
    hosts = _hosts(series, changed)
    passed = {host.host for host in hosts if host.passed}
    sure = [one for one in found if one.series.key["host"] in passed]
    numbers = store.alert([_row(one, contents) for one in sure])
    return Checked(
        series,
        sum(len(one) < BEFORE for one in series),
        sum(one.basis == "uncontrolled" for one in series),
        hosts,
        [(number, one) for number, one in zip(numbers, sure, strict=True) if number is not None],
        [one for one in found if one.series.key["host"] not in passed],
        [alert for alert in known.values() if alert.acknowledged is None],
    )


def _candidates(one: Series, contents: Contents, using: Detector) -> list[Found]:
    found = [step(one, using)]
    if one.id in contents.pins:
        found.append(drift(one, _at(one, contents, contents.pins[one.id])))
    return [candidate for candidate in found if candidate]


def _at(one: Series, contents: Contents, number: int) -> int:
    """The series' point of the run of that number, or the next after it."""
    place = contents.place(number)
    return int((one.runs < place).sum()) if place is not None else -1


def _same(found: Found, alert: Alert, at: int) -> bool:
    """Whether a change was told before; it may have been placed a few points elsewhere then."""
    return found.kind == alert.kind and abs(found.first - at) <= NEAR


def _hosts(series: Sequence[Series], changed: dict[str, list[int]]) -> list[Alike]:
    by_host: dict[str, list[Series]] = {}
    for one in series:
        by_host.setdefault(one.key["host"], []).append(one)
    return [alike(host, of, changed) for host, of in sorted(by_host.items())]


def _row(found: Found, contents: Contents) -> dict[str, Any]:
    bad, good = _run(found, contents, found.first), _run(found, contents, found.last_good)
    return {
        "series": found.series.id,
        "kind": found.kind,
        "text": headline(found),
        "first_bad": bad["id"],
        "last_good": good["id"],
        "ratio": found.ratio,
        "p": found.p,
    }


def _run(found: Found, contents: Contents, at: int) -> Mapping[str, Any]:
    run: Mapping[str, Any] = contents.runs[found.series.runs[at]]
    return run


# --- in words ---------------------------------------------------------------------------------


def headline(found: Found) -> str:
    """What, how much, how sure: one line."""
    change = found.ratio - 1
    less = "less" if change < 0 else "more"
    what = "drifted from its pinned baseline" if found.kind == "drift" else "changed"
    return (
        f"{found.series.title} has {what}: {abs(change):.1%} {less}"
        f" ({found.low - 1:+.1%} to {found.high - 1:+.1%} at 95 %, p = {found.p:.1g};"
        f" {found.n_before} points before, {found.n_after} after)"
    )


def explained(found: Found, contents: Contents, subject: str) -> list[str]:
    """Since when, what else changed then, and how to measure it again: a line each."""
    series, first, good = found.series, found.first, found.last_good
    bad_run, good_run = _run(found, contents, first), _run(found, contents, good)
    was, now = series.tracked[good], series.tracked[first]
    lines = [
        f"since:   run {bad_run['id']} of {bad_run['started'][:16]}, {subject} {now}",
        f"before:  run {good_run['id']} of {good_run['started'][:16]}, {subject} {was}",
    ]
    changes = [f"{subject} {was} -> {now}"] if was != now else []
    changes += [
        f"{name} {good_run[column]} -> {bad_run[column]}"
        for column, name in ATTRIBUTES
        if good_run[column] != bad_run[column] and column != subject
    ]
    lines.append(f"changed: {'; '.join(changes) or 'nothing that a run records'}")
    if found.kind == "drift":
        lines[2] += " (between the pinned run and the next; a drift may have begun later)"
    if series.basis == "uncontrolled":
        lines.append("beware:  uncontrolled: no control guest, so it may be the host that changed")
    config = contents.configs[int(series.configs[first])]
    image, accel = config["image"], config["accel"]
    command = ["./run", "conformance", config["test"], "--throughput"]
    command += [config["profile"] if config["profile"] != "quick" else "nightly"]
    lines.append(f"again:   {shlex.join([*command, '--image', image, '--accel', accel])}")
    return lines


def aa_line(host: Alike, contents: Contents) -> str:
    """A host's A/A check in one line."""
    cpu = next((run["host_cpu"] for run in contents.runs if run["host"] == host.host), "")
    named = f"host {host.host} ({cpu})"
    if not host.pairs:
        return f"{named}: A/A check not yet: no series of {BEFORE} points. Report only"
    counted = f"{host.below} of {host.pairs} relabelled pairs differ at p < .01 (at most 5 may)"
    if host.passed:
        return f"{named}: A/A check passed: {counted}"
    return f"{named}: A/A check FAILED: {counted}. Report only: it differs from itself"

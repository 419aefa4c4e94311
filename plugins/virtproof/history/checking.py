"""``history check``: every series judged, each host's A/A check, and what is to be told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtproof.history import again
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


@dataclass(frozen=True, slots=True)
class Examined:
    """All series judged, and nothing stored: the changes that nobody has been told of, and those that an
    alert is of."""

    series: list[Series]
    hosts: list[Alike]
    found: list[Found]
    known: list[tuple[Alert, Found]]

    def certain(self, found: Found) -> bool:
        """Whether the change's host has passed its A/A check."""
        return any(host.passed for host in self.hosts if host.host == found.series.key["host"])


def examine(contents: Contents, subject: str, using: Detector) -> Examined:
    """Judge all series, and their hosts by what has not changed."""
    series = series_of(contents.configs, contents.sessions, subject)
    alerts: dict[str, list[Alert]] = {}
    for alert in contents.alerts:
        alerts.setdefault(alert.series, []).append(alert)
    found, known, changed = [], {}, {}
    for one in series:
        told = alerts.get(one.id, [])
        at = {alert.id: at_run(one, contents, alert.first_bad) for alert in told}
        changed[one.id] = [at[alert.id] for alert in told if alert.kind == "step"]
        for candidate in _candidates(one, contents, using):
            # A drift has no place: nothing after the pin is held against itself.
            end = len(one) if candidate.kind == "drift" else candidate.first + 1
            changed[one.id] += range(candidate.first, end)
            same = next((alert for alert in told if _same(candidate, alert, at[alert.id])), None)
            if same is None:
                found.append(candidate)
            else:
                known[same.id] = same, candidate
    return Examined(series, _hosts(series, changed), found, list(known.values()))


def check(store: Store, contents: Contents, subject: str, using: Detector) -> Checked:
    """Judge all series; new alerts are stored where their host has passed its A/A check."""
    seen = examine(contents, subject, using)
    sure = [one for one in seen.found if seen.certain(one)]
    numbers = store.alert([_row(one, contents) for one in sure])
    return Checked(
        seen.series,
        sum(len(one) < BEFORE for one in seen.series),
        sum(one.basis == "uncontrolled" for one in seen.series),
        seen.hosts,
        [(number, one) for number, one in zip(numbers, sure, strict=True) if number is not None],
        [one for one in seen.found if not seen.certain(one)],
        [alert for alert, _ in seen.known if alert.acknowledged is None],
    )


def _candidates(one: Series, contents: Contents, using: Detector) -> list[Found]:
    found = [step(one, using)]
    if one.id in contents.pins:
        found.append(drift(one, at_run(one, contents, contents.pins[one.id])))
    return [candidate for candidate in found if candidate]


def at_run(one: Series, contents: Contents, number: int) -> int:
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
    bad = point(found.series, contents, found.first).run
    good = point(found.series, contents, found.last_good).run
    return {
        "series": found.series.id,
        "kind": found.kind,
        "text": headline(found),
        "first_bad": bad["id"],
        "last_good": good["id"],
        "ratio": found.ratio,
        "p": found.p,
    }


@dataclass(frozen=True, slots=True)
class Step:
    """A point's run, and what was tracked in it."""

    run: Mapping[str, Any]
    tracked: str


def point(series: Series, contents: Contents, at: int) -> Step:
    """The series' point of that index."""
    return Step(contents.runs[series.runs[at]], series.tracked[at])


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


def changes(good: Step, bad: Step, subject: str) -> list[tuple[str, str, str]]:
    """What a run records and what is not the same in both: its name, what it was, what it is."""
    found = [(subject, good.tracked, bad.tracked)] if good.tracked != bad.tracked else []
    return found + [
        (name, str(good.run[column]), str(bad.run[column]))
        for column, name in ATTRIBUTES
        if good.run[column] != bad.run[column] and column != subject
    ]


def ends(found: Found) -> tuple[int, int]:
    """The points that are held side by side: the last good one, and the first bad one or a drift's newest."""
    return found.last_good, len(found.series) - 1 if found.kind == "drift" else found.first


def in_short(at: Step, subject: str) -> str:
    return f"run {at.run['id']} of {at.run['started'][:16]}, {subject} {at.tracked}"


def explained(found: Found, contents: Contents, subject: str) -> list[str]:
    """Since when, what else changed then, and how to measure it again: a line each."""
    series, drift = found.series, found.kind == "drift"
    good, bad = (point(series, contents, at) for at in ends(found))
    told = [f"{name} {was} -> {now}" for name, was, now in changes(good, bad, subject)]
    lines = [
        f"{'now:    ' if drift else 'since:  '} {in_short(bad, subject)}",
        f"{'pinned: ' if drift else 'before: '} {in_short(good, subject)}",
        f"changed: {'; '.join(told) or 'nothing that a run records'}",
    ]
    if drift:
        lines[2] += " (between the pinned run and the newest: a drift has no day of its own)"
    if series.basis == "uncontrolled":
        lines.append("beware:  uncontrolled: no control guest, so it may be the host that changed")
    config = contents.configs[int(series.configs[found.first])]
    lines.append(f"again:   {again.measured(config)}")
    if compared := again.compared(config, subject, good.tracked, bad.tracked):
        lines.append(f"or:      {compared}")
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

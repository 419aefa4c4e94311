"""``history report``: a history as facts for its page. It judges as ``check`` does, and only reads."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from virtproof.errors import VirtproofError
from virtproof.history import again, checking
from virtproof.history.alike import Alike
from virtproof.history.detectors import Detector
from virtproof.history.judge import BEFORE, CONFIDENCE, DRIFT, WINDOW, Found, levels
from virtproof.history.points import Series
from virtproof.history.points import named as one_named
from virtproof.history.store import Alert, Contents
from virtproof.report.trends import facts
from virtproof.report.trends.facts import State
from virtproof.report.trends.page import render
from virtproof.report.trends.told import verdict

SECTIONS = 40  # regressions that are told at length: the page is to be one that opens
RECENT = 60  # points of a series in the overview
_MADE_BY = (
    *(
        ("name", "workload"),
        ("device", "device"),
        ("image", "image"),
        ("kernel", "guest kernel"),
        ("qemu", "QEMU"),
    ),
    *(("accel", "accelerator"), ("shape", "machine"), ("host", "host"), ("tool_version", "tool")),
    ("job_text", "job"),
)
_ORDER = (State.NEW, State.OPEN, State.REPORT_ONLY, State.ACKNOWLEDGED)


def history(
    contents: Contents, source: str, subject: str, using: Detector, given: Sequence[str]
) -> facts.History:
    """All series and what has become of them; ``given`` begin ids of series that are
    to be shown though they are well; UsageError where that is none, or not one."""
    seen = checking.examine(contents, subject, using)
    found = _sorted(seen)
    by_id = {one.id: one for one in seen.series}
    named = list(dict.fromkeys(one_named(seen.series, name).id for name in given))
    told = found[:SECTIONS] + [one for one in found[SECTIONS:] if one[1].series.id in named]
    shown = {one.series.id for _, one, _ in told}
    make = _Trends(contents, subject, using)
    return facts.History(
        source,
        subject,
        datetime.now(UTC).isoformat(timespec="seconds"),
        version("virtproof"),
        len(contents.runs),
        sum(len(one) for one in seen.series),
        contents.runs[0]["started"] if contents.runs else "",
        contents.runs[-1]["started"] if contents.runs else "",
        _rows(seen.series, {one.series.id: state for state, one, _ in reversed(found)}),
        [facts.Host(_passed(one), checking.aa_line(one, contents)) for one in seen.hosts],
        [make.regression(*one) for one in told],
        len(found) - len(told),
        [make.trend(by_id[name]) for name in named if name not in shown],
        _past(contents, by_id, {alert.id for alert, _ in seen.known}),
        tuple(_notes(seen.series)),
    )


def write(found: facts.History, path: Path) -> None:
    """The page, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(render(found), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise VirtproofError(
            f"cannot write {path}: {error.strerror or error}", hint="give another file by -o"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def in_a_line(found: facts.History) -> str:
    """The page's verdict."""
    said = verdict(found)
    return f"{said.sentence}: {said.rest}"


def _sorted(seen: checking.Examined) -> list[tuple[State, Found, Alert | None]]:
    """What has got worse: what nobody has looked at yet first, and of that the most."""
    found: list[tuple[State, Found, Alert | None]] = [
        (State.NEW if seen.certain(one) else State.REPORT_ONLY, one, None) for one in seen.found
    ]
    for alert, one in seen.known:
        found.append((State.ACKNOWLEDGED if alert.acknowledged else State.OPEN, one, alert))
    return sorted(found, key=lambda one: (_ORDER.index(one[0]), -abs(math.log(one[1].ratio))))


def _rows(series: Sequence[Series], states: Mapping[str, State]) -> list[facts.Row]:
    apart = _apart(series)
    return [
        facts.Row(
            one.id,
            one.key["name"],
            f"{one.title.removeprefix(one.key['name'])} {apart[one.id]}".strip(),
            one.unit,
            one.better,
            len(one),
            one.values[-RECENT:].tolist(),
            one.basis == "control",
            len(one) >= BEFORE,
            states.get(one.id),
        )
        for one in series
    ]


def _apart(series: Sequence[Series]) -> dict[str, str]:
    """For series of one title, by id: what each has otherwise than another of them."""
    alike: dict[str, list[Series]] = {}
    for one in series:
        alike.setdefault(one.title, []).append(one)
    told = {}
    for group in alike.values():
        differing = [name for name in group[0].key if len({one.key[name] for one in group}) > 1]
        for one in group:
            parts = [f"{name} {one.key[name]}" for name in differing]
            told[one.id] = ", ".join([*parts, *([one.basis] if len(group) > 1 else [])])
    return told


def _passed(host: Alike) -> bool | None:
    return host.passed if host.pairs else None


def _past(contents: Contents, series: Mapping[str, Series], holding: set[int]) -> list[facts.Past]:
    """The alerts of these series that hold no more, the newest first."""
    return [
        facts.Past(alert.id, alert.text, alert.found, alert.why or "")
        for alert in reversed(contents.alerts)
        if alert.series in series and alert.id not in holding
    ]


def _notes(series: Sequence[Series]) -> Iterator[str]:
    short = sum(len(one) < BEFORE for one in series)
    single = sum(len(one) == 1 for one in series)
    free = sum(one.basis == "uncontrolled" for one in series)
    if short:
        yield f"{short} of {len(series)} series have fewer than {BEFORE} points, too few to judge"
    if single:
        yield f"{single} of {len(series)} series have one point: nothing to compare it with yet"
    if free:
        yield (
            f"{free} of {len(series)} series are uncontrolled (without 5 sessions beside 5 of a "
            "control guest): there the host may be what changed"
        )


class _Trends:
    """Makes series into what is drawn of them."""

    def __init__(self, contents: Contents, subject: str, using: Detector) -> None:
        self._contents = contents
        self._subject = subject
        self._using = using

    def regression(self, state: State, found: Found, alert: Alert | None) -> facts.Regression:
        one, first = found.series, found.first
        trend = self.trend(one, found)
        config = self._contents.configs[int(one.configs[first])]
        good, bad = checking.ends(found)
        was, now = one.tracked[good], one.tracked[bad]
        commands = [("measure it again", again.measured(config))]
        if compared := again.compared(config, self._subject, was, now):
            commands.append((f"the two {self._subject}s side by side", compared))
        return facts.Regression(
            trend, state, found.kind == "drift", first - trend.earlier,
            found.ratio, found.low, found.high, CONFIDENCE, found.p, found.n_before, found.n_after,
            self._point(one, good), self._point(one, bad),
            self._changes(one, good, bad), commands,
            alert.id if alert else None, alert.found if alert else "",
            (alert.why or "") if alert else "",
        )  # fmt: skip

    def trend(self, one: Series, found: Found | None = None) -> facts.Trend:
        """The points that were judged, their levels, and the sessions before and after what was found."""
        earlier = max(0, len(one) - WINDOW)
        marks = [earlier, *(earlier + at for at in self._marks(one, earlier)), len(one)]
        config = self._contents.configs[int(one.configs[-1])]
        return facts.Trend(
            one.id, one.title, one.unit, one.key["unit"], one.better, one.basis == "control",
            self._subject,
            [(name, _in_words(config[column])) for column, name in _MADE_BY],
            [self._point(one, at) for at in range(earlier, len(one))],
            [self._level(one, first, end, earlier) for first, end in pairwise(marks)],
            self._sessions(one, found, earlier), earlier, self._baseline(one, earlier),
        )  # fmt: skip

    def _marks(self, one: Series, earlier: int) -> list[int]:
        if len(one) < BEFORE:
            return []  # as nothing is judged
        return levels(np.log(one.values[earlier:]), self._using)

    def _level(self, one: Series, first: int, end: int, earlier: int) -> facts.Level:
        changes = self._changes(one, first - 1, first) if first > earlier else []
        return facts.Level(first - earlier, end - earlier, _centre(one.values[first:end]), changes)

    def _baseline(self, one: Series, earlier: int) -> facts.Baseline | None:
        number = self._contents.pins.get(one.id)
        if number is None:
            return None
        last = checking.at_run(one, self._contents, number)
        values = one.values[max(0, last + 1 - DRIFT) : last + 1]
        return facts.Baseline(number, last - earlier, _centre(values)) if len(values) else None

    def _sessions(self, one: Series, found: Found | None, earlier: int) -> list[facts.Sessions]:
        if found is None:
            return [self._stretch(one, "all", earlier, len(one))]
        if found.kind == "drift":
            return [
                self._stretch(one, "baseline", found.first - found.n_before, found.first),
                self._stretch(one, "now", len(one) - found.n_after, len(one)),
            ]
        return [
            self._stretch(one, "before", found.first - found.n_before, found.first),
            self._stretch(one, "after", found.first, found.first + found.n_after),
        ]

    def _stretch(self, one: Series, label: str, first: int, end: int) -> facts.Sessions:
        """The sessions of these points, each over the control's median of its run where there is one."""
        sessions = self._contents.sessions
        runs = len(self._contents.runs)
        wanted = one.configs[first:end] * runs + one.runs[first:end]
        mine = sessions.config * runs + sessions.run
        order = np.argsort(wanted)
        at = np.minimum(np.searchsorted(wanted[order], mine), len(wanted) - 1)
        hit = (wanted[order][at] == mine) & (sessions.control == 0)
        values = sessions.value[hit]
        if one.basis == "control":
            values = values / one.frozen[first:end][order][at[hit]]
        return facts.Sessions(label, end - first, values.tolist())

    def _changes(self, one: Series, good: int, bad: int) -> list[facts.Change]:
        was, now = (checking.point(one, self._contents, at) for at in (good, bad))
        return [facts.Change(*each) for each in checking.changes(was, now, self._subject)]

    def _point(self, one: Series, at: int) -> facts.Point:
        run: Mapping[str, Any] = self._contents.runs[one.runs[at]]
        frozen = float(one.frozen[at])
        return facts.Point(
            run["id"], run["started"], float(one.values[at]), float(one.medians[at]),
            None if math.isnan(frozen) else frozen,
            int(one.sessions[at]), int(one.controls[at]), one.tracked[at],
        )  # fmt: skip


def _in_words(value: Any) -> str:
    """A value as it is; a job's parameters without JSON's signs."""
    try:
        told = json.loads(value)
    except ValueError:
        return str(value)
    return (
        ", ".join(f"{name} {told[name]}" for name in told) if isinstance(told, dict) else str(value)
    )


def _centre(values: Any) -> float:
    """The mean of logarithms, as they are judged."""
    return math.exp(float(np.mean(np.log(values))))

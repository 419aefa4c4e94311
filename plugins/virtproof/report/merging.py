"""Shards of a run to the whole of it: whether they fit together, and the record of the whole. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from virtproof.errors import UsageError
from virtproof.measure.results import RunRecord, TestRecord

_PROVENANCE = (
    "shard",
    "versions",
    "accelerator",
    "host",
    "command_line",
    "start",
    "end",
    "counts",
    "exit_status",
)


@dataclass(frozen=True, slots=True)
class Part:
    """A shard's results, and what they are called (their directory)."""

    name: str
    run: RunRecord
    results: list[TestRecord]

    @property
    def shard(self) -> dict[str, Any]:
        return self.run.shard or {}


def merged(parts: Sequence[Part]) -> tuple[RunRecord, list[TestRecord]]:
    """The run that the shards are of, in their order; UsageError where they are not all of one run."""
    parts = _fitting(parts)
    results = [record for part in parts for record in part.results]
    counts = Counter(str(record.outcome) for record in results)
    runs = [part.run for part in parts]
    run = RunRecord(
        versions=_joined(run.versions for run in runs),
        accelerator=_joined(run.accelerator for run in runs),
        host=_host([run.host for run in runs]),
        command_line=_without_shard(runs[0].command_line),
        start=min((run.start for run in runs), key=datetime.fromisoformat),
        end=max((run.end for run in runs), key=datetime.fromisoformat),
        counts={name: counts.get(name, 0) for name in runs[0].counts},
        exit_status=_status([run.exit_status for run in runs]),
        timings=_timings([run.timings for run in runs]),
        shards=[{name: getattr(run, name) for name in _PROVENANCE} for run in runs],
    )
    return run, results


def _fitting(parts: Sequence[Part]) -> list[Part]:
    """The shards from first to last; UsageError naming what does not fit."""
    seen: dict[int, str] = {}
    for part in parts:
        _refuse_damaged(part)
        index = int(part.shard["index"])
        if index in seen:
            raise UsageError(
                f"{seen[index]} and {part.name} are both shard {index}", hint="give each once"
            )
        seen[index] = part.name
    first = parts[0]
    for part in parts[1:]:
        _refuse_foreign(first, part)
    count = int(first.shard["count"])
    missing = [str(number) for number in range(1, count + 1) if number not in seen]
    if missing:
        what = f"of {count} shards there is no {', '.join(missing)}"
        raise UsageError(what, hint=f"run it with --shard {missing[0]}/{count}")
    _refuse_overlap(parts)
    return sorted(parts, key=lambda part: int(part.shard["index"]))


def _refuse_damaged(part: Part) -> None:
    if part.run.shard is None:
        raise UsageError(f"{part.name} is no shard", hint="it was not run with --shard i/n")
    told, there = sum(part.run.counts.values()), len(part.results)
    if told != there:
        raise UsageError(
            f"{part.name}: run.json tells of {told} tests, and results.jsonl has {there}",
            hint="one of them is of another run",
        )


def _refuse_foreign(first: Part, part: Part) -> None:
    """Two shards that were not cut from the same tests by the same program."""
    for name, said in (("count", "another number of shards"), ("tests", "other tests")):
        if first.shard[name] != part.shard[name]:
            raise UsageError(
                f"{first.name} and {part.name} are of runs with {said}",
                hint="give all shards the same tests, options and checkout",
            )
    ours, theirs = (one.run.versions.get("virtproof") for one in (first, part))
    if ours and theirs and ours != theirs:
        raise UsageError(
            f"{first.name} is of virtproof {ours}, {part.name} of {theirs}",
            hint="run all shards with one version",
        )


def _refuse_overlap(parts: Sequence[Part]) -> None:
    where: dict[str, str] = {}
    for part in parts:
        for test in {record.test for record in part.results}:
            if test in where:
                raise UsageError(f"{where[test]} and {part.name} both have {test}")
            where[test] = part.name


def _joined(known: Iterable[dict[str, Any]]) -> dict[str, str]:
    """By key, what all of them say: ``7.2.1``, or where they differ ``7.2.1; 9.0.0``."""
    said: dict[str, dict[str, None]] = {}
    for one in known:
        for name, value in one.items():
            said.setdefault(name, {})[str(value)] = None
    return {name: "; ".join(filter(None, values)) for name, values in said.items()}


def _host(hosts: list[dict[str, Any]]) -> dict[str, Any]:
    """The hosts as one: their texts joined, and of their sizes the least."""
    names = [name for name in hosts[0] if all(name in host for host in hosts)]
    return {
        name: min(host[name] for host in hosts)
        if isinstance(hosts[0][name], int)
        else _agreed(name, [str(host[name]) for host in hosts])
        for name in names
    }


def _agreed(name: str, said: list[str]) -> str:
    different = list(dict.fromkeys(said))
    if len(different) == 1:
        return different[0]
    return "not told" if name == "nested" else "; ".join(different)


def _without_shard(command_line: Sequence[str]) -> list[str]:
    left, skip = [], False
    for word in command_line:
        if not skip and word != "--shard" and not word.startswith("--shard="):
            left.append(word)
        skip = word == "--shard"
    return left


def _status(statuses: list[int]) -> int:
    """pytest's status of the whole: what broke a session before a failed test, and that before none."""
    return max((status for status in statuses if status > 1), default=max(statuses))


def _timings(timings: list[dict[str, float]]) -> dict[str, float]:
    """Sums over the shards, but of the time by the clock the longest's."""
    found: dict[str, float] = {}
    for one in timings:
        for kind, seconds in one.items():
            before = found.get(kind, 0.0)
            found[kind] = round(max(before, seconds) if kind == "total" else before + seconds, 1)
    return found

"""A run's results as what a history keeps of them: the run, its configurations, its sessions.

A results directory is read whole and judged before anything is stored: what is wrong with it is one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from virtproof.errors import VirtproofError
from virtproof.history.schema import CONFIG_KEY
from virtproof.measure.measurement import Measurement, job_digest
from virtproof.measure.results import RunRecord
from virtproof.measure.store import read_results, read_run

NETWORK_TOOLS = ("iperf3", "sockperf")
AHEAD = timedelta(days=1)  # a clock may be so far ahead of the one of whoever adds its runs
LEAST, MOST = 1e-18, 1e18  # in any unit: beyond, medians and ratios overflow
SLACK = timedelta(seconds=2)  # sessions are stamped by the whole second


class IntakeError(VirtproofError):
    """A run's results cannot enter a history."""


@dataclass(frozen=True, slots=True)
class Session:
    """One figure of one session, and the digest of the configuration it is of."""

    config: str
    control: int
    block: int
    turn: int
    started: str
    value: float


@dataclass(frozen=True, slots=True)
class Intake:
    """What one results directory brings. ``run`` and ``configs`` are rows of the tables of these names;
    ``quick`` and ``fractions`` count the measurements that were left out."""

    run: dict[str, Any]
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    quick: int = 0
    fractions: int = 0


def read(where: Path, quick_too: bool = False) -> Intake:
    """The results in a directory, or of a results.jsonl with the run.json beside it."""
    path = where / "results.jsonl" if where.is_dir() else where
    records = read_results(path)
    run = read_run(path.with_name("run.json"))
    start, end = _whole(path, len(records), run)
    measured = [(record.test, row) for record in records for row in record.measurements]
    digest = _digest([run.start, run.end, *(row for _, row in measured)])
    found = Intake(_run_row(run, digest, path, start, end))
    quick = fractions = 0
    for test, row in measured:
        try:
            one = Measurement(**row)
        except (TypeError, VirtproofError) as error:
            raise IntakeError(f"{path}: {error}") from error
        if one.unit != "1" and not LEAST <= one.value <= MOST:
            raise IntakeError(f"{path}: {one.name}: {one.value:g} {one.unit} was never measured")
        at = _time(one.start, f"{path}: {one.name}'s start")
        if not start - SLACK <= at <= end + SLACK:
            raise IntakeError(
                f"{path}: {one.name} was measured at {one.start}, not within the run of run.json"
                f" ({run.start} to {run.end})",
                hint="run.json is of another run, or the machine's clock was set while it ran",
            )
        if one.unit == "1":
            fractions += 1
        elif one.profile == "quick" and not quick_too:
            quick += 1
        else:
            _keep(found, test, one, at)
    _same_units(path, found.configs.values())
    return Intake(found.run, found.configs, found.sessions, quick, fractions)


def _whole(path: Path, tests: int, run: RunRecord) -> tuple[datetime, datetime]:
    """Start and end of a run whose two files and whose clock are right; IntakeError says which is not."""
    start, end = _time(run.start, f"{path.parent}: the run's start"), _time(run.end, "the end")
    if start > end:
        raise IntakeError(
            f"{path.parent}: the run ended at {run.end}, before its start at {run.start}",
            hint="the machine's clock was set back while it ran: measure again",
        )
    if start > datetime.now(UTC) + AHEAD:
        raise IntakeError(
            f"{path.parent}: the run began at {run.start}, which is yet to come",
            hint="the clock of the machine that ran it is ahead, or this one's is behind",
        )
    counted = sum(run.counts.values())
    if tests != counted:
        raise IntakeError(
            f"{path} has {tests} tests, and run.json counts {counted}",
            hint="the file was cut off, or run.json is of another run",
        )
    return start, end


def unit_faults(
    configs: Mapping[str, dict[str, Any]], known: Iterator[tuple[str, str, str, str]]
) -> str | None:
    """Of a figure that is in another unit, or better in the other direction, than ``known`` (name, job, unit,
    better) has it: the words for it."""
    units = {(name, job): (unit, better) for name, job, unit, better in known}
    for one in configs.values():
        here = one["unit"], one["better"]
        there = units.get((one["name"], one["job"]), here)
        if here != there:
            return (
                f"{one['name']} is in {here[0]} ({here[1]} is better) here, and in"
                f" {there[0]} ({there[1]} is better) before"
            )
    return None


def _same_units(path: Path, configs: Any) -> None:
    rows = [(one["name"], one["job"], one["unit"], one["better"]) for one in configs]
    fault = unit_faults({str(n): one for n, one in enumerate(configs)}, iter(rows))
    if fault:
        raise IntakeError(f"{path}: {fault}: not one series", hint="two tools share a name")


def _keep(found: Intake, test: str, one: Measurement, at: datetime) -> None:
    row = _config_row(found.run, test, one)
    digest = row["digest"]
    found.configs.setdefault(digest, row)
    control = int(one.role == "control")
    found.sessions.append(
        Session(digest, control, one.block, one.order, stamp(at), float(one.value))
    )


def _config_row(run: Mapping[str, Any], test: str, one: Measurement) -> dict[str, Any]:
    guest = {key: value for key, value in one.guest.items() if value is not None}
    cpus, memory = guest.get("cpus", "?"), guest.get("memory_mib", "?")
    row = {
        "name": one.name,
        "unit": one.unit,
        "better": one.better,
        "device": device(one),
        "shape": f"{guest.get('machine', '?')}, {guest.get('firmware', '?')},"
        f" {cpus} CPU, {memory} MiB",
        "image": str(guest.get("image", "unknown")),
        "kernel": str(guest.get("kernel", "unknown")),
        "qemu": run["qemu"],
        "accel": str(guest.get("accel", run["accel"])),
        "host": run["host"],
        "tool": str(one.job.get("tool", "unknown")),
        "tool_version": str(one.job.get("version", "unknown")),
        "job": job_digest(one.job),
    }
    digest = _digest([row[name] for name in CONFIG_KEY])
    told = {"job_text": json.dumps(one.job, sort_keys=True), "profile": one.profile, "test": test}
    return {"digest": digest, **row, **told}


def device(one: Measurement) -> str:
    """What was measured: the NIC for the network, else the side; with the side where it says more."""
    nic = one.guest.get("nic")
    if one.job.get("tool") in NETWORK_TOOLS and nic and nic != one.side:
        return f"{nic} ({one.side})"
    return one.side


def fingerprint(host: Mapping[str, Any]) -> str:
    """What makes figures of two machines comparable at all. Not the kernel, which is told as a change."""
    told = [host["cpu_model"], host["cpus"], round(host["memory_mib"] / 1024)]
    return _digest(told)[:12]


def _run_row(
    run: RunRecord, digest: str, path: Path, start: datetime, end: datetime
) -> dict[str, Any]:
    versions = {**dict.fromkeys(("qemu", "libvirt", "virtproof"), "unknown"), **run.versions}
    return {
        "digest": digest,
        "source": str(path.parent),
        "started": stamp(start),
        "ended": stamp(end),
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
        "accel": run.accelerator["name"],
        "accel_why": run.accelerator["why"],
        **{name: versions[name] for name in ("qemu", "libvirt", "virtproof")},
        "host": fingerprint(run.host),
        "host_kernel": run.host["kernel"],
        "host_distribution": run.host["distribution"],
        "host_cpu": run.host["cpu_model"],
    }


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _time(text: str, what: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise IntakeError(f"{what}: {text!r} is no time") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def stamp(at: datetime) -> str:
    """A time as the history has it: sorts as text."""
    return at.isoformat(timespec="microseconds")

"""Runs for a history: results directories, and sessions whose truth is known."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from virtproof.measure.measurement import Measurement
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.store import ResultsWriter, write_run

START = datetime(2025, 1, 1, tzinfo=UTC)
GUEST = {
    "image": "debian-12",
    "distribution": "Debian 12",
    "kernel": "6.1.0-28",
    "machine": "pc",
    "firmware": "bios",
    "disk": "virtio",
    "nic": "virtio",
    "accel": "tcg",
    "cpus": 1,
    "memory_mib": 768,
}
JOB = {"tool": "iperf3", "version": "3.12", "seconds": 6}
HOST = {"kernel": "6.1", "distribution": "D", "cpus": 2, "memory_mib": 24000, "cpu_model": "x"}
RUN = RunRecord(
    {"virtproof": "0.1.0", "python": "3.11", "pytest": "9", "libvirt": "9.0", "qemu": "7.2"},
    {"name": "tcg", "why": "no /dev/kvm"},
    HOST,
    ["pytest"],
    "",
    "",
    {"passed": 1, "failed": 0, "skipped": 0, "error": 0},
    0,
)
FIGURE = Measurement(
    "tcp-to-guest", "bit/s", "higher", 1e9, [], "virtio", 0, 0, "", JOB, GUEST, profile="nightly"
)


def run_at(day: float, **changes: Any) -> RunRecord:
    """The record of a run of an hour, ``day`` days after the first."""
    start = START + timedelta(days=day)
    times = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
    return dataclasses.replace(RUN, **{**times, **changes})


def figures(day: float, values: Any, **changes: Any) -> list[Measurement]:
    """A session for each value."""
    start = (START + timedelta(days=day, minutes=5)).isoformat()
    return [
        dataclasses.replace(
            FIGURE, **{"value": float(value), "block": block, "start": start, **changes}
        )
        for block, value in enumerate(values)
    ]


def write(where: Path, run: RunRecord, measured: list[Measurement]) -> Path:
    """A results directory."""
    record = TestRecord(
        "suites/throughput/test_throughput.py::test_virtio_nic_outruns_emulated_ones",
        "passed", None, [], None, None, [one.as_dict() for one in measured], 1.0, None,
    )  # fmt: skip
    with ResultsWriter(where / "results.jsonl") as writer:
        writer.write(record)
    write_run(where / "run.json", run)
    return where


def history(
    where: Path,
    levels: Any,
    seed: int = 1,
    controlled: bool = True,
    figure: dict[str, Any] | None = None,
    kernels: dict[int, str] | None = None,
    host_level: Any = None,
) -> list[Path]:
    """A directory a run: five sessions at each level with 3 % noise, and five of a control guest.

    ``kernels`` names the kernel from that run on; ``host_level`` is what the whole machine is slowed by.
    """
    rng = np.random.default_rng(seed)
    kernel, made = GUEST["kernel"], []
    for day, level in enumerate(levels):
        kernel = (kernels or {}).get(day, kernel)
        host = 1.0 if host_level is None else host_level[day]
        noise = 1e9 * host * np.exp(rng.normal(0, 0.03, (2, 5)))
        guest = {**GUEST, "kernel": kernel}
        measured = figures(day, level * noise[0], guest=guest, **(figure or {}))
        if controlled:
            frozen = {**GUEST, "kernel": "5.10.0-1", "image": "debian-11"}
            measured += figures(day, noise[1], guest=frozen, role="control", **(figure or {}))
        made.append(write(where / f"{day:03}", run_at(day), measured))
    return made

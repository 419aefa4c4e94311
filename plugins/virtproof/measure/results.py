"""The records that everything downstream reads: one a test, one a run.

``out/results.jsonl`` holds one TestRecord a line, ``out/run.json`` one RunRecord; their JSON
Schemas are beside this file. Field names are a contract: others parse them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

EVIDENCE_MARK = ".virtproof"  # tells a directory of evidence that is ours, and may be replaced
Outcome = Literal["passed", "failed", "skipped", "error"]
# A cell of the compatibility matrix; "not-run": nothing was seen of the system under test.
Verdict = Literal["works", "not-supported", "broken", "not-run"]


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """The guest a test ran on. ``distribution`` and ``kernel`` are None until a guest has said them.

    ``virtio`` is the mode asked for (legacy, transitional, modern; None: QEMU's default), ``queues`` the
    root disk's (0: QEMU's choice), ``kernel_under_test`` the release put into the image's place.
    """

    image: str
    distribution: str | None
    kernel: str | None
    machine: str
    firmware: str
    disk: str
    nic: str | None
    accel: str
    cpus: int
    memory_mib: int
    virtio: str | None = None
    packed: bool = False
    queues: int = 0
    kernel_under_test: str | None = None


@dataclass(frozen=True, slots=True)
class CompatRecord:
    """A cell of the matrix of images, kernels and checks, which a test has filled.

    ``check`` is a path like ``nic/rtl8139``; ``features`` the names of those negotiated, by device.
    ``image`` and ``kernel`` are for cells that had no guest.
    """

    check: str
    verdict: Verdict
    reason: str = ""
    features: dict[str, list[str]] = field(default_factory=dict)
    image: str | None = None
    kernel: str | None = None


@dataclass(frozen=True, slots=True)
class TestRecord:
    """One test. ``duration_s`` in seconds; ``evidence`` is a directory relative to the run's ``out``."""

    __test__ = False

    test: str
    outcome: Outcome
    reason: str | None
    claims: list[str]
    guest: GuestRecord | None
    diagnosis: dict[str, str] | None
    measurements: list[dict[str, Any]]
    duration_s: float
    evidence: str | None
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    compat: CompatRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. Times are ISO 8601 in UTC; ``counts`` has a key for each outcome."""

    versions: dict[str, str]  # virtproof, python, pytest, libvirt, qemu
    accelerator: dict[str, str]  # {"name": "tcg", "why": "..."}
    host: dict[str, Any]  # kernel, distribution, cpus, memory_mib, cpu_model
    command_line: list[str]
    start: str
    end: str
    counts: dict[str, int]
    exit_status: int
    # Seconds: total by the clock; tests, guests, images, harness summed over workers.
    timings: dict[str, float] = field(default_factory=dict)
    shard: dict[str, Any] | None = None  # index, count, collected, selected, tests (a digest)
    # Of a run that was merged: each shard, with its machine, versions, times and exit status.
    shards: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

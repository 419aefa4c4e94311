"""From pytest's reports to test records: the worker's half adds facts, the controller's half collects."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from virtproof import host
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.measure.results import GuestRecord, Outcome, RunRecord, TestRecord
from virtproof.measure.store import ResultsWriter, clean_line, write_run
from virtproof.plugin.cells import settled
from virtproof.report.compat.grid import Source
from virtproof.report.compat.page import page_beside
from virtproof.report.html import render

GROUP = re.compile(r"@[^@\[\]/]*$")  # what xdist's loadgroup appends to a test's id


def guest_record(guest: Guest) -> dict[str, Any]:
    """The guest as a record; its distribution and kernel only where it was asked while it ran."""
    spec = guest.spec
    distribution, kernel = (text and clean_line(text) for text in guest.identity)
    return {
        "image": spec.image.rsplit("/", 1)[-1],
        "distribution": distribution,
        "kernel": kernel,
        "machine": spec.machine.value,
        "firmware": spec.firmware.value,
        "disk": spec.disk.value,
        "nic": spec.nic.value if spec.nic else None,
        "accel": spec.accel.value,
        "cpus": spec.cpus,
        "memory_mib": spec.memory_mib,
        "virtio": spec.virtio.value if spec.virtio else None,
        "packed": spec.packed,
        "queues": spec.queues,
        "kernel_under_test": spec.image.partition("@")[2] or None,
    }


def diagnosis_of(guests: list[Guest]) -> BootFailedError | None:
    """The last boot failure of the test's guests: of a control, the one that it wanted to see."""
    failures = [failure for guest in guests for failure in guest.failures]
    return failures[-1] if failures else None


class Collector:
    """Collects the controller's records: written one by one, so that a crash loses none."""

    def __init__(self, out: Path, command_line: list[str]) -> None:
        self.out = out
        self.records: list[TestRecord] = []
        self._command_line = command_line
        self._writer: ResultsWriter | None = None
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._environment: dict[str, Any] = {}
        self._spent_s: dict[str, dict[str, float]] = {}  # a worker: by kind, and in all so far
        self._begin, self._start = time.monotonic(), datetime.now(UTC)

    def add(self, report: pytest.TestReport) -> None:
        """A phase's report; the test's record is written with its last phase."""
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        facts = getattr(report, "virtproof", None)
        if report.when != "teardown":
            return
        del self._phases[report.nodeid]
        if facts is not None:
            self._environment.update(facts["environment"])
            so_far = {"all": time.monotonic() - self._begin, **facts["spent_s"]}
            self._spent_s[str(getattr(report, "worker_id", ""))] = so_far
            self._write(self._record(report, phases, facts))

    def crashed(self, test: str, reason: str) -> None:
        """A test whose worker died under it."""
        self._phases.pop(test, None)
        self._write(TestRecord(GROUP.sub("", test), "error", reason, [], None, None, [], 0.0, None))

    def _record(
        self, last: pytest.TestReport, phases: list[pytest.TestReport], facts: dict[str, Any]
    ) -> TestRecord:
        outcome, reason = _outcome(phases)
        if facts.get("lost") and outcome == "failed":
            outcome = "error"  # nothing was seen of the system under test
        guest = facts["guest"]
        return TestRecord(
            test=GROUP.sub("", last.nodeid),
            outcome=outcome,
            reason=reason or facts["remark"],
            claims=facts["claims"],
            guest=GuestRecord(**guest) if guest else None,
            diagnosis=facts["diagnosis"],
            measurements=facts["measurements"],
            duration_s=round(sum(phase.duration for phase in phases), 3),
            evidence=facts["evidence"],
            comparisons=facts["comparisons"],
            compat=settled(facts.get("compat"), outcome, reason or ""),
        )

    def _write(self, record: TestRecord) -> None:
        if self._writer is None:
            self._writer = ResultsWriter(self.out / "results.jsonl").__enter__()
        self.records.append(record)
        self._writer.write(record)

    def finish(self, exit_status: int, shard: dict[str, Any] | None = None) -> RunRecord | None:
        """Write run.json and report.html; None where no test of ours ran, unless it was a shard."""
        if self._writer is None and shard is None:
            return None
        if self._writer is None:
            self._writer = ResultsWriter(self.out / "results.jsonl").__enter__()
        self._writer.__exit__(None, None, None)
        counts = Counter(record.outcome for record in self.records)
        run = RunRecord(
            versions=self._environment.get("versions", {}),
            accelerator=self._environment.get(
                "accelerator", {"name": "none", "why": "no guest ran"}
            ),
            host=host.record(),
            command_line=self._command_line,
            start=self._start.isoformat(timespec="seconds"),
            end=datetime.now(UTC).isoformat(timespec="seconds"),
            counts={name: counts.get(name, 0) for name in ("passed", "failed", "skipped", "error")},
            exit_status=exit_status,
            timings=self._timings(),
            shard=shard,
        )
        write_run(self.out / "run.json", run)
        page = render(run, self.records, self.out)
        (self.out / "report.html").write_text(page, encoding="utf-8")
        page_beside(Source(run, self.records, self.out))
        return run

    def _timings(self) -> dict[str, float]:
        """Seconds: ``total`` by the clock; the rest are sums over the workers.

        ``harness`` is what neither a guest nor an image took until a worker's last test had ended.
        """
        spent = {
            kind: sum(worker[kind] for worker in self._spent_s.values())
            for kind in ("all", "guests", "images")
        }
        found = {
            "total": time.monotonic() - self._begin,
            "tests": sum(record.duration_s for record in self.records),
            "guests": spent["guests"],
            "images": spent["images"],
            "harness": max(0.0, spent["all"] - spent["guests"] - spent["images"]),
        }
        return {kind: round(seconds, 1) for kind, seconds in found.items()}


def _outcome(phases: list[pytest.TestReport]) -> tuple[Outcome, str | None]:
    """A failed call is *failed*; a failed set-up or teardown is *error*."""
    for phase in phases:
        if phase.failed:
            return ("failed" if phase.when == "call" else "error"), _reason(phase)
    for phase in phases:
        if phase.skipped:
            return "skipped", _reason(phase)
    return "passed", None


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return clean_line(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    # As text, a worker's report begins with a line on that worker.
    whole = report.longrepr if isinstance(report.longrepr, str) else report.longreprtext
    text = crash.message if crash is not None else whole
    return clean_line(text).removeprefix("Failed: ")[:500] or "no reason given"

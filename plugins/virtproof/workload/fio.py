"""fio on a disk of the guest: sequential and random, reading and writing, mixed, synchronous.

Direct I/O by libaio on the whole device, written full first (``FILL``): what was never written is read from
nothing. Its JSON has traps: ``bw`` is KiB/s (``bw_bytes`` is not), each of ``numjobs`` has an entry, and
``runtime`` leaves the ramp out.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from virtproof.errors import UsageError
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.job import (
    PACKED,
    Ends,
    Figure,
    Outcome,
    cost,
    number,
    parsed,
    require,
    unpacked,
)

BESIDE_S = 20.0  # for fio's own start and end, on KVM
SECTOR = 512  # of /sys/block/*/stat
RESULT = "/run/virtproof-fio.json"
FOR_P99 = 1000
Pattern = Literal["read", "write", "randread", "randwrite", "rw", "randrw"]
PATTERNS = ("read", "write", "randread", "randwrite", "rw", "randrw")
# A disk that refuses a byte of it fails: what is not full is not measured.
FILL = """set -- %s; mib=$(($(blockdev --getsize64 "$1") / 1048576))
yes virtproof | dd of="$1" bs=1M count="$mib" iflag=fullblock oflag=direct 2>&1 && sync"""


@dataclass(frozen=True, slots=True)
class Fio:
    """One fio run. ``block`` in bytes, ``depth`` requests in flight a job, ``jobs`` of them; ``seconds``
    after ``ramp_s``. ``sync``: each write is on stable storage before the next (O_DSYNC)."""

    name: str
    pattern: Pattern
    block: int = 4096
    depth: int = 16
    jobs: int = 1
    sync: bool = False
    seconds: int = 30
    ramp_s: int = 10

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise UsageError(f"{self.name}: fio has no pattern {self.pattern!r}")
        if min(self.depth, self.jobs, self.seconds) < 1 or self.block % 512 or self.ramp_s < 0:
            raise UsageError(f"{self.name}: no fio run is as asked", hint="block: n x 512 bytes")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"tool": "fio", "engine": "libaio", "direct": True, **asdict(self)}

    def command(self, device: str) -> list[str]:
        """fio's command line."""
        said = {
            "name": self.name,
            "filename": device,
            "ioengine": "libaio",
            "direct": 1,
            "rw": self.pattern,
            "bs": self.block,
            "iodepth": self.depth,
            "numjobs": self.jobs,
            "time_based": 1,
            "runtime": self.seconds,
            "ramp_time": self.ramp_s,
            # The same places and the same bytes again and again would flatter caches and compression.
            "randrepeat": 0,
            "refill_buffers": 1,
            "output-format": "json",
            "output": RESULT,
        }
        if self.sync:
            said["sync"] = "dsync"
        return ["fio", *(f"--{key}={value}" for key, value in said.items())]

    def run(self, ends: Ends) -> Outcome:
        version = require(ends, "fio")
        stat = f"/sys/block/{ends.disk.rpartition('/')[2]}/stat"
        argv = self.command(ends.disk)
        words = " ".join(["%s"] * len(argv))
        command = f"cat %s; {words} >&2 && cat %s && {PACKED}"
        patience_s = self.seconds + self.ramp_s + BESIDE_S
        before = ends.cpu_s()
        said = ends.guest.run(command, stat, *argv, stat, RESULT, timeout_s=patience_s).stdout
        spent = ends.cpu_s() - before
        first, second, packed = [*said.split("\n", 2), "", ""][:3]
        raw = unpacked(packed, self.name)
        moved = _moved(second) - _moved(first)
        figures = (*self.figures(parsed(raw, "fio")), *cost(self.name, spent, moved))
        return Outcome(figures, version, raw)

    def figures(self, found: dict[str, Any]) -> tuple[Figure, ...]:
        """The rate, in B/s for sequential patterns and operations a second for random ones, reads and writes
        together; where one request is in flight, its 99th percentile in seconds too."""
        jobs = found.get("jobs")
        if not isinstance(jobs, list) or len(jobs) != self.jobs:
            raise MeasurementError(f"fio: {self.name} has not the {self.jobs} jobs that it started")
        ways = [way for way in ("read", "write") if way in self.pattern or "rw" in self.pattern]
        unit, key = ("1/s", "iops") if "rand" in self.pattern else ("B/s", "bw_bytes")
        entries = [(job, way) for job in jobs for way in ways]
        if any(number(job, "error", what="fio") for job in jobs):
            raise MeasurementError(f"fio: {self.name} met an error of the disk")
        rate = sum(number(job, way, key, what="fio") for job, way in entries)
        figures = [Figure(self.name, unit, "higher", rate)]
        if self.jobs == self.depth == 1 and len(ways) == 1:
            figures += self._latency(jobs[0], ways[0])
        return tuple(figures)

    def _latency(self, job: dict[str, Any], way: str) -> list[Figure]:
        many = number(job, way, "total_ios", what="fio") >= FOR_P99
        return [
            Figure(f"{self.name}.p{which:.0f}", "s", "lower", value / 1e9)
            for which in ((50.0, 99.0) if many else (50.0,))
            if (value := number(job, way, "clat_ns", "percentile", f"{which:f}", what="fio")) > 0
        ]


def _moved(stat: str) -> int:
    """Bytes read and written, of a line of /sys/block/*/stat."""
    fields = stat.split()
    if len(fields) < 7 or not all(re.fullmatch("[0-9]{1,20}", field) for field in fields[:7]):
        raise MeasurementError(f"fio: the disk's counters are {stat[:80]!r}")
    return (int(fields[2]) + int(fields[6])) * SECTOR

"""What is measured, and what two sides of a measurement say of each other: the records of throughput.

A *session* is one guest, freshly restored or booted, with its own measurements: the unit of replication.
What a tool reports by the second within it are ``samples``: shown, never taken for replicates. A *block*
is a round in which each side was measured once, so that what the machine did then hits all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from virtproof.errors import VirtproofError

Better = Literal["higher", "lower"]
Role = Literal["subject", "control"]
Verdict = Literal[
    "faster",  # a side outruns another: the interval lies beyond the floor
    "not shown",
    "regression",  # side B against side A
    "improvement",
    "no difference",  # larger than ``margin``
    "inconclusive",
]
# bit/s, B/s and operations a second; seconds; seconds (of a processor) a byte; a fraction.
UNITS = ("bit/s", "B/s", "1/s", "s", "s/B", "1")


class MeasurementError(VirtproofError):
    """What a tool gave cannot be taken for a measurement."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one session.

    ``name`` as in ``tcp-to-guest``, ``value`` in ``unit``; ``samples`` in the same unit. ``side`` is what was
    compared (a device, or a kernel); ``job`` the workload with every parameter and its tool's version;
    ``guest`` what the session's guest was (image, kernel, disk, nic ...). ``start`` is ISO 8601 in UTC.
    ``role`` is ``control`` for the frozen guest that histories are held against. ``raw`` is the tool's own
    output, a file relative to the results' directory. MeasurementError for what is no number, for an
    unknown unit, and for a rate that is not above zero.
    """

    name: str
    unit: str
    better: Better
    value: float
    samples: list[float]
    side: str
    block: int
    order: int
    start: str
    job: dict[str, Any]
    guest: dict[str, Any] = field(default_factory=dict)
    role: Role = "subject"
    profile: str = "quick"
    raw: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise MeasurementError(
                f"{self.name}: no unit is called {self.unit!r}", hint=f"one of: {', '.join(UNITS)}"
            )
        for number in (self.value, *self.samples):
            if isinstance(number, bool) or not math.isfinite(number) or number < 0:
                raise MeasurementError(f"{self.name}: {number!r} {self.unit} is no measurement")
        if self.value == 0 and self.unit != "1":
            raise MeasurementError(
                f"{self.name} on {self.side}: 0 {self.unit}: nothing was transferred"
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Side ``b`` against side ``a`` over ``n`` blocks, of one figure.

    ``ratio`` is b / a (geometric mean over the blocks), its interval ``low`` to ``high`` at ``confidence``;
    ``p`` of the paired t-test on the logarithms; ``spread`` the standard deviation of the log ratios.
    ``floor`` is what (a) demands of the interval's lower end; ``margin`` and ``smallest`` are fractions: how
    small a difference (c) excludes, and the smallest one that it would have found four times in five.
    ``n`` may be too small for an interval: ``low``, ``high``, ``p`` and ``spread`` are None then.
    """

    name: str
    unit: str
    better: Better
    a: str
    b: str
    n: int
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    p: float | None
    spread: float | None
    verdict: Verdict
    floor: float | None = None
    margin: float | None = None
    smallest: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def job_digest(job: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that tell jobs apart: other parameters, or another tool, another series."""
    text = json.dumps(job, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

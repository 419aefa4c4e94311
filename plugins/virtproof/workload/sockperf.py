"""Request and response over TCP, by sockperf: the round trip's time, by percentile.

The server runs in the guest, the client with its clock in the lab. iperf3 has no such mode, netperf is not
in every distribution; sockperf tells percentiles, and its log each round trip.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from virtproof.errors import UsageError
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.job import Ends, Figure, Outcome, require, server

BESIDE_S = 20.0
FOR_P99 = 1000  # round trips; of fewer, the 99th percentile is chance
_PERCENTILE = re.compile(r"---> percentile (\d{1,3}\.\d{1,9}) = {0,20}(\d{1,15}\.\d{1,9})")
_COUNT = re.compile(r"Total (\d{1,18}) observations")


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """One sockperf ping-pong. ``size`` of a message in bytes."""

    name: str = "tcp-rr"
    size: int = 64
    seconds: int = 10

    def __post_init__(self) -> None:
        if self.seconds < 1 or not 14 <= self.size <= 65000:
            raise UsageError(f"{self.name}: sockperf takes 14 to 65000 bytes, and whole seconds")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"tool": "sockperf", "protocol": "tcp", **asdict(self)}

    def command(self, address: str, port: int) -> list[str]:
        """The client's command line."""
        argv = ["sockperf", "ping-pong", "--tcp", "-i", address, "-p", str(port), "--full-rtt"]
        return [*argv, "-m", str(self.size), "-t", str(self.seconds)]

    def run(self, ends: Ends) -> Outcome:
        version = require(ends, "sockperf")
        port = 20000 + secrets.randbelow(10000)
        with server(ends, port, "sockperf server --tcp -i 0.0.0.0 -p {port}"):
            argv = self.command(ends.address, port)
            said = ends.far(*argv, timeout_s=self.seconds + BESIDE_S).stdout
        return Outcome(self.figures(said), version, said)

    def figures(self, said: str) -> tuple[Figure, ...]:
        """Median and 99th percentile of the round trip, in seconds."""
        count = _COUNT.search(said)
        found = {float(which): float(us) / 1e6 for which, us in _PERCENTILE.findall(said)}
        if count is None or 50.0 not in found:
            last = " ".join(said.split())[-160:]
            raise MeasurementError(f"sockperf: no percentiles but {last!r}")
        figures = [Figure(f"{self.name}.p50", "s", "lower", found[50.0])]
        if int(count[1]) >= FOR_P99 and 99.0 in found:
            figures.append(Figure(f"{self.name}.p99", "s", "lower", found[99.0]))
        return tuple(figures)

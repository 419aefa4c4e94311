"""iperf3 between the lab and a guest: TCP both ways, parallel streams, UDP with its loss.

The server runs in the guest and serves one client; the client runs in the lab. What counts is what was
*received*. Its JSON has traps: ``intervals`` holds the omitted seconds too; the counters of lost packets are
wrong against peers before 3.13, so loss is told from the bytes sent and received.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from virtproof.errors import UsageError
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.job import Ends, Figure, Outcome, cost, far_json, number, require, server

BESIDE_S = 20.0  # for connecting, and for the exchange of results


@dataclass(frozen=True, slots=True)
class Iperf3:
    """One iperf3 run. ``seconds`` after ``omit_s`` that do not count; ``udp_mbit_s`` is what is offered over
    UDP, and 0 means TCP. ``from_guest``: the guest sends (``--reverse``)."""

    name: str
    from_guest: bool = False
    streams: int = 1
    udp_mbit_s: int = 0
    seconds: int = 15
    omit_s: int = 5

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.omit_s < 0 or self.streams < 1 or self.udp_mbit_s < 0:
            raise UsageError(f"{self.name}: no iperf3 run is {self.seconds} s long and as asked")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"tool": "iperf3", **asdict(self)}

    def command(self, address: str, port: int) -> list[str]:
        """The client's command line."""
        argv = ["iperf3", "--client", address, "--port", str(port), "--json", "--interval", "1"]
        argv += ["--time", str(self.seconds), "--omit", str(self.omit_s)]
        argv += ["--parallel", str(self.streams)] if self.streams > 1 else []
        argv += ["--reverse"] if self.from_guest else []
        return argv + (["--udp", "--bitrate", f"{self.udp_mbit_s}M"] if self.udp_mbit_s else [])

    def run(self, ends: Ends) -> Outcome:
        version = require(ends, "iperf3")
        port = 20000 + secrets.randbelow(10000)
        patience_s = self.seconds + self.omit_s + BESIDE_S
        with server(ends, port, "iperf3 --server --one-off --port {port}"):
            before = ends.cpu_s()
            argv = self.command(ends.address, port)
            found, raw = far_json(ends, *argv, timeout_s=patience_s)
            spent = ends.cpu_s() - before
        moved = sum(_of(interval, "bytes") for interval in _intervals(found))
        figures = (*self.figures(found), *cost(self.name, spent, int(moved)))
        start = found.get("start")
        ours = str(start.get("version", "iperf3"))[:40] if isinstance(start, dict) else "iperf3"
        return Outcome(figures, f"{ours}; guest: {version}", raw)

    def figures(self, found: dict[str, Any]) -> tuple[Figure, ...]:
        """The rate at which data was received, in bit/s; over UDP, the fraction lost too."""
        rate = number(found, "end", "sum_received", "bits_per_second", what="iperf3")
        kept = [one for one in _intervals(found) if not one["sum"].get("omitted")]
        if self.udp_mbit_s and not self.from_guest:
            kept = []  # the client's own intervals say what was sent
        samples = tuple(_of(one, "bits_per_second") for one in kept)
        figures = (Figure(self.name, "bit/s", "higher", rate, samples),)
        if not self.udp_mbit_s:
            return figures
        sent = number(found, "end", "sum_sent", "bytes", what="iperf3")
        received = number(found, "end", "sum_received", "bytes", what="iperf3")
        if sent <= 0:
            raise MeasurementError(f"iperf3: {self.name} sent nothing")
        lost = max(0.0, 1 - received / sent)
        return (*figures, Figure(f"{self.name}.loss", "1", "lower", lost))


def _intervals(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    intervals = found.get("intervals")
    for one in intervals if isinstance(intervals, list) else []:
        if isinstance(one, dict) and isinstance(one.get("sum"), dict):
            yield one


def _of(interval: dict[str, Any], key: str) -> float:
    return number(interval, "sum", key, what="iperf3")

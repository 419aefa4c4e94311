"""The detectors of `history check` on simulated series whose truth is known: false alerts, and steps found.

    python benchmarks/detectors.py [--series 300] [--detector ruptures --detector otava]

A run has five sessions of the subject and five of the control. Each has 3 % noise; one in ten is hit by
-5 to -25 %; the host drifts from run to run by an AR(0.6) of 3 %. A series is checked after each of its 60
runs, as `history check` is. Otava is wanted in an environment of its own: pip install numpy scipy ruptures
sqlalchemy; pip install --no-deps apache-otava.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins"))

from virtproof.history.detectors import DETECTORS, Detector, detector
from virtproof.history.judge import AFTER, BEFORE, step
from virtproof.history.points import Series

RUNS, AT, SESSIONS = 60, 40, 5
NOISE, HIT, DRIFT, AR = 0.03, 0.1, 0.03, 0.6


def simulated(rng: np.random.Generator, change: float, runs: int = RUNS, at: int = AT) -> Series:
    """A series whose level changes by ``change`` (-0.1: 10 % less) at run ``at``."""
    drift = np.zeros(runs)
    for run in range(1, runs):
        drift[run] = AR * drift[run - 1] + rng.normal(0, DRIFT * np.sqrt(1 - AR**2))

    def sessions() -> np.ndarray:
        noise = rng.normal(0, NOISE, (runs, SESSIONS))
        hit = (rng.random((runs, SESSIONS)) < HIT) * rng.uniform(0.05, 0.25, (runs, SESSIONS))
        return np.median(1e9 * np.exp(drift[:, None] + noise) * (1 - hit), axis=1)

    subject, control = sessions(), sessions()
    subject[at:] *= 1 + change
    return series_from(subject / control)


def series_from(values: np.ndarray) -> Series:
    """A series of these points, where more is better."""
    n = len(values)
    ones = np.full(n, SESSIONS)
    key = {"name": "simulated", "better": "higher", "device": "virtio", "accel": "tcg"}
    return Series(
        "0" * 12, key, "control", values, np.arange(n), ("",) * n, np.zeros(n, int), ones, ones
    )


def first_alert(series: Series, using: Detector, start: int = BEFORE + AFTER) -> tuple[int, int]:
    """Number of points at which it alerted first, and the point it named; (0, 0) for never."""
    for n in range(start, len(series) + 1):
        part = Series(
            series.id,
            series.key,
            series.basis,
            series.values[:n],
            series.runs[:n],
            series.tracked[:n],
            series.configs[:n],
            series.sessions[:n],
            series.controls[:n],
        )
        if found := step(part, using):
            return n, found.first
    return 0, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=300)
    parser.add_argument("--detector", action="append", choices=list(DETECTORS))
    arguments = parser.parse_args()
    print(
        "| detector | change | alerts per 100 series | found at 3 points | within 6 | placed within 3 | s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.detector or DETECTORS:
        using = detector(name)
        for change in (0.0, -0.05, -0.10, -0.20, 0.10):
            rng = np.random.default_rng(1)
            start = time.monotonic()
            # A step's series is checked from the first run on that could show it.
            begin = AT + AFTER if change < 0 else BEFORE + AFTER
            alerts = [
                first_alert(simulated(rng, change), using, begin) for _ in range(arguments.series)
            ]
            row = [100 * np.mean([n > 0 for n, _ in alerts])]
            if change < 0:
                row += [100 * np.mean([0 < n <= AT + k for n, _ in alerts]) for k in (3, 6)]
                row += [100 * np.mean([n > 0 and abs(at - AT) <= 3 for n, at in alerts])]
            said = " | ".join([f"{one:.1f}" for one in row] + ["-"] * (4 - len(row)))
            print(
                f"| {name} | {change:+.0%} | {said} | {time.monotonic() - start:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()

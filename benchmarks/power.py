"""What ``./run compare`` finds and what it makes up: on simulated machines, and on measured sessions.

    .venv/bin/python benchmarks/power.py [--runs 2000]
    .venv/bin/python benchmarks/power.py --sessions out [--runs 200]

Simulated: ten pairs AB BA, sessions with noise of some CV around a machine that drifts (AR 0.6, 2 %), one
session in ten hit by 5 to 25 %. Of ``--sessions``, a comparison's results of two *equal* sides, each pair is
given its labels anew by chance; for a step, B is multiplied by it.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from virtproof.errors import VirtproofError
from virtproof.measure.measurement import Measurement
from virtproof.measure.statistics import Pair, against, pair
from virtproof.measure.store import read_results

STEPS = (1.0, 0.95, 0.9, 0.8)
NOISES = (0.01, 0.02, 0.03, 0.05, 0.08)
PAIRS, HIT, DRIFT, CARRY = 10, 0.1, 0.02, 0.6
VERDICTS = ("regression", "no difference", "inconclusive", "improvement")


def simulated(chance: random.Random, noise: float, step: float, hit: float) -> Pair:
    """Ten pairs of a machine: B's true level is ``step`` of A's."""
    drift, sides = 0.0, ([], [])  # type: tuple[float, tuple[list[float], list[float]]]
    for block in range(PAIRS):
        for side in (0, 1) if block % 2 == 0 else (1, 0):
            drift = CARRY * drift + chance.gauss(0, DRIFT * math.sqrt(1 - CARRY**2))
            value = math.exp(drift + chance.gauss(0, noise)) * (step if side else 1.0)
            if chance.random() < hit:
                value *= 1 - chance.uniform(0.05, 0.25)
            sides[side].append(value)
    return Pair("rate", "B/s", "higher", tuple(sides[0]), tuple(sides[1]))


def relabelled(chance: random.Random, one: Pair, step: float) -> Pair:
    """The same sessions, each pair's labels by chance; then B is ``step`` of what it was."""
    swapped = [
        (b, a) if chance.random() < 0.5 else (a, b) for a, b in zip(one.a, one.b, strict=True)
    ]
    worse = step if one.better == "higher" else 1 / step
    a, b = [a for a, _ in swapped], [b * worse for _, b in swapped]
    return Pair(one.name, one.unit, one.better, tuple(a), tuple(b))


def shares(pairs: Sequence[Pair]) -> Counter[str]:
    """How often each verdict was given, each pair judged alone."""
    return Counter(against({"rate": one}, "A", "B")[0].verdict for one in pairs)


def row(name: str, step: float, pairs: Sequence[Pair]) -> str:
    found = shares(pairs)
    cells = " | ".join(f"{found[verdict] / len(pairs):.1%}" for verdict in VERDICTS)
    return f"| {name} | {'none' if step == 1 else f'-{1 - step:.0%}'} | {cells} |"


def table(rows: Iterator[str], first: str) -> None:
    print(f"| {first} | step | {' | '.join(VERDICTS)} |")
    print("|---|---|" + "---|" * len(VERDICTS))
    for line in rows:
        print(line, flush=True)


def stored(directory: Path) -> dict[str, Pair]:
    """The figures of a comparison's results."""
    measured = [
        Measurement(**one)
        for record in read_results(directory / "results.jsonl")
        for one in record.measurements
    ]
    names = dict.fromkeys(one.name for one in measured if {one.side} & {"A", "B"})
    return {name: pair(measured, name, "A", "B") for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description="what ./run compare finds and makes up")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=Path)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    if options.sessions is None:
        table(
            (
                row(f"{noise:.0%}{'' if hit else ', none hit'}", step, made)
                for hit in (HIT, 0.0)
                for noise in NOISES
                for step in STEPS
                for made in [[simulated(chance, noise, step, hit) for _ in range(options.runs)]]
            ),
            "CV of a session",
        )
        return 0
    try:
        figures = stored(options.sessions)
    except VirtproofError as error:
        print(f"power: {error}", file=sys.stderr)
        return 1
    table(
        (
            row(name, step, [relabelled(chance, one, step) for _ in range(options.runs)])
            for name, one in figures.items()
            for step in STEPS
        ),
        "figure",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

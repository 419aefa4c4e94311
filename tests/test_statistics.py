"""What is concluded of figures: against SciPy's own tests, known tables, and simulated machines."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from virtproof.measure.measurement import Measurement, MeasurementError
from virtproof.measure.statistics import (
    Pair,
    StatisticsError,
    against,
    holm,
    outruns,
    pair,
    smallest_effect,
)

ONE = Measurement("read", "B/s", "higher", 100.0, [], "ide", 0, 0, "2026-01-01T00:00:00+00:00", {})


def measured(*values: tuple[str, int, float]) -> list[Measurement]:
    return [replace(ONE, side=side, block=block, value=value) for side, block, value in values]


def rates(a: list[float], b: list[float], better: str = "higher") -> Pair:
    return Pair("rate", "B/s", better, tuple(a), tuple(b))  # type: ignore[arg-type]


# --- what is compared -------------------------------------------------------------------------


def test_sessions_are_paired_by_block_whatever_their_order() -> None:
    found = pair(
        measured(("virtio", 1, 30), ("ide", 0, 1), ("virtio", 0, 10), ("ide", 1, 2), ("ide", 2, 9)),
        "read",
        "ide",
        "virtio",
    )
    assert (found.a, found.b) == ((1, 2), (10, 30))


def test_other_figures_sides_and_controls_are_left_out() -> None:
    mixed = measured(("ide", 0, 1), ("virtio", 0, 2), ("sata", 0, 50))
    mixed += [replace(ONE, name="write", side="ide"), replace(ONE, role="control", value=7.0)]
    assert pair(mixed, "read", "ide", "virtio").a == (1,)


@pytest.mark.parametrize(
    ("measurements", "fault"),
    [
        (measured(("ide", 0, 1), ("ide", 0, 2), ("virtio", 0, 3)), "measured twice in block 0"),
        (measured(("ide", 0, 1), ("virtio", 1, 3)), "no block has both"),
        ([], "no block has both"),
        (
            [*measured(("ide", 0, 1)), replace(ONE, side="virtio", unit="1/s")],
            r"cannot be compared: 1/s \(higher is better\) and B/s",
        ),
        (
            [*measured(("ide", 0, 1)), replace(ONE, side="virtio", better="lower")],
            "higher is better.*lower is better",
        ),
    ],
)
def test_what_cannot_be_paired_is_one_line(measurements: list[Measurement], fault: str) -> None:
    with pytest.raises(StatisticsError, match=fault):
        pair(measurements, "read", "ide", "virtio")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0, True])
def test_what_is_no_figure_is_no_measurement(value: float) -> None:
    with pytest.raises(MeasurementError):
        replace(ONE, value=value)


def test_a_sample_or_a_unit_that_is_none_is_refused() -> None:
    with pytest.raises(MeasurementError, match="nan B/s is no measurement"):
        replace(ONE, samples=[1.0, math.nan])
    with pytest.raises(MeasurementError, match="no unit is called 'MB/s'"):
        replace(ONE, unit="MB/s")
    assert replace(ONE, unit="1", value=0.0).value == 0  # a loss of nothing is a good one


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_ratio_needs_figures_above_zero(bad: float) -> None:
    with pytest.raises(StatisticsError, match="above zero"):
        outruns(rates([1, bad], [2, 2]), "a", "b")


# --- the figures ------------------------------------------------------------------------------

A = [100.0, 104.0, 97.0, 101.0, 99.0]
B = [211.0, 202.0, 190.0, 206.0, 205.0]


def test_interval_and_p_are_scipys() -> None:
    found = outruns(rates(A, B), "ide", "virtio")
    test = stats.ttest_rel(np.log(B), np.log(A))
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx(
        (math.exp(interval.low), math.exp(interval.high))
    )
    assert found.ratio == pytest.approx(math.exp(np.mean(np.log(B)) - np.mean(np.log(A))))


def test_sides_changed_give_the_reciprocal() -> None:
    there, back = outruns(rates(A, B), "a", "b"), outruns(rates(B, A), "b", "a")
    assert there.low is not None
    assert back.high is not None
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


@pytest.mark.parametrize(
    ("a", "b", "better", "floor", "verdict"),
    [
        (A, B, "higher", 1.0, "faster"),
        (A, B, "higher", 1.9, "faster"),
        (A, B, "higher", 2.0, "not shown"),  # the estimate is above, the interval is not
        (B, A, "higher", 1.0, "not shown"),
        (B, A, "lower", 1.0, "faster"),  # of a latency, less is more
        (A, B, "lower", 1.0, "not shown"),
        (A, A, "higher", 1.0, "not shown"),
        ([100.0], [900.0], "higher", 1.0, "not shown"),  # one block proves nothing
    ],
)
def test_faster_is_said_of_the_whole_interval(
    a: list[float], b: list[float], better: str, floor: float, verdict: str
) -> None:
    assert outruns(rates(a, b, better), "a", "b", floor).verdict == verdict


def test_holm_is_that_of_the_textbook() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"x": 0.7, "y": 0.9}) == pytest.approx({"x": 1.0, "y": 1.0})


@pytest.mark.parametrize(("cv", "effect"), [(0.03, 0.055), (0.05, 0.092)])
def test_smallest_effects_are_those_of_the_design(cv: float, effect: float) -> None:
    assert smallest_effect(cv * math.sqrt(2), 10) == pytest.approx(effect, abs=0.004)


# --- A against B ------------------------------------------------------------------------------

STEADY = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99, 1.005, 0.995]
OTHER = [1.003, 0.998, 1.0, 1.002, 0.997, 1.001, 0.999, 1.0, 1.004, 0.996]
WILD = [1.0, 1.3, 0.8, 1.2, 0.7, 1.1, 1.4, 0.75, 0.9, 1.25]


@pytest.mark.parametrize(
    ("factor", "base", "better", "verdict"),
    [
        (1.00, STEADY, "higher", "no difference"),
        (0.98, STEADY, "higher", "no difference"),  # real, and too small to be told
        (0.90, STEADY, "higher", "regression"),
        (1.12, STEADY, "higher", "improvement"),
        (0.90, STEADY, "lower", "improvement"),
        (1.12, STEADY, "lower", "regression"),
        (0.955, STEADY, "higher", "inconclusive"),  # neither 5 % worse nor surely less
        (0.70, WILD, "higher", "regression"),  # noise is no excuse for what is wholly beyond it
        (0.93, WILD, "higher", "inconclusive"),
        (1.00, WILD, "higher", "inconclusive"),
    ],
)
def test_the_verdict_of_a_against_b(
    factor: float, base: list[float], better: str, verdict: str
) -> None:
    b = [factor * one for one in base]
    (found,) = against({"rate": rates(OTHER, b, better)}, "old", "new")
    assert found.verdict == verdict, found
    assert (found.margin is not None) == (verdict == "no difference")


def test_one_pair_is_inconclusive_and_no_error() -> None:
    (found,) = against({"rate": rates([1.0], [0.5])}, "old", "new")
    assert (found.verdict, found.p, found.low) == ("inconclusive", None, None)


def sessions(random: np.random.Generator, n: int, cv: float = 0.03) -> np.ndarray:
    """What a machine gives: noise, and one session in ten hit by 5 to 25 %."""
    values = np.exp(random.normal(0, cv, n))
    hit = random.random(n) < 0.1
    return values * np.where(hit, 1 - random.uniform(0.05, 0.25, n), 1)


def rate_of(verdict: str, factor: float, runs: int = 1000, metrics: int = 4) -> float:
    """How often the first of some figures, scaled by ``factor`` on side B, is called so."""
    random, found = np.random.default_rng(7), 0
    for _ in range(runs):
        pairs = {}
        for number in range(metrics):
            a, b = sessions(random, 10), sessions(random, 10)
            pairs[str(number)] = rates(list(a), list(b * (factor if number == 0 else 1)))
        found += against(pairs, "a", "b")[0].verdict == verdict
    return found / runs


def test_false_regressions_are_rare() -> None:
    assert rate_of("regression", 1.0, runs=2000) <= 0.01


def test_large_steps_are_found() -> None:
    """Control of the one above: the same machine, slower by a fifth."""
    assert rate_of("regression", 0.8, runs=500) >= 0.75

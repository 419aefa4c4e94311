"""What sides of a measurement say of each other: paired t on logarithms, over blocks.

The unit is the session (see ``measure.measurement``): each block gives one ratio, so that what slowed the
whole machine down then divides out. Nothing here knows of guests or of tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special  # scipy.stats takes a second more to import

from virtproof.errors import VirtproofError
from virtproof.measure.measurement import Better, Comparison, Measurement, Verdict

CONFIDENCE = 0.95  # (a)
ALPHA = 0.01  # (c), after Holm
REGRESSED = 0.05  # (c): a smaller change is not reported, however sure
SURE = 0.02  # (c): the interval's near end is beyond this
POWER = 0.8  # of the smallest effect that is told
NOISY = 0.08  # coefficient of variation of a session, above which only a regression is concluded
LEAST = 2  # blocks for an interval


class StatisticsError(VirtproofError):
    """These figures cannot be compared."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of two sides: ``a[i]`` and ``b[i]`` are the sessions of one block."""

    name: str
    unit: str
    better: Better
    a: tuple[float, ...]
    b: tuple[float, ...]


def pair(measured: Iterable[Measurement], name: str, a: str, b: str) -> Pair:
    """The sessions of two sides, by block.

    Only blocks with both sides count, and of each side there is one session a block. StatisticsError where
    units or directions differ, a side was measured twice in a block, or no block has both.
    """
    found: dict[str, dict[int, Measurement]] = {a: {}, b: {}}
    kinds = set()
    for one in measured:
        if one.name != name or one.side not in found or one.role != "subject":
            continue
        kinds.add((one.unit, one.better))
        if one.block in found[one.side]:
            raise StatisticsError(f"{name}: {one.side} was measured twice in block {one.block}")
        found[one.side][one.block] = one
    if len(kinds) > 1:
        units = " and ".join(sorted(f"{unit} ({better} is better)" for unit, better in kinds))
        raise StatisticsError(f"{name}: {a} and {b} cannot be compared: {units}")
    both = sorted(found[a].keys() & found[b].keys())
    if not both:
        raise StatisticsError(f"{name}: no block has both {a} and {b}")
    ((unit, better),) = kinds
    sides = [tuple(found[side][block].value for block in both) for side in (a, b)]
    return Pair(name, unit, better, *sides)


def together(pairs: Sequence[Pair], name: str) -> Pair:
    """Several figures of the same blocks as one: each block's ratios by their geometric mean, so that none
    counts more for its unit. All must be better in the same direction (else StatisticsError)."""
    if len({one.better for one in pairs}) != 1 or len({len(one.a) for one in pairs}) != 1:
        raise StatisticsError(f"{name}: these figures are not of one kind and the same blocks")
    logs = np.mean([_logs(one, "a", "b") for one in pairs], axis=0)
    return Pair(name, "1", pairs[0].better, (1.0,) * len(logs), tuple(map(float, np.exp(logs))))


def outruns(
    figures: Pair, a: str, b: str, floor: float = 1.0, confidence: float = CONFIDENCE
) -> Comparison:
    """Question (a): is ``b`` better than ``a``, by more than ``floor``?

    ``faster`` only where the whole interval of the gain (b / a, or a / b where lower is better) lies above.
    Who looks twice at figures that grow asks for half the error each time: a ``confidence`` of 0.975.
    """
    found = _compared(figures, a, b, confidence)
    near = found.low
    if figures.better == "lower":
        near = 1 / found.high if found.high else None
    verdict: Verdict = "faster" if near is not None and near > floor else "not shown"
    return replace(found, verdict=verdict, floor=floor)


def against(pairs: Mapping[str, Pair], a: str, b: str) -> list[Comparison]:
    """Question (c): has ``b`` become slower or faster than ``a``? One comparison a figure, Holm over all.

    A regression: p < .01 (Holm), at least 5 % worse, and the interval wholly beyond 2 %; an improvement
    likewise. ``no difference``: the 99 % interval excludes ``REGRESSED`` or more either way; ``margin``
    is then its far end. All else is inconclusive, as is what varies by more than 8 % a session and is no
    regression: noise excuses no one whose interval is wholly on the wrong side.
    """
    found = {name: _compared(figures, a, b, 1 - ALPHA) for name, figures in pairs.items()}
    adjusted = holm({name: one.p for name, one in found.items() if one.p is not None})
    return [_judged(replace(one, p=adjusted.get(name))) for name, one in found.items()]


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: p-values that may each be held against one level."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = highest
    return adjusted


def smallest_effect(spread: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest change, as a fraction, that ``n`` pairs find with that power.

    ``spread`` is the standard deviation of the pairs' log ratios: 1.4 times a session's own.
    """
    quantiles = special.stdtrit(n - 1, 1 - alpha / 2) + special.stdtrit(n - 1, power)
    return float(-math.expm1(-quantiles * spread / math.sqrt(n)))


def _judged(found: Comparison) -> Comparison:
    """The verdict of (c) on a comparison whose p is adjusted."""
    if found.p is None or found.low is None or found.high is None or found.spread is None:
        return replace(found, verdict="inconclusive")
    smallest = smallest_effect(found.spread, found.n)
    margin = max(1 - found.low, found.high - 1)
    gain, least, most = found.ratio, found.low, found.high
    if found.better == "lower":
        gain, least, most = 1 / gain, 1 / most, 1 / least
    verdict: Verdict = "inconclusive"
    if found.p < ALPHA and most < 1 - SURE and gain <= 1 - REGRESSED:
        verdict = "regression"
    elif found.spread / math.sqrt(2) > NOISY:
        pass
    elif found.p < ALPHA and least > 1 + SURE and gain >= 1 / (1 - REGRESSED):
        verdict = "improvement"
    elif margin < REGRESSED:
        return replace(found, verdict="no difference", margin=margin, smallest=smallest)
    return replace(found, verdict=verdict, smallest=smallest)


def _compared(figures: Pair, a: str, b: str, confidence: float) -> Comparison:
    logs = _logs(figures, a, b)
    n, mean = len(logs), float(np.mean(logs))
    low = high = p = spread = None
    if n >= LEAST:
        spread = float(np.std(logs, ddof=1))
        reach = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * spread / math.sqrt(n)
        low, high = math.exp(mean - reach), math.exp(mean + reach)
        # Without any spread the test has no p: equal figures are no difference, others a sure one.
        p = _p_value(mean, spread, n)
    return Comparison(
        name=figures.name,
        unit=figures.unit,
        better=figures.better,
        a=a,
        b=b,
        n=n,
        ratio=math.exp(mean),
        low=low,
        high=high,
        confidence=confidence,
        p=p,
        spread=spread,
        verdict="inconclusive",
    )


def _p_value(mean: float, spread: float, n: int) -> float:
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * special.stdtr(n - 1, -abs(mean) * math.sqrt(n) / spread))


def _logs(figures: Pair, a: str, b: str) -> npt.NDArray[np.float64]:
    if len(figures.a) != len(figures.b) or not figures.a:
        raise StatisticsError(f"{figures.name}: {a} and {b} have no blocks in common")
    both: Sequence[float] = (*figures.a, *figures.b)
    if any(not math.isfinite(value) or value <= 0 for value in both):
        raise StatisticsError(f"{figures.name}: a ratio needs figures above zero")
    logs: npt.NDArray[np.float64] = np.log(np.asarray(figures.b) / np.asarray(figures.a))
    return logs

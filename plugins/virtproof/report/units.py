"""Figures for a reader: 1.24 Gbit/s, 88.1 MiB/s, 12 400 IOPS, 41.0 µs, 8.20 s/GiB. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
# What a unit is told in, by the least value; a processor's seconds for a byte are told for a GiB.
_TOLD: dict[str, tuple[tuple[float, str], ...]] = {
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")),
    "B/s": ((2.0**30, "GiB/s"), (2.0**20, "MiB/s"), (2.0**10, "KiB/s"), (1.0, "B/s")),
    "1/s": ((1.0, "IOPS"),),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"), (1e-9, "ns")),
    "s/B": ((2.0**-30, "s/GiB"),),
    "1": ((0.01, "%"),),
}


@dataclass(frozen=True, slots=True)
class Told:
    """A unit to tell values in: ``value / factor`` and its ``label``."""

    factor: float
    label: str

    def number(self, value: float) -> str:
        """The value's number without the label."""
        return significant(value / self.factor)

    def __call__(self, value: float) -> str:
        return f"{self.number(value)} {self.label}"


def told_in(unit: str, largest: float) -> Told:
    """What to tell values of ``unit`` in, the largest of which is given."""
    steps = _TOLD.get(unit, ((1.0, unit),))
    return next((Told(*step) for step in steps if largest >= step[0]), Told(*steps[-1]))


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, and never an exponent below a billion: ``0.0412``, ``12 400``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-6 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}" if abs(rounded) >= 1e4 else f"{rounded:.{decimals}f}"
    return text.replace(",", _NARROW_SPACE)


def ratio(value: float) -> str:
    """A ratio in a line of text: ``5.2``, ``120``; around 1 with two decimals, as they matter there."""
    return f"{value:.2f}" if 0.5 < value < 2 else significant(value, 2)


def percent(fraction: float) -> str:
    return f"{significant(fraction * 100, 2)} %"

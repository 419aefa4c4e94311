"""The parts of charts: scales, ticks, axes and marks, as inline SVG that needs neither script nor font.

What lies along a chart is placed in per cent of its width and everything else in pixels, so that a chart
is as wide as the page and its text stays readable on a phone. Colours are the style sheet's, by class.
Pure: numbers and texts in, Markup out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from virtproof.measure.store import clean_line
from virtproof.report.markup import Markup, el

MARGIN = 1.5  # per cent on either side, for marks at the ends
_LONGEST = 44  # characters; tables have the whole name
FONT = 12  # pixels, as the style sheet has it
_PLACES = (1.0, 2.0, 5.0, 10.0)
# Around (0, 0), 5 pixels each way. What a mark says must not hang on its colour.
SHAPES = {
    "diamond": "M0-6L6 0 0 6-6 0Z",
    "square": "M-4.5-4.5h9v9h-9Z",
    "cross": "M-5-5L5 5M5-5L-5 5",
    "ring": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z",
    "left": "M-5 0L3-5V5Z",
    "right": "M5 0L-3-5V5Z",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """From values between ``low`` and ``high`` to per cent of the width; what is beyond lies at the end."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value = max(value, low)
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return MARGIN + (100 - 2 * MARGIN) * min(1.0, max(0.0, share))

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values; some ``about`` of them."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    found: list[float] = []
    for place in _PLACES:
        step = place * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        found = [number * step for number in range(first, last + 1)]
        if len(found) <= about + 1:
            break
    return found


def from_zero(most: float) -> tuple[Scale, list[float]]:
    """A scale from 0 to a nice value not below ``most``, and its ticks."""
    most = most if most > 0 else 1.0
    ticks = nice_ticks(0.0, most)
    if ticks[-1] < most * 0.999:
        ticks.append(ticks[-1] + (ticks[1] - ticks[0]))
    return Scale(0.0, ticks[-1]), ticks


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Ticks of a logarithmic scale: 1, 2, 5 of each decade, or fewer or more as the range asks for."""
    found: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        places = (round(step * 10.0**power, 12) for power in powers for step in steps)
        finer = [place for place in places if low * 0.999 <= place <= high * 1.001]
        if found and len(finer) > most:
            break
        found = finer
        if len(found) >= 3:
            break
    return found if len(found) >= 3 else nice_ticks(low, high)


def tick_label(tick: float) -> str:
    """A tick's number, its thousands apart: ``0.5``, ``2000``, ``15 000``."""
    said = f"{tick:,.6g}" if 1e4 <= abs(tick) < 1e6 else f"{tick:.6g}"
    return said.replace(",", "\N{NARROW NO-BREAK SPACE}")


def svg(name: str, title: str, description: str, height: float, *children: str | None) -> Markup:
    """A chart. ``name`` is unique on the page; title and description are for those who do not see it."""
    return el(
        "svg",
        el("title", title, id=f"{name}-title"),
        el("desc", description, id=f"{name}-desc"),
        *children,
        class_="chart",
        width="100%",
        height=_px(height),
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def axis(
    scale: Scale, ticks: Iterable[float], top: float, bottom: float, label: Callable[[float], str]
) -> list[Markup]:
    """Grid lines from ``top`` to ``bottom``, and under them what they stand for."""
    found = []
    for tick in ticks:
        x = scale(tick)
        found.append(upright(x, top, bottom, "grid"))
        said = label(tick)
        anchor = "middle"
        if len(said) > 3:  # it would stick out
            anchor = "start" if x < 2 * MARGIN else "end" if x > 100 - 2 * MARGIN else anchor
        found.append(text(x, bottom + FONT + 3, said, "tick", anchor))
    return found


def text(x: float, y: float, said: str, class_: str, anchor: str = "start") -> Markup:
    given = None if anchor == "start" else anchor
    said = clean_line(said)
    if len(said) > _LONGEST:
        said = f"{said[: _LONGEST - 1]}…"
    return el("text", said, x=_pc(x), y=_px(y), class_=class_, text_anchor=given)


def dot(x: float, y: float, radius: float, class_: str) -> Markup:
    return el("circle", cx=_pc(x), cy=_px(y), r=_px(radius), class_=class_)


def level(x1: float, x2: float, y: float, class_: str) -> Markup:
    """A horizontal line."""
    return el("line", x1=_pc(x1), x2=_pc(x2), y1=_px(y), y2=_px(y), class_=class_)


def upright(x: float, top: float, bottom: float, class_: str) -> Markup:
    """A vertical line."""
    return el("line", x1=_pc(x), x2=_pc(x), y1=_px(top), y2=_px(bottom), class_=class_)


def bar(x1: float, x2: float, top: float, bottom: float, class_: str) -> Markup:
    """An upright bar."""
    size = {"width": _pc(x2 - x1), "height": _px(bottom - top)}
    return el("rect", x=_pc(x1), y=_px(top), class_=class_, **size)


def shape(kind: str, x: float, y: float, class_: str) -> Markup:
    """One of ``SHAPES``. In an svg of its own, as paths know no per cent."""
    mark = el("path", d=SHAPES[kind], class_=class_)
    return el("svg", mark, x=_pc(x), y=_px(y), width="1", height="1", class_="mark-at")


def interval(
    scale: Scale, low: float | None, high: float | None, y: float, class_: str
) -> list[Markup]:
    """An interval, and arrows where it goes beyond the scale; nothing where there is none."""
    if low is None or high is None:
        return []
    found = [level(scale(low), scale(high), y, class_)]
    if low < scale.low:
        found.append(shape("left", scale(low), y, class_))
    if high > scale.high:
        found.append(shape("right", scale(high), y, class_))
    return found


def _pc(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") + "%"


def _px(number: float) -> str:
    return f"{number:.1f}".rstrip("0").rstrip(".")

"""What ``./run compare`` found, as lines: side B against side A, figure by figure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from virtproof.measure.results import TestRecord
from virtproof.measure.store import clean_line

WORDS = {"regression": "slower", "improvement": "faster"}


def of_sides(results: Sequence[TestRecord]) -> list[dict[str, Any]]:
    """The comparisons of question (c): those of (a) have a floor."""
    return [one for record in results for one in record.comparisons if one["floor"] is None]


def sides_in_words(results: Sequence[TestRecord]) -> str:
    """What the sides were: ``B is nic=virtio, A is nic=e1000``, as the user wrote them."""
    given = {
        str(one["side"]): str(one["guest"].get("given") or one["side"])
        for record in results
        for one in record.measurements
    }
    pairs = dict.fromkeys((str(one["b"]), str(one["a"])) for one in of_sides(results))
    return clean_line(
        "; ".join(f"B is {given.get(b, b)}, A is {given.get(a, a)}" for b, a in pairs)
    )


def compared_lines(found: Sequence[dict[str, Any]], sides: str = "") -> list[str]:
    """A sentence, then a line a figure: ratio, interval, verdict, and what would have been found.

    No lines where nothing was compared in that way.
    """
    if not found:
        return []
    rows: list[tuple[str, ...]] = [("", "B / A", "interval", "verdict", "would find")]
    rows += [_row(one) for one in found]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [f"{_sign(found)} {sentence(found)}", *([f"  {sides}"] if sides else []), "", *lines]


def is_cost(one: dict[str, Any]) -> bool:
    """Whether it is what a byte cost: worth a regression, but no verdict hangs on its noise."""
    return str(one["unit"]) == "s/B"


def gain(one: dict[str, Any]) -> float:
    """How much better B is than A, as a fraction; below 0: worse."""
    ratio = float(one["ratio"])
    return (ratio if one["better"] == "higher" else 1 / ratio) - 1


def verdict(one: dict[str, Any]) -> str:
    """The verdict in words: ``no difference > 4.1 %``."""
    if one["verdict"] == "no difference":
        return f"no difference > {one['margin']:.1%}".replace("%", " %")
    return str(one["verdict"])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    reach = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
    least = "" if one["smallest"] is None else f"{one['smallest']:.1%}".replace("%", " %")
    return clean_line(one["name"]), f"{one['ratio']:.3f}", reach, verdict(one), least


def _sign(found: Sequence[dict[str, Any]]) -> str:
    verdicts = {
        one["verdict"] for one in found if one["verdict"] == "regression" or not is_cost(one)
    }
    return "✗" if "regression" in verdicts else "\N{EN DASH}" if "inconclusive" in verdicts else "✓"


def sentence(found: Sequence[dict[str, Any]]) -> str:
    """What was found, in one."""
    for word in ("regression", "inconclusive", "improvement"):
        these = [one for one in found if one["verdict"] == word]
        if word == "inconclusive":
            these = [one for one in these if not is_cost(one)]
        if not these:
            continue
        names = ", ".join(clean_line(one["name"]) for one in these)
        if word == "inconclusive":
            return f"Inconclusive: B may differ from A in {names}"
        most = min(these, key=gain) if word == "regression" else max(these, key=gain)
        share = f"{abs(gain(most)):.1%}".replace("%", " %")
        return f"B is {WORDS[word]} than A in {names} (up to {share})"
    furthest = max(float(one["margin"] or 0) for one in found)
    return f"B is as fast as A: no difference larger than {furthest:.1%}".replace("%", " %")

"""The difference of two runs, told: text for the terminal, JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from virtproof.measure.store import clean_line
from virtproof.report.difference import KINDS, Difference

_TITLES = {
    "broke": "Newly broken",
    "fixed": "Fixed",
    "changed": "Changed",
    "new": "Newly run",
    "gone": "No longer run",
}
_SIGNS = {"broke": "✗", "fixed": "✓", "changed": "~", "new": "+", "gone": "-"}
_ASCII = {"✗": "x", "✓": "ok", "→": "->"}
_MOST = 20  # of those newly run or no longer run: a matrix that grew is not to hide what broke


def diff_lines(
    found: Sequence[Difference], same: int, names: tuple[str, str], *, every: bool = False
) -> list[str]:
    """What a person reads: the headline, then kind by kind; ``every``: also all that is new or gone."""
    counts = ", ".join(f"{_count(found, kind)} {_TITLES[kind].lower()}" for kind in KINDS)
    lines = [f"{names[0]} → {names[1]}: {counts}; {same} as before"]
    for kind in KINDS:
        mine = [one for one in found if one.kind == kind]
        if not mine:
            continue
        lines += ["", f"{_TITLES[kind]} ({len(mine)})"]
        shown = mine if every or kind not in ("new", "gone") else mine[:_MOST]
        for one in shown:
            lines += _entry(one)
        if len(shown) < len(mine):
            lines.append(f"  ... and {len(mine) - len(shown)} more (--all)")
    return [clean_line(line) if not line.startswith(" ") else _indented(line) for line in lines]


def in_ascii(line: str) -> str:
    """For a terminal that has no other letters."""
    for sign, word in _ASCII.items():
        line = line.replace(sign, word)
    return line.encode("ascii", "replace").decode()


def diff_json(found: Sequence[Difference], same: int, names: tuple[str, str]) -> str:
    told: dict[str, object] = {"a": names[0], "b": names[1], "same": same}
    for kind in KINDS:
        told[kind] = [one.as_dict() for one in found if one.kind == kind]
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _count(found: Sequence[Difference], kind: str) -> int:
    return sum(one.kind == kind for one in found)


def _entry(one: Difference) -> list[str]:
    """The test, how it was and is, on which kernel, and why."""
    name = f"{one.check} on {one.image}" if one.check else one.test.partition("::")[2] or one.test
    was, now = one.kernels
    kernel = f" ({was} → {now})" if was and now and was != now else f" ({now or was})"
    kernel = kernel if now or was else ""
    states = f"{one.was} → {one.now}" if one.was and one.now else str(one.now or one.was)
    lines = [f"  {_SIGNS[one.kind]} {name}{kernel}: {states}"]
    if one.diagnosis or (one.reason and one.kind != "fixed"):
        lines.append("      " + ": ".join(filter(None, (one.diagnosis, one.reason))))
    lines += [f"      gained {line}" for line in _features(one.gained)]
    return lines + [f"      lost {line}" for line in _features(one.lost)]


def _features(by_device: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{device}: {', '.join(names)}" for device, names in by_device.items()]


def _indented(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" "))) + clean_line(line)

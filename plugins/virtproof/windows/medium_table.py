"""A survey, or the difference of two, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from virtproof.windows.looking import printable
from virtproof.windows.platform import WINDOWS, Arch
from virtproof.windows.survey import Change, Row, Survey

_HEAD = ("driver", "version", "date", "ids", "signature", "for")
_ORDER = {windows.name: number for number, windows in enumerate(WINDOWS)}
_ARCHES = {arch.value: number for number, arch in enumerate(Arch)}


def survey_lines(found: Survey) -> list[str]:
    """A line for packages that differ in nothing but their Windows; then each defect; then the sum."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in found.rows:
        key = (
            row.driver,
            row.version or "?",
            row.date or "?",
            " ".join(row.ids) or "?",
            str(row.signature or "none"),
        )
        groups.setdefault(key, []).append(row)
    cells = [_HEAD, *((*key, platforms(rows)) for key, rows in groups.items())]
    label = f", label {found.label}" if found.label else ""
    lines = [printable(f"{found.name}{label}"), "", *_columns(cells)]
    if found.defects:
        lines += ["", "defects:"]
        lines += _told((one.check, one.place, one.text) for one in found.defects)
    return [*lines, "", _sum(found)]


def _sum(found: Survey) -> str:
    count, bad = len(found.defects), len({one.place for one in found.defects if one.place})
    drivers = len({row.driver.lower() for row in found.rows})
    there = f"{_many(len(found.rows), 'package')} of {_many(drivers, 'driver')}"
    if not count:
        return f"{there}: no defect"
    return f"{there}: {_many(count, 'defect')}, {_many(bad, 'package')} not as they should be"


def difference_lines(old: Survey, new: Survey, changes: Sequence[Change]) -> list[str]:
    """What is worse first; of one change in many packages, one line."""
    lines = [f"{old.name} -> {new.name}"]
    for worse, some in groupby(changes, key=lambda change: change.worse):
        lines += ["", "worse:" if worse else "other:"]
        lines += _told((change.what, change.place, change.text) for change in some)
    if not changes:
        return [*lines, "", "no difference in drivers, versions, ids, signatures and defects"]
    worse_count = sum(change.worse for change in changes)
    return [*lines, "", f"{_many(len(changes), 'change')}, {worse_count} for the worse"]


def _told(said: Iterable[tuple[str, str, str]]) -> list[str]:
    """Of (what, place, text): a line for all platforms of a driver that the same is said of."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for what, place, text in said:
        driver, _, platform = place.partition("/")
        told.setdefault((driver or "the medium", what, text), []).append(platform)
    cells = [(*key, _platforms(places)) for key, places in told.items()]
    return [f"  {line}".rstrip() for line in _columns(cells)]


def platforms(rows: Iterable[Row]) -> str:
    return _platforms(f"{row.windows}/{row.arch}" for row in rows)


def _platforms(places: Iterable[str]) -> str:
    """``w10 (x86 amd64), 2k16 2k19 (amd64)`` of ``w10/x86`` and so on."""
    arches: dict[str, list[str]] = {}
    for place in places:
        windows, _, arch = place.partition("/")
        if arch:
            arches.setdefault(windows, []).append(arch)
    ordered = sorted(arches, key=lambda name: _ORDER.get(name, len(_ORDER)))
    sets = [(name, " ".join(sorted(arches[name], key=lambda a: _ARCHES[a]))) for name in ordered]
    return ", ".join(
        f"{' '.join(name for name, _ in some)} ({arch})"
        for arch, some in (
            (arch, [*some]) for arch, some in groupby(sets, key=lambda pair: pair[1])
        )
    )


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Cells padded to columns; the last is as long as it is."""
    cells = [[printable(cell) for cell in row] for row in cells]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")

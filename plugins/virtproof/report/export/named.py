"""The figures of a run under names that are unique in it, for formats that know figures by a name only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from virtproof.measure.measurement import Comparison
from virtproof.measure.results import TestRecord
from virtproof.measure.series import Series, comparisons_of, series_of
from virtproof.measure.store import clean_line

T = TypeVar("T")


def named_series(records: Iterable[TestRecord]) -> dict[str, Series]:
    """``debian-12 tcp-to-guest virtio`` and its sessions; with the test's name where two have the same."""
    found = [(record, one) for record in records for one in series_of(record)]
    return _named(found, lambda _, one: (one.image, one.name, one.whose))


def named_comparisons(records: Iterable[TestRecord]) -> dict[str, Comparison]:
    """``debian-12 tcp-to-guest virtio / rtl8139`` and what was found."""
    found = [(record, one) for record in records for one in comparisons_of(record)]
    return _named(found, lambda record, one: (_image(record), one.name, f"{one.b} / {one.a}"))


def slug(text: str, *, also: str = "") -> str:
    """Letters, digits, ``_`` and what ``also`` says; all else becomes ``_``."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in also else "_" for c in text) or "_"


def _image(record: TestRecord) -> str:
    images = [one["guest"].get("image") for one in record.measurements]
    return str(next(filter(None, images), record.guest.image if record.guest else ""))


def _named(
    found: Sequence[tuple[TestRecord, T]], parts: Callable[[TestRecord, T], tuple[str, ...]]
) -> dict[str, T]:
    named: dict[str, T] = {}
    for record, one in found:
        name = clean_line(" ".join(filter(None, parts(record, one))))
        if name in named:
            name = f"{name} ({clean_line(record.test.rpartition('::')[2])})"
        unique, number = name, 2
        while unique in named:
            unique, number = f"{name} #{number}", number + 1
        named[unique] = one
    return named

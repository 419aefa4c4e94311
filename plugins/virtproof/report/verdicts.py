"""What a run proved: the matrix of claims and guests, and the sentence that sums it up. Pure.

A claim is held by a system only if a test that names it passed there and none failed. What no test
touched is *not run*, whatever else passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from virtproof.claims import CLAIMS, Claim
from virtproof.measure.results import GuestRecord, TestRecord


class State(StrEnum):
    """State of a cell. ``ELSEWHERE``: the claim is proved in other columns and is nothing here."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    NOT_RUN = "not run"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Cell:
    """A claim on a guest: ``counts`` of its tests by outcome; ``reason`` says why not passed."""

    state: State
    counts: dict[str, int]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Tests on one image and kernel. ``image`` is empty for the host: tests that had no guest."""

    image: str
    kernel: str
    distribution: str = ""
    details: tuple[str, ...] = ()  # e.g. ("pc", "ide, virtio", "tcg"): what varied in it

    @property
    def is_host(self) -> bool:
        return not self.image

    @property
    def label(self) -> str:
        return self.image or "host"

    @property
    def system(self) -> str:
        """The image without ``-virtio``, ``-dracut``, ``-nested``: one system, however installed."""
        name = self.image
        for form in ("-nested", "-virtio", "-dracut"):
            name = name.removesuffix(form)
        return name


@dataclass(frozen=True, slots=True)
class Row:
    """A claim over all columns. ``whole`` sums the row up.

    ``touched`` is false where there is nothing to tell apart by column: no test, or only tests that
    were skipped before they had a guest.
    """

    claim: Claim
    whole: Cell
    cells: tuple[Cell, ...]
    touched: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows are claims, in their order; columns the host, then guests by their images' names."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def matrix(results: Sequence[TestRecord], claims: Sequence[Claim] = CLAIMS) -> Matrix:
    """The claims matrix of a run. Claims that this version does not know get rows at the end."""
    known = {claim.id for claim in claims}
    named = dict.fromkeys(name for record in results for name in record.claims)
    strange = (Claim(n, n, "Not a claim that this version knows.") for n in named if n not in known)
    placed = _place(results)
    rows = []
    for claim in (*claims, *strange):
        mine = [[r for r in there if claim.id in r.claims] for there in placed.values()]
        whole = _cell([r for there in mine for r in there], claim)
        cells = [
            _cell(there, claim) if there or _at_home(claim, column, placed) else _ELSEWHERE
            for column, there in zip(placed, mine, strict=True)
        ]
        rows.append(Row(claim, whole, tuple(cells), _touched(claim, list(placed), cells)))
    return _without_idle_host(Matrix(tuple(placed), tuple(rows)))


_ELSEWHERE = Cell(State.ELSEWHERE, {})
_HOST = Column("", "", details=("tests without a guest",))


def _place(results: Sequence[TestRecord]) -> dict[Column, list[TestRecord]]:
    """Each test in its column. A guest that never told its kernel joins its image's only one."""
    kernels: dict[str, list[str]] = {}
    for record in results:
        if record.guest and record.guest.kernel:
            seen = kernels.setdefault(record.guest.image, [])
            if record.guest.kernel not in seen:
                seen.append(record.guest.kernel)
    groups: dict[tuple[str, str], list[TestRecord]] = {}
    for record in results:
        key = ("", "")
        if guest := record.guest:
            only = kernels.get(guest.image, [])
            key = (guest.image, guest.kernel or (only[0] if len(only) == 1 else ""))
        groups.setdefault(key, []).append(record)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])  # the host has no name
    return {_column(key, there): there for key, there in ordered}


def _column(key: tuple[str, str], records: list[TestRecord]) -> Column:
    guests = [record.guest for record in records if record.guest]
    if not guests:
        return _HOST
    distribution = next((g.distribution for g in guests if g.distribution), "")
    return Column(key[0], key[1], distribution, _details(guests))


def _details(guests: list[GuestRecord]) -> tuple[str, ...]:
    def values(texts: list[str]) -> str:
        return ", ".join(dict.fromkeys(texts))

    machines = values([g.machine if g.firmware == "bios" else f"{g.machine} uefi" for g in guests])
    return machines, values([g.accel for g in guests])


def _touched(claim: Claim, columns: list[Column], cells: list[Cell]) -> bool:
    return any(
        cell.counts
        and not (column.is_host and cell.state is State.SKIPPED and claim.group != "HOST")
        for column, cell in zip(columns, cells, strict=True)
    )


def _at_home(claim: Claim, column: Column, columns: dict[Column, list[TestRecord]]) -> bool:
    """Whether one expects the claim in this column: HOST on the host, all others on guests."""
    on_host = claim.group == "HOST"
    has_home = any(c.is_host == on_host for c in columns)
    return not has_home or column.is_host == on_host


def _cell(records: list[TestRecord], claim: Claim) -> Cell:
    counts: dict[str, int] = {}
    for record in records:
        counts[record.outcome] = counts.get(record.outcome, 0) + 1
    for state in (State.FAILED, State.ERROR, State.PASSED, State.SKIPPED):
        if state.value in counts:
            first = next(record for record in records if record.outcome == state.value)
            reason = "" if state is State.PASSED else first.reason or ""
            return Cell(state, counts, reason)
    return Cell(State.NOT_RUN, {}, f"needs {claim.needs}" if claim.needs else "no test touched it")


def _without_idle_host(full: Matrix) -> Matrix:
    """Drop a host column that only skipped what belongs to guests; the rows keep the reason."""
    if len(full.columns) < 2 or not full.columns[0].is_host:
        return full
    if any(row.touched and row.cells[0].counts for row in full.rows):
        return full
    rows = tuple(replace(row, cells=row.cells[1:]) for row in full.rows)
    return Matrix(full.columns[1:], rows)

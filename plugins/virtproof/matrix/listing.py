"""The matrix of an image as lines for a terminal: its cells, and what is left out and why."""

from __future__ import annotations

from collections.abc import Iterator

from virtproof.matrix.cells import Cell
from virtproof.matrix.selection import Matrix, Profile

FEW = 6  # left-out cells of one reason that are named, each on a line of its own


def lines(image: str, profile: Profile, matrix: Matrix) -> Iterator[str]:
    """``image`` and its cells; then a line a cell that is left out, of many with one reason a line in all."""
    count = len(matrix)
    yield f"{image}: {count} cell{'' if count == 1 else 's'}, profile {profile}"
    for title, cells in (
        ("boots", matrix.roots),
        ("is switched", matrix.switches),
        ("is given", matrix.devices),
    ):
        yield from _column(title, cells)
    by_reason: dict[str, list[str]] = {}
    for left in matrix.left_out:
        by_reason.setdefault(left.why, []).append(left.id)
    width = max((len(name) for names in by_reason.values() for name in names[:FEW]), default=0)
    for why, names in by_reason.items():
        for name in names[:FEW]:
            yield f"  {'left out':12}  {name:{width}}  {why}"
        if len(names) > FEW:
            yield f"  {'left out':12}  {f'and {len(names) - FEW} more':{width}}  {why}"


def _column(title: str, cells: tuple[Cell, ...]) -> Iterator[str]:
    for cell in cells:
        yield f"  {title:12}  {cell.id}"

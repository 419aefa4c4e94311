"""The table of patterns: read from ``patterns.toml`` at first use, refused where it is broken."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from virtproof.diagnose.evidence import NAMES
from virtproof.diagnose.facts import FIELDS
from virtproof.errors import VirtproofError

#: A pattern is no place for nested repetitions: a guest could make them take for ever.
_NESTED = re.compile(r"[*+}]\)(?:[*+]|\{\d+,)")
_FATAL: Final = ("", "seen", "standing")
_KEYS: Final = {"id", "name", "field", "regex", "priority", "requires", "unless", "fatal", "quote"}
_QUOTES: Final = ("line", "last-lines")

Conditions = tuple[tuple[str, re.Pattern[str]], ...]


class TableError(VirtproofError):
    """The table of patterns cannot be used; the message names the row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pattern. ``fatal`` is empty, or says how ``fatal()`` uses the row on a console:

    ``seen`` - the boot is over once the pattern was printed; ``standing`` - only while it stands
    among the last lines (a shell's prompt). ``quote`` says what the diagnosis quotes: the line that
    matched, or the last lines of the field.
    """

    id: str
    name: str
    field: str
    regex: re.Pattern[str]
    priority: int
    requires: Conditions = ()
    unless: Conditions = ()
    fatal: str = ""
    quote: str = "line"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order in which they are tried (the lowest priority number first)."""

    rows: tuple[Row, ...]

    def without(self, row_id: str) -> Table:
        """The table less one row: what a test needs to see that the row is what names a case."""
        return Table(tuple(row for row in self.rows if row.id != row_id))

    def fatal(self, how: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.fatal == how)


@cache
def table() -> Table:
    """The table of this package."""
    source = files("virtproof.diagnose").joinpath("patterns.toml")
    return parse(source.read_text(encoding="utf-8"))


def parse(text: str) -> Table:
    """The table written in ``text``. Raises TableError naming the row and its fault."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"the table of patterns is no TOML: {error}") from error
    raw = data.get("pattern", [])
    if set(data) - {"pattern"} or not isinstance(raw, list) or not raw:
        raise TableError("the table of patterns holds something else than [[pattern]] rows")
    rows = [_row(item, index) for index, item in enumerate(raw, 1)]
    ids = [row.id for row in rows]
    if doubled := sorted({i for i in ids if ids.count(i) > 1}):
        raise TableError(f"in the table of patterns two rows are called {', '.join(doubled)}")
    return Table(tuple(sorted(rows, key=lambda row: row.priority)))


def _row(item: Mapping[str, Any], index: int) -> Row:
    where = f"row {index} ({item.get('id', 'without id')}) of the table of patterns"

    def text(key: str, allowed: tuple[str, ...] | None = None, default: str | None = None) -> str:
        value = item.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise TableError(f"{where}: {key} is missing or no text")
        if allowed is not None and value not in allowed:
            raise TableError(f"{where}: {key} {value!r} is not one of {', '.join(allowed)}")
        return value

    if unknown := sorted(set(item) - _KEYS):
        raise TableError(f"{where}: unknown key {', '.join(unknown)}")
    priority = item.get("priority")
    if not isinstance(priority, int):
        raise TableError(f"{where}: priority is no whole number")
    row = Row(
        id=text("id"),
        name=text("name", NAMES),
        field=text("field", FIELDS),
        regex=_regex(text("regex"), where),
        priority=priority,
        requires=_conditions(item.get("requires", {}), where),
        unless=_conditions(item.get("unless", {}), where),
        fatal=text("fatal", _FATAL, ""),
        quote=text("quote", _QUOTES, "line"),
    )
    if row.fatal and (row.field != "console" or row.requires or row.unless):
        raise TableError(f"{where}: only a pattern of the console without conditions can be fatal")
    return row


def _conditions(raw: object, where: str) -> Conditions:
    """``{field = regex}`` or ``{field = [regex, ...]}``: all of them are to hold."""
    if not isinstance(raw, dict):
        raise TableError(f"{where}: requires and unless are tables of field and regex")
    found: list[tuple[str, re.Pattern[str]]] = []
    for field, value in raw.items():
        if field not in FIELDS:
            raise TableError(f"{where}: {field!r} is not one of {', '.join(FIELDS)}")
        patterns = value if isinstance(value, list) else [value]
        found += [(field, _regex(pattern, where)) for pattern in patterns]
    return tuple(found)


def _regex(source: object, where: str) -> re.Pattern[str]:
    if not isinstance(source, str) or not source:
        raise TableError(f"{where}: a regex is missing or no text")
    if _NESTED.search(source):
        raise TableError(f"{where}: {source!r} repeats a repetition", hint="write it without")
    try:
        return re.compile(source, re.MULTILINE)
    except re.error as error:
        raise TableError(f"{where}: {source!r} is no regex: {error}") from error

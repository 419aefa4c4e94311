"""JSON of a guest into frozen dataclasses, whose fields say what may stand there.

What does not fit is one line that says where; nothing of the guest is believed to be short, or printable.
"""

from __future__ import annotations

import types
from dataclasses import fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from virtproof.errors import CommandError
from virtproof.windows.online.runner import clean

T = TypeVar("T")
MOST_ENTRIES = 10_000
LONGEST_TEXT = 4096
NAMES = {str: "text", int: "a number", bool: "true or false"}


def rows(kind: type[T], value: Any, where: str) -> tuple[T, ...]:
    """A list of objects as dataclasses. CommandError with the place of what has another shape."""
    entries = _list(value, where)
    return tuple(_row(kind, entry, f"{where}[{number}]") for number, entry in enumerate(entries))


def one(kind: type[T], value: Any, where: str) -> T:
    """A list of exactly one object, likewise."""
    found = rows(kind, value, where)
    if len(found) != 1:
        raise CommandError(f"Windows: {where}: {len(found)} answers where one is expected")
    return found[0]


def _row(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, dict):
        raise _unfit(where, "an object", value)
    hints = get_type_hints(kind)
    made = {}
    for field in fields(kind):  # type: ignore[arg-type]  # it is a dataclass
        if field.name not in value:
            raise CommandError(f"Windows: {where} has no {field.name!r}")
        made[field.name] = _field(hints[field.name], value[field.name], f"{where}.{field.name}")
    return kind(**made)


def _field(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _field(next(one for one in inner if one is not type(None)), value, where)
    if origin is tuple:
        entries = [] if value is None else _list(value, where)
        return tuple(_field(inner[0], one, f"{where}[{n}]") for n, one in enumerate(entries))
    if hint in NAMES:
        return _plain(hint, value, where)
    return _row(hint, value, where)


def _plain(hint: type, value: Any, where: str) -> Any:
    if hint is str and value is None:
        return ""  # a property that Windows has nothing in
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _unfit(where, NAMES[hint], value)
    return clean(value, LONGEST_TEXT) if isinstance(value, str) else value


def _list(value: Any, where: str) -> list[Any]:
    # PowerShell 3 to 5 write some arrays as an object with their length.
    if isinstance(value, dict) and value.keys() == {"value", "Count"}:
        value = value["value"]
    if not isinstance(value, list):
        raise _unfit(where, "a list", value)
    if len(value) > MOST_ENTRIES:
        raise CommandError(f"Windows: {where} has {len(value)} entries")
    return value


def _unfit(where: str, wanted: str, value: Any) -> CommandError:
    return CommandError(f"Windows: {where} is {clean(repr(value)[:400], 80)}, not {wanted}")

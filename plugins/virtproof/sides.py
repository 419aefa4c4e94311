"""Sides of a measurement; and a side as text, ``nic=virtio,data.cache=none``, to fields of GuestSpec."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from virtproof.errors import UsageError
from virtproof.measure.measurement import Role
from virtproof.spec import Axis, DataDisk, GuestSpec

QEMU, DATA = "qemu", "data."
FILES = ("emulator", "kernel", "initrd")
FIXED = ("accel", "data_disks", "isolated", "nested")  # what a comparison does not choose
WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured against others: a guest's axes (as for ``guest_on``), and the serial of the data disk
    that fio works on (empty: the network). Sides of equal axes are measured on one guest."""

    name: str
    axes: Mapping[str, Any] = field(default_factory=dict)
    disk: str = ""
    text: str = ""  # as the user wrote it
    role: Role = "subject"


def parse_side(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of GuestSpec, and of the data disk that fio works on (``data.`` before their names).

    ``qemu`` stands for ``emulator``; ``nic=none`` is no NIC; files are made absolute and must be there.
    UsageError names the part that cannot be, and the nearest name. ``same`` is a side as the other is.
    """
    spec: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for part in () if text.strip() == "same" else text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            raise UsageError(
                f"{part.strip()!r} of {text!r} is no FIELD=VALUE", hint="as nic=virtio"
            )
        if name.startswith(DATA):
            where, name, known = (
                data,
                name.removeprefix(DATA),
                _types(DataDisk, ("serial", "readonly")),
            )
        else:
            name = "emulator" if name == QEMU else name
            where, known = spec, _types(GuestSpec, FIXED)
        if name in where:
            raise UsageError(f"{text!r} has {name} twice")
        where[name] = _value(name, value, known)
    return spec, data


def _types(of: type, but: tuple[str, ...]) -> Mapping[str, Any]:
    hints = get_type_hints(of)
    return {field.name: hints[field.name] for field in fields(of) if field.name not in but}


def _value(name: str, text: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(known)}"
        raise UsageError(f"a guest has no {name!r}", hint=hint)
    kinds = getattr(known[name], "__args__", (known[name],))
    if type(None) in kinds and text == "none":
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    if issubclass(kind, Axis):
        return kind.parse(text)
    if kind is bool:
        if text not in WORDS:
            raise UsageError(f"{name}={text}: yes or no")
        return WORDS[text]
    if kind is int:
        if not text.isascii() or not text.isdigit():
            raise UsageError(f"{name}={text}: no whole number")
        return int(text)
    return _file(name, text) if name in FILES else text


def _file(name: str, text: str) -> str:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"{name}={text}: there is no such file")
    return str(path)

"""The catalog: one TOML file an image, read with types and bounds checked, key by key."""

from __future__ import annotations

import datetime
import difflib
import importlib.resources
import re
import tomllib
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError, UsageError
from virtproof.images.entry import (
    BUILD,
    DOWNLOAD,
    KINDS,
    BuildEntry,
    DownloadEntry,
    Entry,
    Key,
    contradiction,
)

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def catalog_dir() -> Path:
    """Where the catalog is: package data of an installed virtproof, or the checkout's own."""
    try:
        found = Path(str(importlib.resources.files("virtproof.catalog").joinpath("recipes"))).parent
        if any(found.glob("*.toml")):
            return found
    except ModuleNotFoundError:
        pass
    return Path(__file__).resolve().parents[3] / "fixtures" / "images"


def load(directory: Path | None = None) -> dict[str, Entry]:
    """The whole catalog by name, sorted. Raises ImageError that names file and key."""
    where = directory or catalog_dir()
    files = sorted(where.glob("*.toml"), key=lambda path: path.stem)
    if not files:
        raise ImageError(f"no catalog in {where}", hint="is virtproof installed whole?")
    tables = {path.stem: _read(path) for path in files}
    return {path.stem: _entry(path, tables) for path in files}


def builds(directory: Path | None = None) -> dict[str, BuildEntry]:
    """Those of the catalog that are built here."""
    found = load(directory).items()
    return {name: entry for name, entry in found if isinstance(entry, BuildEntry)}


def find(catalog: dict[str, Entry], name: str) -> Entry:
    """The entry of that name; a UsageError with the nearest names where there is none."""
    if name in catalog:
        return catalog[name]
    near = difflib.get_close_matches(name, catalog, n=3)
    known = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(catalog)}"
    raise UsageError(f"no image is called {name!r}", hint=f"{known}; a file needs a / in its name")


def find_build(catalog: dict[str, Entry], name: str) -> BuildEntry:
    """As ``find``; a UsageError too where the image is not built but downloaded."""
    entry = find(catalog, name)
    if isinstance(entry, DownloadEntry):
        raise UsageError(f"{name} is downloaded whole; this takes an image that is built here")
    return entry


def find_download(catalog: dict[str, Entry], name: str) -> DownloadEntry:
    """As ``find``; a UsageError too where the image is built here."""
    entry = find(catalog, name)
    if isinstance(entry, BuildEntry):
        raise UsageError(f"{name} is built here, not downloaded", hint=f"images build {name}")
    return entry


def _read(path: Path) -> dict[str, Any]:
    """The file's values by dotted key."""
    try:
        text = path.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{path}: not TOML: {error}") from None
    if not NAME.fullmatch(path.stem):
        raise ImageError(f"{path}: the name is not lower-case letters, digits, dots and dashes")
    flat: dict[str, Any] = {}
    for key, value in parsed.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": found for inner, found in value.items()})
        else:
            flat[key] = value
    return flat


def _entry(path: Path, tables: dict[str, dict[str, Any]]) -> Entry:
    values = _with_those_it_is_like(path, tables)
    kind = values.get("kind", "build")
    if kind not in KINDS:
        raise ImageError(f"{path}: kind is {kind!r}", hint=f"one of: {', '.join(KINDS)}")
    _check_known(path, kind, tables[path.stem])
    if kind == "download":
        fields = _fields(path, DOWNLOAD, values)
        if fault := contradiction(values):
            raise ImageError(f"{path}: {fault}")
        return DownloadEntry(**fields)
    entry = BuildEntry(**_fields(path, BUILD, values))
    if (entry.firmware, entry.table) == ("uefi", "mbr"):
        raise ImageError(f"{path}: disk.firmware: uefi needs disk.table gpt")
    return entry


def _with_those_it_is_like(path: Path, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The entry's values, and where it says nothing those of the entries that it is like."""
    values, seen = dict(tables[path.stem]), [path.stem]
    while "like" in values:
        other = values.pop("like")
        if other not in tables or other in seen:
            why = "is like this one" if other in tables else "is no other entry"
            raise ImageError(
                f"{path}: like: {other!r} {why}", hint="the name of a file beside it, without .toml"
            )
        seen.append(other)
        values = {**tables[other], **values}
    return values


def _check_known(path: Path, kind: str, own: dict[str, Any]) -> None:
    known = [*KINDS[kind], "like"]
    for key in own:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ImageError(f"{path}: unknown key {key}", hint=hint)


def _fields(path: Path, keys: dict[str, Key], values: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": path.stem}
    for key, wanted in keys.items():
        if key in values:
            fields[wanted.field] = _checked(path, key, values[key], wanted)
        elif wanted.default is ...:
            raise ImageError(f"{path}: missing key {key}")
        else:
            fields[wanted.field] = wanted.default
    return fields


def _checked(path: Path, key: str, value: Any, expected: Key) -> Any:
    kind, wanted = expected.type, expected.wanted
    names = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        list: "a list of strings",
        datetime.date: "a date (2030-06-30)",
    }
    # bool is an int to Python, but not to the reader of the file.
    if type(value) is not kind or (kind is list and not all(type(v) is str for v in value)):
        raise ImageError(f"{path}: {key} is {value!r}, not {names[kind]}")
    if kind is list and not value:
        raise ImageError(f"{path}: {key} is empty")
    if isinstance(wanted, tuple):
        for text in value if kind is list else [value]:
            if text not in wanted:
                raise ImageError(f"{path}: {key} is {text!r}", hint=f"one of: {', '.join(wanted)}")
    if isinstance(wanted, range) and value not in wanted:
        raise ImageError(f"{path}: {key} is {value}", hint=f"{wanted.start} to {wanted.stop - 1}")
    if isinstance(wanted, re.Pattern):
        for text in value if kind is list else [value]:
            if not wanted.fullmatch(text):
                raise ImageError(f"{path}: {key}: {text!r} has characters that no name has")
    return tuple(value) if kind is list else value

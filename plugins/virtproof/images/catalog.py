"""The catalog: one TOML file an image, read with types and bounds checked, key by key."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError, UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
KINDS = ("build",)
TOOLS = ("initramfs-tools", "dracut")
BUSES = ("ide", "virtio")
LATER = ("dep", "list", "most")


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that can be made. ``drivers``: what its first initramfs holds to find the root.

    ``modules_later``: initramfs-tools' MODULES after the build. ``space_mib``: free space that the
    build needs in the cache. ``size_mib``: size of the disk that the guest sees.
    """

    name: str
    title: str
    distribution: str
    suite: str
    architecture: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    tool: str
    drivers: tuple[str, ...]
    modules_later: str
    installed_on: str
    update_kernel: str
    size_mib: int
    space_mib: int
    verified: bool
    kind: str = "build"

    @property
    def all_packages(self) -> tuple[str, ...]:
        """What is installed: the list of the entry and its initramfs tool."""
        return (*self.packages, self.tool)


# Key of the file -> (field, type of the value, what it must be).
_KEYS: dict[str, tuple[str, type[Any], Any]] = {
    "title": ("title", str, None),
    "kind": ("kind", str, KINDS),
    "distribution": ("distribution", str, WORD),
    "suite": ("suite", str, WORD),
    "architecture": ("architecture", str, ("amd64",)),
    "components": ("components", list, WORD),
    "installed_on": ("installed_on", str, BUSES),
    "verified": ("verified", bool, None),
    "rootfs.packages": ("packages", list, WORD),
    "initramfs.tool": ("tool", str, TOOLS),
    "initramfs.drivers": ("drivers", list, WORD),
    "initramfs.modules_later": ("modules_later", str, LATER),
    "update.kernel": ("update_kernel", str, WORD),
    "disk.size_mib": ("size_mib", int, range(512, 1 << 20)),
    "needs.space_mib": ("space_mib", int, range(1, 1 << 20)),
}


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


def find(catalog: dict[str, Entry], name: str) -> Entry:
    """The entry of that name; a UsageError with the nearest names where there is none."""
    if name in catalog:
        return catalog[name]
    near = difflib.get_close_matches(name, catalog, n=3)
    known = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(catalog)}"
    raise UsageError(f"no image is called {name!r}", hint=f"{known}; a file needs a / in its name")


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
    for key in flat:
        if key not in _KEYS and key != "like":
            near = difflib.get_close_matches(key, [*_KEYS, "like"], n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ImageError(f"{path}: unknown key {key}", hint=hint)
    return flat


def _entry(path: Path, tables: dict[str, dict[str, Any]]) -> Entry:
    own = tables[path.stem]
    values = dict(own)
    if "like" in own:
        other = own["like"]
        if other not in tables or other == path.stem or "like" in tables[other]:
            raise ImageError(
                f"{path}: like: {other!r} is no other entry that stands by itself",
                hint="the name of a file beside it, without .toml",
            )
        values = {**tables[other], **own}
    values.pop("like", None)
    fields: dict[str, Any] = {"name": path.stem}
    for key, (field, kind, wanted) in _KEYS.items():
        if key not in values:
            if field == "kind":
                continue
            raise ImageError(f"{path}: missing key {key}")
        fields[field] = _checked(path, key, values[key], kind, wanted)
    return Entry(**fields)


def _checked(path: Path, key: str, value: Any, kind: type[Any], wanted: Any) -> Any:
    names = {str: "a string", bool: "true or false", int: "a number", list: "a list of strings"}
    # bool is an int to Python, but not to the reader of the file.
    if type(value) is not kind or (kind is list and not all(type(v) is str for v in value)):
        raise ImageError(f"{path}: {key} is {value!r}, not {names[kind]}")
    if kind is list and not value:
        raise ImageError(f"{path}: {key} is empty")
    if isinstance(wanted, tuple) and value not in wanted:
        raise ImageError(f"{path}: {key} is {value!r}", hint=f"one of: {', '.join(wanted)}")
    if isinstance(wanted, range) and value not in wanted:
        raise ImageError(f"{path}: {key} is {value}", hint=f"{wanted.start} to {wanted.stop - 1}")
    if isinstance(wanted, re.Pattern):
        for text in value if kind is list else [value]:
            if not wanted.fullmatch(text):
                raise ImageError(f"{path}: {key}: {text!r} has characters that no name has")
    return tuple(value) if kind is list else value

"""Windows that was installed here from its own medium: found by name in the cache."""

from __future__ import annotations

import contextlib
from pathlib import Path

from virtproof.errors import ImageError, UsageError
from virtproof.images.cache import MANIFEST, WINDOWS, Cache, Item, read_manifest
from virtproof.images.foreign import is_file_name
from virtproof.images.prepare import DISK


def names(cache: Cache) -> dict[str, Path]:
    """Name to item, unverified; of two with one name the newer."""
    found = {}
    for path in sorted(cache.items(WINDOWS), key=lambda path: (path / MANIFEST).stat().st_mtime):
        with contextlib.suppress(ImageError):  # damaged: whoever needs it makes it anew
            found[str(read_manifest(path)["facts"].get("name"))] = path
    return found


def find(cache: Cache, name: str) -> Item | None:
    """The image of that name, verified; None where there is none, or a damaged one was put aside."""
    path = names(cache).get(name)
    return None if path is None else cache.get(WINDOWS, path.name)


def disk(cache: Path, name: str) -> Path | None:
    """The disk of the installed Windows of that name; None for a file's name and for an unknown one."""
    if is_file_name(name) or Path(name).exists() or not cache.is_dir():
        return None
    item = find(Cache(cache, lambda _line: None), name)
    return None if item is None else item.path / DISK


def refuse(cache: Path, name: str) -> None:
    """UsageError where that is the name of a Windows, and what is wanted is a Linux."""
    if disk(cache, name) is not None:
        raise UsageError(
            f"{name} is a Windows, and --image is for Linux", hint=f"--windows-image={name}"
        )

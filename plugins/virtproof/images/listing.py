"""The list of images: what the catalog has, what of it is in the cache, and until when it is supported."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.images import catalog
from virtproof.images.cache import MANIFEST, WARM, WINDOWS, read_manifest
from virtproof.images.entry import BuildEntry, DownloadEntry, Entry
from virtproof.images.fetch.publisher import support_ended
from virtproof.images.prepare import DISK
from virtproof.images.store import ImageStore, default_image


@dataclass(frozen=True, slots=True)
class Row:
    """An image as the list tells it.

    ``kind``: build, download, file or windows. ``state``: built, prepared, installed, fetched (and not yet
    prepared), "-", "no apt source" or damaged. ``end_of_life``: a date, and whether it is past; or empty.
    """

    name: str
    kind: str
    state: str
    size_mib: int | None
    age_s: float | None
    kernel: str
    end_of_life: str
    verified: bool
    default: bool
    current: bool
    where: str


def lines(store: ImageStore) -> list[str]:
    """The list as the terminal shows it: a table, and what there is beside it."""
    head = ("IMAGE", "KIND", "STATE", "SIZE", "AGE", "KERNEL", "SUPPORTED UNTIL", "SEEN WORKING")
    table = [head]
    for row in rows(store):
        size = f"{row.size_mib} MiB" if row.size_mib is not None else ""
        age = _age(row.age_s) if row.age_s is not None else ""
        name = f"{row.name} *" if row.default else row.name
        seen = "yes" if row.verified else "no"
        table.append((name, row.kind, row.state, size, age, row.kernel, row.end_of_life, seen))
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    found = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    found.append(f"* the default here; the cache is {store.cache.root}")
    warm = store.cache.items(WARM)
    if warm:
        kinds = sorted({str(facts(path).get("spec", "unknown")) for path in warm})
        blocks = sum(file.stat().st_blocks for path in warm for file in path.iterdir())
        found.append(f"guests saved warm: {len(warm)}, {blocks // 2048} MiB: {', '.join(kinds)}")
    return found


def as_json(store: ImageStore) -> str:
    """The list for programs: an object a row."""
    return json.dumps(
        [{f: getattr(row, f) for f in Row.__slots__} for row in rows(store)], indent=1
    )


def rows(store: ImageStore) -> list[Row]:
    """The catalog's images and the prepared files, in the order of their names."""
    built: dict[str, Path] = {path.name: path for path in store.cache.items("prepared")}
    default = default_image()
    found = []
    entries = catalog.load()
    for entry in entries.values():
        path, state = _state(store, entry, built)
        row = _row(entry.name, state, path)
        flags = (entry.verified, entry.name == default, path is not None)
        found.append(Row(entry.name, entry.kind, *row, _supported(entry), *flags, str(path or "")))
    for path in built.values():
        name = str(facts(path).get("name", path.name))
        known = entries.get(name)
        state = "built, outdated" if isinstance(known, BuildEntry) else "prepared"
        state += ", outdated" if isinstance(known, DownloadEntry) else ""
        flags = (known is not None, False, known is None)
        kind = "file" if known is None else known.kind
        found.append(Row(name, kind, *_row(name, state, path), "", *flags, str(path)))
    for path in store.cache.items(WINDOWS):
        name = str(facts(path).get("name", path.name))
        flags = (False, False, True)
        found.append(Row(name, WINDOWS, *_row(name, "installed", path), "", *flags, str(path)))
    return found


def _state(store: ImageStore, entry: Entry, built: dict[str, Path]) -> tuple[Path | None, str]:
    """Where the entry's prepared image is, taken out of ``built``, and the word for it."""
    if isinstance(entry, DownloadEntry):
        key = store.download_key(entry)
        path = built.pop(key, None) if key else None
        return path, "prepared" if path else "fetched" if key else "-"
    try:
        path = built.pop(store.prepared_key(entry), None)
    except ImageError:
        return None, "no apt source"
    return path, "built" if path else "-"


def _supported(entry: Entry) -> str:
    if not isinstance(entry, DownloadEntry) or entry.end_of_life is None:
        return ""
    return f"{entry.end_of_life}{' (past)' if support_ended(entry) else ''}"


def _row(name: str, state: str, path: Path | None) -> tuple[str, int | None, float | None, str]:
    if path is None:
        return state, None, None, ""
    disk = path / DISK
    if not disk.exists():
        return f"damaged: {name} has no disk", None, None, ""
    status = disk.stat()
    kernel = str(facts(path).get("kernel", ""))
    return state, status.st_size >> 20, time.time() - (path / MANIFEST).stat().st_mtime, kernel


def digest(path: Path) -> str:
    """SHA-256 of a prepared image's disk, as it was sealed."""
    try:
        return str(read_manifest(path)["files"].get(DISK, {}).get("sha256"))
    except ImageError:
        return ""


def facts(path: Path) -> dict[str, Any]:
    try:
        facts = read_manifest(path)["facts"]
    except ImageError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"

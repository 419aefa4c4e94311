"""``virtproof images list|build|remove``: what there is, make it now, make room."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError, VirtproofError
from virtproof.images import catalog, several, sources
from virtproof.images.cache import MANIFEST, READY, WARM, read_manifest
from virtproof.images.entry import BuildEntry
from virtproof.images.foreign import is_file_name
from virtproof.images.prepare import DISK, Gate
from virtproof.images.store import ImageStore, default_cache, default_image
from virtproof.spec import Accel


@dataclass(frozen=True, slots=True)
class Row:
    """An image as the list tells it. ``state``: built, "-", "no apt source" or damaged."""

    name: str
    state: str
    size_mib: int | None
    age_s: float | None
    kernel: str
    verified: bool
    default: bool
    current: bool
    where: str


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``images``; ``main`` takes what it parses."""
    parser = subparsers.add_parser("images", help="list, build and remove guest images")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the catalog, and what of it is built")
    listing.add_argument("--json", action="store_true", help="the same, for programs")
    build = actions.add_parser("build", help="build and prepare images")
    build.add_argument("names", nargs="*", metavar="NAME", help="default: this machine's default")
    build.add_argument("--accel", choices=[a.value for a in Accel], default=Accel.TCG.value)
    build.add_argument(
        "-j", "--jobs", type=_jobs, help="images at a time (default: by cores and memory)"
    )
    build.add_argument(
        "--apt-sources", metavar="FILE", help="a .list or .sources file to build from"
    )
    remove = actions.add_parser("remove", help="remove images from the cache")
    remove.add_argument("names", nargs="*", metavar="NAME")
    remove.add_argument(
        "--outdated", action="store_true", help="what recipe or key have changed for"
    )
    remove.add_argument("--all", action="store_true", help="every image, and what they are made of")
    for action in (listing, build, remove):
        action.add_argument("--cache", type=Path, metavar="DIR", help="default: see the README")
    return parser


def main(args: argparse.Namespace, gate: Gate | None = None) -> int:
    """Run one of the actions, first boots through ``gate``.

    0, or 1 with one line on stderr, or 130 after Ctrl-C.
    """
    try:
        if getattr(args, "apt_sources", None):
            os.environ[sources.ENVIRONMENT] = str(Path(args.apt_sources).absolute())
        accel = Accel(getattr(args, "accel", Accel.TCG.value))
        store = ImageStore(args.cache or default_cache(), accel, _progress, gate)
        return {"list": _list, "build": _build, "remove": _remove}[args.action](store, args)
    except VirtproofError as error:
        print(f"virtproof: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("virtproof: interrupted; nothing half-made is left", file=sys.stderr)
        return 130


def rows(store: ImageStore) -> list[Row]:
    """The catalog's images and the prepared files, in the order of their names."""
    built: dict[str, Path] = {path.name: path for path in store.cache.items("prepared")}
    default = default_image()
    found = []
    for entry in catalog.builds().values():
        try:
            path = built.pop(store.prepared_key(entry), None)
            state = "-" if path is None else "built"
        except ImageError:
            path, state = None, "no apt source"
        row = _row(entry.name, state, path)
        flags = (entry.verified, entry.name == default, path is not None)
        found.append(Row(entry.name, *row, *flags, str(path or "")))
    for path in built.values():
        name = str(_facts(path).get("name", path.name))
        catalogued = name in catalog.load()
        state = "built, outdated" if catalogued else "prepared"
        flags = (catalogued, False, not catalogued)
        found.append(Row(name, *_row(name, state, path), *flags, str(path)))
    return found


def _row(name: str, state: str, path: Path | None) -> tuple[str, int | None, float | None, str]:
    if path is None:
        return state, None, None, ""
    disk = path / DISK
    if not disk.exists():
        return f"damaged: {name} has no disk", None, None, ""
    status = disk.stat()
    kernel = str(_facts(path).get("kernel", ""))
    return state, status.st_size >> 20, time.time() - (path / MANIFEST).stat().st_mtime, kernel


def _digest(path: Path) -> str:
    """SHA-256 of a prepared image's disk, as it was sealed."""
    try:
        return str(read_manifest(path)["files"].get(DISK, {}).get("sha256"))
    except ImageError:
        return ""


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = read_manifest(path)["facts"]
    except ImageError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _list(store: ImageStore, args: argparse.Namespace) -> int:
    found = rows(store)
    if args.json:
        fields = Row.__slots__
        print(json.dumps([{f: getattr(row, f) for f in fields} for row in found], indent=1))
        return 0
    table = [("IMAGE", "STATE", "SIZE", "AGE", "KERNEL", "SEEN WORKING")]
    for row in found:
        size = f"{row.size_mib} MiB" if row.size_mib is not None else ""
        age = _age(row.age_s) if row.age_s is not None else ""
        name = f"{row.name} *" if row.default else row.name
        table.append((name, row.state, size, age, row.kernel, "yes" if row.verified else "no"))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )
    print(f"* the default here; the cache is {store.cache.root}")
    warm = store.cache.items(WARM)
    if warm:
        kinds = sorted({str(_facts(path).get("spec", "unknown")) for path in warm})
        blocks = sum(file.stat().st_blocks for path in warm for file in path.iterdir())
        print(f"guests saved warm: {len(warm)}, {blocks // 2048} MiB: {', '.join(kinds)}")
    return 0


def _build(store: ImageStore, args: argparse.Namespace) -> int:
    if len(args.names) > 1:
        return _build_several(store, args)
    for name in args.names or [default_image()]:
        begin = time.monotonic()
        image = store.prepared(name)
        print(f"{image.name}: ready after {time.monotonic() - begin:.0f} s, {image.path}")
    return 0


def _build_several(store: ImageStore, args: argparse.Namespace) -> int:
    """As many at a time as the machine bears; 1 and their names where some failed."""
    entries = catalog.load()
    for name in args.names:
        if not is_file_name(name):
            catalog.find(entries, name)

    def suite(name: str) -> str:
        entry = entries.get(name)
        return f"{entry.distribution} {entry.suite}" if isinstance(entry, BuildEntry) else name

    names = several.spread(list(dict.fromkeys(args.names)), suite)
    options = ["--accel", args.accel, "--cache", str(store.cache.root)]
    failed = several.build(names, options, _progress, args.jobs or several.jobs())
    if failed:
        raise ImageError(f"not built: {', '.join(failed)}", hint="each said why above")
    return 0


def _remove(store: ImageStore, args: argparse.Namespace) -> int:
    if not (args.names or args.all or args.outdated):
        raise ImageError("nothing named to remove", hint="images remove NAME..., --outdated, --all")
    entries = catalog.load()
    prepared = store.cache.items("prepared")
    known = {str(_facts(path).get("name")) for path in prepared}
    for name in args.names:
        if name not in known:
            catalog.find(entries, name)
    current = {row.where for row in rows(store) if row.current}
    chosen = [
        path
        for path in prepared
        if args.all
        or _facts(path).get("name") in args.names
        or (args.outdated and str(path) not in current)
    ]
    for path in [*chosen, *_orphans(store, chosen, everything=args.all)]:
        store.cache.remove(path)
        print(f"removed {path}")
    if not chosen:
        print("nothing of that is in the cache")
    return 0


def _orphans(store: ImageStore, gone: list[Path], *, everything: bool) -> Iterator[Path]:
    """What only the removed images needed: root filesystems, packages, their warm guests and ready disks.

    With ``everything``, all other items too.
    """
    kept = [p for p in store.cache.items("prepared") if p not in gone]
    for kind in ("rootfs", "packages"):
        needed = {_facts(path).get(kind) for path in kept}
        freed = {_facts(path).get(kind) for path in gone}
        for path in store.cache.items(kind):
            if everything or (path.name in freed and path.name not in needed):
                yield path
    digests = {_digest(path) for path in kept}
    for path in (*store.cache.items(WARM), *store.cache.items(READY)):
        if _facts(path).get("image") not in digests:
            yield path
    if everything:
        yield from store.cache.items("kernel")
        yield from sorted((store.cache.root / "quarantine").iterdir())


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

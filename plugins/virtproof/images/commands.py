"""``virtproof images list|build|fetch|remove``: what there is, make or get it now, make room."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from virtproof.errors import ImageError, VirtproofError
from virtproof.images import catalog, installing, listing, several, sources
from virtproof.images.cache import READY, WARM, WINDOWS
from virtproof.images.entry import BuildEntry, DownloadEntry
from virtproof.images.fetch.publisher import KIND, PARTIAL, address
from virtproof.images.fetch.wishes import wishes
from virtproof.images.foreign import is_file_name
from virtproof.images.listing import digest, facts, rows
from virtproof.images.prepare import Gate
from virtproof.images.store import ImageStore, default_cache, default_image
from virtproof.spec import Accel


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``images``; ``main`` takes what it parses."""
    parser = subparsers.add_parser("images", help="list, build, fetch and remove guest images")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="the catalog, and what of it is built")
    listed.add_argument("--json", action="store_true", help="the same, for programs")
    build = actions.add_parser("build", help="build or download images, and prepare them")
    build.add_argument("names", nargs="*", metavar="NAME", help="default: this machine's default")
    build.add_argument(
        "--accel", choices=[a.value for a in Accel], help="default: tcg, of windows what works"
    )
    build.add_argument(
        "-j", "--jobs", type=_jobs, help="images at a time (default: by cores and memory)"
    )
    build.add_argument(
        "--apt-sources", metavar="FILE", help="a .list or .sources file to build from"
    )
    installing.add_options(build)
    fetch = actions.add_parser("fetch", help="download publishers' images, and prove them")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.add_argument("--refresh", action="store_true", help="look for a newer one")
    for action in (build, fetch):
        _add_download_options(action)
    remove = actions.add_parser("remove", help="remove images from the cache")
    remove.add_argument("names", nargs="*", metavar="NAME")
    remove.add_argument(
        "--outdated", action="store_true", help="what recipe or key have changed for"
    )
    remove.add_argument("--all", action="store_true", help="every image, and what they are made of")
    for action in (listed, build, fetch, remove):
        action.add_argument("--cache", type=Path, metavar="DIR", help="default: see the README")
    return parser


def _add_download_options(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--mirror",
        action="append",
        metavar="FROM=TO",
        help="addresses that begin with FROM are fetched from TO; repeatable",
    )
    action.add_argument("--keys", metavar="FILE", help="publishers' public keys, or a directory")
    action.add_argument("--unsigned", action="store_true", help="do not look at signatures")


def main(args: argparse.Namespace, gate: Gate | None = None) -> int:
    """Run one of the actions, first boots through ``gate``.

    0, or 1 with one line on stderr, or 130 after Ctrl-C.
    """
    try:
        if getattr(args, "apt_sources", None):
            os.environ[sources.ENVIRONMENT] = str(Path(args.apt_sources).absolute())
        accel = Accel(getattr(args, "accel", None) or Accel.TCG)
        wished = wishes(
            getattr(args, "mirror", None) or (),
            getattr(args, "keys", None) or "",
            unsigned=getattr(args, "unsigned", False),
        )
        store = ImageStore(args.cache or default_cache(), accel, _progress, gate, wished)
        return ACTIONS[args.action](store, args)
    except VirtproofError as error:
        print(f"virtproof: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("virtproof: interrupted; nothing half-made is left", file=sys.stderr)
        return 130


def _list(store: ImageStore, args: argparse.Namespace) -> int:
    print(listing.as_json(store) if args.json else "\n".join(listing.lines(store)))
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
    options = ["--accel", store.accel.value, "--cache", str(store.cache.root)]
    options += [word for pair in args.mirror or () for word in ("--mirror", pair)]
    options += ["--keys", args.keys] if args.keys else []
    options += ["--unsigned"] if args.unsigned else []
    failed = several.build(names, options, _progress, args.jobs or several.jobs())
    if failed:
        raise ImageError(f"not built: {', '.join(failed)}", hint="each said why above")
    return 0


def _fetch(store: ImageStore, args: argparse.Namespace) -> int:
    entries = catalog.load()
    wanted = [catalog.find_download(entries, name) for name in args.names]
    for entry in wanted:
        item = store.publisher.item(entry, refresh=args.refresh)
        print(f"{entry.name}: {item.path / next(iter(item.digests))}")
    return 0


def _remove(store: ImageStore, args: argparse.Namespace) -> int:
    if not (args.names or args.all or args.outdated):
        raise ImageError("nothing named to remove", hint="images remove NAME..., --outdated, --all")
    entries = catalog.load()
    prepared = store.cache.items("prepared")
    fetched = [*store.cache.items(KIND), *store.cache.items(WINDOWS)]
    known = {str(facts(path).get("name")) for path in [*prepared, *fetched]}
    for name in args.names:
        if name not in known:
            catalog.find(entries, name)
    current = {row.where for row in rows(store) if row.current}
    chosen = [
        path
        for path in prepared
        if args.all
        or facts(path).get("name") in args.names
        or (args.outdated and str(path) not in current)
    ]
    gone = [path for path in fetched if args.all or facts(path).get("name") in args.names]
    if args.outdated:
        wanted = {address(e) for e in entries.values() if isinstance(e, DownloadEntry)}
        gone += [path for path in store.cache.items(KIND) if path.name not in wanted]
    gone += [*chosen, *_orphans(store, chosen, everything=args.all)]
    for path in gone:
        store.cache.remove(path)
        print(f"removed {path}")
    if not gone:
        print("nothing of that is in the cache")
    return 0


def _orphans(store: ImageStore, gone: list[Path], *, everything: bool) -> Iterator[Path]:
    """What only the removed images needed: root filesystems, packages, their warm guests and ready disks.

    With ``everything``, all other items too.
    """
    kept = [p for p in store.cache.items("prepared") if p not in gone]
    for kind in ("rootfs", "packages"):
        needed = {facts(path).get(kind) for path in kept}
        freed = {facts(path).get(kind) for path in gone}
        for path in store.cache.items(kind):
            if everything or (path.name in freed and path.name not in needed):
                yield path
    digests = {digest(path) for path in kept}
    for path in (*store.cache.items(WARM), *store.cache.items(READY)):
        if facts(path).get("image") not in digests:
            yield path
    if everything:
        yield from store.cache.items("kernel")
        for kind in ("quarantine", PARTIAL):
            yield from sorted((store.cache.root / kind).glob("*"))


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


ACTIONS = {"list": _list, "build": _build, "fetch": _fetch, "remove": _remove}

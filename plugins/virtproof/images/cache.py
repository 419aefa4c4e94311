"""A content-addressed cache of directories: locked, whole or absent, sealed, verified on use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from virtproof import host
from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError
from virtproof.images import namespace, scratch

MANIFEST = "manifest.json"
WARM = "warm"  # the kind of saved guests, whose facts have their image's digest
WINDOWS = "windows"  # installed here; has its owner's product key and a password
PRIVATE = (WARM, WINDOWS)  # kinds that nobody but the owner may read
READY = "ready"  # root disks whose initramfs knows every bus; likewise
PATIENCE_S = 1.0
STAMP_S = 24 * 3600.0
CHUNK = 1 << 22

Progress = Callable[[str], None]


def default_cache() -> Path:
    """``$VIRTPROOF_CACHE``, else ``$XDG_CACHE_HOME/virtproof``, else ``~/.cache/virtproof``."""
    if own := os.environ.get("VIRTPROOF_CACHE"):
        return Path(own).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "virtproof"


@dataclass(frozen=True, slots=True)
class Item:
    """A finished directory of the cache. ``facts``: what its maker wrote down about it."""

    path: Path
    facts: dict[str, Any]
    digests: dict[str, str]  # SHA-256 in hex, by file name


class Cache:
    """Items lie at ``<root>/<kind>/<key>/``; each is made in ``tmp`` and renamed when it is whole."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self.progress = progress
        for name in ("", "tmp", "lock", "failed", "quarantine"):
            _make_dir(root / name)
        # What was killed may be made by nobody again.
        scratch.sweep(self.root / "tmp")

    def get(self, kind: str, key: str, only: str | None = None) -> Item | None:
        """The item, verified; None where there is none, or a damaged one had to be put aside.

        ``only``: the one file of it that the caller uses, and that is verified.
        """
        path = self.root / kind / key
        if not path.exists():
            return None
        try:
            return _verified(path, only)
        except ImageError as error:
            aside = self.root / "quarantine" / f"{kind}-{key}-{time.time_ns()}"
            with contextlib.suppress(FileNotFoundError):
                path.rename(aside)
            self.progress(f"{error}; put aside in {aside}, making it anew")
            return None

    def make(self, kind: str, key: str, maker: Callable[[Path], dict[str, Any]]) -> Item:
        """Make an item: ``maker`` fills a scratch directory and returns the facts.

        The caller holds the lock of it. Nothing is left where the maker fails or is interrupted.
        """
        with self.scratch() as folder:
            facts = maker(folder)
            digests = _seal(folder, facts, private=kind in PRIVATE)
            target = self.root / kind / key
            _make_dir(target.parent)
            folder.rename(target)
            _sync(target.parent)
        return Item(target, facts, digests)

    def scratch(self) -> AbstractContextManager[Path]:
        """A directory of its own on the cache's file system, gone after the block unless renamed."""
        return scratch.fresh(self.root / "tmp")

    @contextlib.contextmanager
    def locked(self, name: str, what: str) -> Iterator[None]:
        """Hold the lock ``name`` of this cache; where another keeps it, say so and wait."""
        path = self.root / "lock" / name
        with path.open("w") as file:
            # Who only looks whether the thing is there holds it for moments.
            if wait_for(lambda: _taken(file), Deadline.after(PATIENCE_S), 0.05) is None:
                self.progress(f"{what}: another process is making it, waiting")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def check_space(self, what: str, need_mib: int) -> None:
        """Raise ImageError where the cache's file system has less than ``need_mib`` MiB free."""
        free_mib = host.disk_free_mib(self.root)
        if free_mib < need_mib:
            raise ImageError(
                f"{what} needs {need_mib} MiB free in {self.root}, there are {free_mib}",
                hint="make room, or set VIRTPROOF_CACHE to a directory elsewhere",
            )

    def items(self, kind: str) -> list[Path]:
        """The finished items of a kind, unverified."""
        # os.path: another user's private item is none of ours, and no error
        found = (self.root / kind).glob("*")
        return sorted(p for p in found if os.path.isfile(p / MANIFEST))

    def remove(self, path: Path) -> None:
        """Remove an item at once: it is renamed away before its files go."""
        gone = self.root / "tmp" / f"removed-{time.time_ns()}"
        path.rename(gone)
        namespace.remove_tree(gone)

    def keep_failed(self, name: str, text: str) -> Path:
        """Keep a log of a failure, where the error's line can point to it. OSError where there is no room."""
        path = self.root / "failed" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path


def _taken(file: TextIO) -> bool | None:
    """Take the file's lock if it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def sha256(path: Path) -> str:
    """The file's SHA-256, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an item, or an ImageError that says why it is none."""
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ImageError(f"damaged in the cache: {path} (no readable manifest)") from None
    if not isinstance(found, dict) or not {"files", "facts"} <= found.keys():
        raise ImageError(f"damaged in the cache: {path} (manifest of another shape)")
    return found


def _verified(path: Path, only: str | None) -> Item:
    """The facts of an item whose files are what they were when it was sealed.

    Size and mode are looked at each time. The SHA-256 is computed where no stamp says that this very
    file (inode, size, modification time) had the right one within the last day, on this boot.
    """
    manifest = read_manifest(path)
    digests = {}
    for name, wanted in manifest["files"].items():
        file = path / name
        digests[name] = str(wanted["sha256"])
        if only is not None and name != only:
            continue
        try:
            status = file.stat()
        except OSError:
            raise ImageError(f"damaged in the cache: {file} is missing") from None
        if status.st_size != wanted["size"]:
            raise ImageError(
                f"damaged in the cache: {file} has {status.st_size} bytes, not {wanted['size']}"
            )
        if _stamp_of(status) != _read_stamp(file):
            if sha256(file) != wanted["sha256"]:
                raise ImageError(f"damaged in the cache: {file} has another SHA-256")
            _write_stamp(file, status)
    if only is not None and only not in digests:
        raise ImageError(f"damaged in the cache: {path / only} is missing")
    return Item(path, manifest["facts"], digests)


def _seal(directory: Path, facts: dict[str, Any], *, private: bool) -> dict[str, str]:
    """Read-only, on the disk, and written down; the SHA-256 of each file by its name.

    ``private``: for nobody but the owner, as what may hold secrets: a guest's memory, a Windows.
    """
    files = {}
    for file in sorted(p for p in directory.iterdir() if p.is_file()):
        file.chmod(0o400 if private else 0o444)
        _sync(file)
        status = file.stat()
        files[file.name] = {"size": status.st_size, "sha256": sha256(file)}
        _write_stamp(file, status)
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"files": files, "facts": facts}, indent=1), encoding="utf-8")
    directory.chmod(0o700 if private else 0o755)
    for path in (manifest, directory):
        _sync(path)
    return {name: str(file["sha256"]) for name, file in files.items()}


def _stamp_of(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {host.boot_id()}"


def _stamp_path(file: Path) -> Path:
    return file.parent / f".{file.name}.verified"


def _read_stamp(file: Path) -> str:
    stamp = _stamp_path(file)
    try:
        fresh = 0 <= time.time() - stamp.stat().st_mtime < STAMP_S
        return stamp.read_text(encoding="ascii") if fresh else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _write_stamp(file: Path, status: os.stat_result) -> None:
    stamp = _stamp_path(file)
    with contextlib.suppress(OSError):  # another user's cache, or a full disk: verified each time
        stamp.write_text(_stamp_of(status), encoding="ascii")


def _make_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise ImageError(
            f"the cache directory {path} cannot be made: {reason}",
            hint="set VIRTPROOF_CACHE to a directory that you may write",
        ) from None
    if not stat.S_ISDIR(path.stat().st_mode) or not os.access(path, os.W_OK | os.X_OK):
        raise ImageError(
            f"the cache directory {path} may not be written",
            hint="set VIRTPROOF_CACHE to a directory that you may write",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

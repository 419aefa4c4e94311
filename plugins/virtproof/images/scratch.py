"""Scratch directories, locked by their maker: one whose lock is free is a dead maker's, and is swept.

No directory is ever both new and swept: whoever has taken its lock looks whether it is still there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from virtproof.images import namespace
from virtproof.runtime import runtime_directory

SHORT = "short"  # in the runtime directory


@contextlib.contextmanager
def short() -> Iterator[Path]:
    """A directory with a short path, as UNIX sockets and appliances need; gone after the block."""
    parent = _parent()
    parent.mkdir(mode=0o700, exist_ok=True)
    with fresh(parent) as path:
        yield path


@contextlib.contextmanager
def fresh(parent: Path) -> Iterator[Path]:
    """A new directory in ``parent``, gone after the block unless renamed. What dead makers left goes too."""
    sweep(parent)
    path, lock = _made(parent)
    try:
        yield path
    finally:
        try:
            namespace.remove_tree(path)
        finally:
            os.close(lock)


def sweep(parent: Path | None = None) -> None:
    """Remove what dead makers left in ``parent``; None: of those with short paths."""
    parent = parent or _parent()
    for path in list(parent.iterdir()) if parent.is_dir() else ():
        try:
            lock = _locked(path)
        except OSError:
            continue  # no directory, or not ours
        if lock is not None:
            try:
                namespace.remove_tree(path)
            finally:
                os.close(lock)


def _parent() -> Path:
    # Absolute: programs are told of it, and may run elsewhere.
    return runtime_directory().absolute() / SHORT


def _made(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=parent))
        # A sweep that came in between takes it for a dead maker's, and it goes.
        if (lock := _locked(path)) is not None:
            return path, lock


def _locked(path: Path) -> int | None:
    """The directory, open and locked for as long as it is; None where another has it, or it has gone."""
    lock = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            lock = descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if lock is None:
            os.close(descriptor)
    return lock

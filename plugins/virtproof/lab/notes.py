"""What a run makes on a user's libvirt, noted before it is made: so what a killed run left is known.

A note is the file ``run-<id>`` in the runtime directory, a line of JSON each thing. Its run holds a lock on
it for as long as it lives, and removes it last. A note whose lock is free is thus of a run that is dead, or
that left guests on purpose (``kept``); nothing else proves it, as a run may be another machine's.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from virtproof.runtime import runtime_directory

PREFIX = "run-"


@dataclass(frozen=True, slots=True)
class Noted:
    """What a note says. ``volumes`` are (pool, name)."""

    run: str
    uri: str
    kept: bool
    volumes: tuple[tuple[str, str], ...]


class Note:
    """The note of a run that lives: this one."""

    def __init__(self, uri: str) -> None:
        self.run = secrets.token_hex(8)
        directory = runtime_directory()
        self._path = directory / f"{PREFIX}{self.run}"
        making = directory / f".{self._path.name}"
        self._file = open(making, "w")  # noqa: SIM115  # locked for as long as the run lives
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._write(uri=uri)
        making.rename(self._path)  # no sweep ever sees a living run's note unlocked

    def mark(self, guest: str) -> dict[str, str]:
        """Attributes of the metadata by which a guest's domain is known as ours."""
        return {"name": guest, "run": self.run, "owner": _owner()}

    def volume(self, pool: str, name: str) -> None:
        """To be called before the volume is made."""
        self._write(pool=pool, volume=name)

    def keep(self) -> None:
        """What this run leaves is left on purpose: swept by ``./run clean`` alone."""
        self._write(kept=True)

    def noted(self) -> Noted:
        return _read(self._path)

    def release(self) -> None:
        """Leave all to the next sweep."""
        self._file.close()

    def end(self) -> None:
        """Nothing is left."""
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, **entry: object) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def known_runs() -> dict[str, Path]:
    """The notes in the runtime directory by run, of the living and the dead."""
    return {path.name.removeprefix(PREFIX): path for path in runtime_directory().glob(f"{PREFIX}*")}


def left_on() -> list[str]:
    """URIs of the libvirts on which runs that have ended left what they noted."""
    found = []
    for path in known_runs().values():
        with taken(path) as note:
            found += [note.uri] if note else []
    return sorted(set(found))


@contextlib.contextmanager
def taken(path: Path) -> Iterator[Noted | None]:
    """A note, locked against other sweepers; None where its run lives, or it has just gone."""
    with contextlib.ExitStack() as stack:
        try:
            file: TextIO = stack.enter_context(open(path, "r+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            yield None
            return
        yield _read(path) if os.fstat(file.fileno()).st_nlink else None


def read(path: Path) -> Noted | None:
    """What a note says, of whoever's; None where it has just gone."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None


def _read(path: Path) -> Noted:
    uri, kept, volumes = "", False, []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short when its writer was killed: what it names was not made
        uri = entry.get("uri", uri)
        kept = entry.get("kept", kept)
        if "volume" in entry:
            volumes.append((entry["pool"], entry["volume"]))
    return Noted(path.name.removeprefix(PREFIX), uri, kept, tuple(dict.fromkeys(volumes)))


def _owner() -> str:
    """Who runs this, for people: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def mine(owner: str) -> bool:
    """Whether a mark names this user of this host; a hint for people, and no proof of anything."""
    return owner == _owner()

"""Removing what dead runs left on a user's libvirt, and nothing else.

A domain is ours by the mark in its metadata, which names its run and, as a copy keeps the metadata, the
domain itself. A volume is ours by the note of its run (``lab.notes``). Where the note is lost (another
machine's, another user's, a cleared /tmp) nobody can tell whether the run lives: such guests are named, and
removed only when the user names the run. Their volumes are then told by names, which are the guests' own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from virtproof.errors import GuestError, UsageError
from virtproof.lab.notes import Noted, known_runs, mine, read, taken

DISK = re.compile(r"(virtproof-[0-9a-f]{10})(-[\w.]+)?\.(?:qcow2|raw)")
BASE = re.compile(r"virtproof-base-[0-9a-f]{8}-([0-9a-f]{16})\.qcow2")


@dataclass(frozen=True, slots=True)
class Marked:
    """A domain with our mark: its name, run, owner (user@host), and its disks' paths."""

    name: str
    run: str
    owner: str
    disks: tuple[str, ...]


class Libvirt(Protocol):
    """What sweeping asks of a connection. RefusedError (a GuestError) where libvirt says no."""

    def marked(self) -> list[Marked]: ...

    def remove_guest(self, name: str) -> None: ...

    def pool_of(self, path: str) -> str: ...

    def volumes(self, pool: str) -> set[str]: ...

    def remove_volume(self, pool: str, name: str) -> None: ...

    def require_pool(self, name: str) -> None: ...


@dataclass(slots=True)
class Swept:
    """What a sweep removed, what it could not, and the guests of runs that it knows nothing of."""

    guests: int = 0
    volumes: int = 0
    faults: list[str] = field(default_factory=list)
    strangers: list[Marked] = field(default_factory=list)

    def lines(self, uri: str, *, all_strangers: bool) -> Iterator[str]:
        """A line a fact that the user should know; of strangers their own alone, or all."""
        if self.guests or self.volumes:
            counts = f"{self.guests} guests and {self.volumes} volumes"
            yield f"removed {counts} that earlier runs had left on {uri}"
        yield from (f"left on {uri}: {fault}" for fault in self.faults)
        for run in dict.fromkeys(guest.run for guest in self.strangers):
            guests = [guest for guest in self.strangers if guest.run == run]
            if all_strangers or mine(guests[0].owner):
                names = ", ".join(guest.name for guest in guests)
                command = f"./run clean --libvirt {shlex.quote(uri)} --run {run}"
                yield (
                    f"on {uri}: {names}, of a run of {guests[0].owner} that is not known here; "
                    f"if it is dead: {command}"
                )


def sweep(libvirt: Libvirt, uri: str, *, kept: bool = False, only: str = "") -> Swept:
    """Remove what dead runs (or the one named) left; what was kept on purpose only with ``kept``."""
    swept = Swept()
    marked = libvirt.marked()  # before the notes: whoever starts now is not among them
    notes = known_runs()
    for run, path in notes.items():
        with taken(path) as note:
            guests = [guest for guest in marked if guest.run == run]
            if note is None or only not in ("", run) or (note.uri != uri and not guests):
                continue
            if note.kept and not kept:
                continue
            if _removed(libvirt, guests, note.volumes, swept):
                path.unlink()
    swept.strangers = [guest for guest in marked if guest.run not in notes]
    return swept


def sweep_run(libvirt: Libvirt, uri: str, run: str, pool: str = "") -> Swept:
    """Remove a run's guests and volumes though its note is lost: the user says that it is dead.

    Base images are looked for in the pools of its guests' disks and in ``pool``. UsageError where the run
    lives here, or there is nothing of it.
    """
    if run in known_runs():
        with taken(known_runs()[run]) as note:
            if note is None:
                raise UsageError(f"run {run} lives", hint="end it first")
        return sweep(libvirt, uri, kept=True, only=run)
    guests = [guest for guest in libvirt.marked() if guest.run == run]
    pools = {pool} if pool else set()
    swept = Swept()
    for path in (path for guest in guests for path in guest.disks):
        try:
            pools.add(libvirt.pool_of(path))
        except GuestError:  # it lies in no pool any more
            swept.faults.append(f"{path}: in no storage pool")
    names = {guest.name for guest in guests}
    volumes = [(at, name) for at in sorted(pools) for name in sorted(libvirt.volumes(at))]
    ours = [(at, name) for at, name in volumes if _is_of(name, run, names)]
    if not guests and not ours:
        raise UsageError(f"no run {run} on {uri}", hint="./run clean --libvirt names those there")
    _removed(libvirt, guests, ours, swept)
    return swept


def unexplained(libvirt: Libvirt, pool: str) -> list[str]:
    """Volumes of a pool that are named as ours, of no run known here and of no guest that is there."""
    marked = libvirt.marked()
    guests, runs = {guest.name for guest in marked}, {guest.run for guest in marked}
    there = libvirt.volumes(pool)
    notes = {run: read(path) for run, path in known_runs().items()}
    noted = {name for note in notes.values() if note for at, name in note.volumes if at == pool}
    found = []
    for name in sorted(there - noted):
        disk, base = DISK.fullmatch(name), BASE.fullmatch(name)
        if (base and base[1] not in runs) or (disk and disk[1] not in guests):
            found.append(name)
    return found


def remove_all(libvirt: Libvirt, note: Noted) -> Swept:
    """Remove all that a note names and its guests: for the run itself, at its end."""
    swept = Swept()
    guests = [guest for guest in libvirt.marked() if guest.run == note.run]
    _removed(libvirt, guests, note.volumes, swept)
    return swept


def _is_of(volume: str, run: str, guests: set[str]) -> bool:
    base, disk = BASE.fullmatch(volume), DISK.fullmatch(volume)
    return bool((base and base[1] == run) or (disk and disk[1] in guests))


def _removed(
    libvirt: Libvirt, guests: Iterable[Marked], volumes: Iterable[tuple[str, str]], swept: Swept
) -> bool:
    """Remove guests and then volumes, as far as they are there; whether nothing stays."""
    faults = len(swept.faults)
    for guest in guests:
        try:
            libvirt.remove_guest(guest.name)
            swept.guests += 1
        except GuestError as error:
            swept.faults.append(str(error))
    if len(swept.faults) > faults:
        return False  # a guest that stays keeps its disks
    there: dict[str, set[str]] = {}
    # Overlays before what they lie on, so that whoever is stopped between leaves no broken guest disk.
    for pool, name in sorted(volumes, key=lambda volume: BASE.fullmatch(volume[1]) is not None):
        try:
            if pool not in there:
                there[pool] = set()  # what cannot be listed is a fault once
                there[pool] = libvirt.volumes(pool)
            if name in there[pool]:
                libvirt.remove_volume(pool, name)
                swept.volumes += 1
        except GuestError as error:
            swept.faults.append(str(error))
    return len(swept.faults) == faults

"""Letting guests in by memory and cores, over all processes of a user on one machine.

More workers than cores shall cost nothing: a guest waits for its turn before its deadlines begin. All is
kept by locks on files, which go with the process that holds them, however that one dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from virtproof import host
from virtproof.deadline import Deadline
from virtproof.errors import LabError

SHARE = 0.8  # of the machine's memory that guests may have
POLL_S = 0.05
WAIT_S = 1800.0  # longer than any test has its guests


class Admission:
    """Who may start. ``directory`` is where all processes that share the machine look."""

    def __init__(self, directory: Path, *, cores: int = 0, memory_mib: int = 0) -> None:
        self._directory = directory / "guests"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._cores = cores or int(host.record()["cpus"])
        self._memory_mib = memory_mib or int(host.record()["memory_mib"] * SHARE)
        self._held: dict[str, TextIO] = {}

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Hold one of as many turns as there are cores; waits for one."""
        with contextlib.ExitStack() as stack:
            files = [
                stack.enter_context(open(self._directory / f"turn-{number}", "w"))
                for number in range(self._cores)
            ]
            while not any(_taken(file) for file in files):
                time.sleep(POLL_S)
            yield

    def enter(self, name: str, mib: int, waits: Callable[[str], None]) -> None:
        """Claim memory for a guest until ``leave``; waits while others have too much of it.

        A process that has a guest already never waits (nobody waits for who waits for them), nor does
        the only guest of all. ``waits`` is told once. LabError after ``WAIT_S``.
        """
        told, deadline = bool(self._held), Deadline.after(WAIT_S)
        while not self._entered(name, mib):
            if deadline.passed:
                raise LabError(
                    f"no {mib} MiB of memory became free for a guest within {WAIT_S / 60:.0f} min",
                    hint="other runs' guests have it; run fewer at a time (-n), or after them",
                )
            if not told:
                waits(f"waits for {mib} MiB of memory")
                told = True
            time.sleep(POLL_S)

    def leave(self, name: str) -> None:
        """Give a guest's memory back; safe to call twice."""
        file = self._held.pop(name, None)
        if file is not None:
            Path(file.name).unlink(missing_ok=True)
            file.close()

    def _entered(self, name: str, mib: int) -> bool:
        with _locked(self._directory):
            others = sum(_claims(self._directory))
            if others and not self._held and others + mib > self._memory_mib:
                return False
            file = open(self._directory / f"memory-{name}", "w")  # noqa: SIM115  # until it leaves
            file.write(str(mib))
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            self._held[name] = file
            return True


def sweep(directory: Path) -> None:
    """Remove what dead processes have claimed; ``directory`` as for ``Admission``, it may be missing."""
    if (directory / "guests").is_dir():
        with _locked(directory / "guests"):
            sum(_claims(directory / "guests"))


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Without it, a claim that is being made looks like a dead one."""
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _claims(directory: Path) -> Iterator[int]:
    """What living guests have, in MiB; the claims of dead processes are removed."""
    for path in directory.glob("memory-*"):
        with contextlib.suppress(OSError, ValueError), path.open("r+") as file:
            if _taken(file):
                path.unlink()
            else:
                yield int(file.read())


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

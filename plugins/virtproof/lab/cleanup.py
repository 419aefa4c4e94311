"""What labs that were killed left behind: found by their locks, removed. Only what is ours."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from virtproof.deadline import Deadline, wait_for
from virtproof.lab import admission
from virtproof.lab.init import remove_lab
from virtproof.runtime import runtime_directory

LOCK = "lock"  # held by the lab's owner and its first process
LINGERING = "lingering"  # holds the PID of a lab that was told to outlive its owner
END_S = 20.0
REMNANT_S = 60.0


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a sweep removed (``dead``) and ended (``kept`` guests' labs)."""

    dead: int
    kept: int


def sweep() -> int:
    """Remove what dead labs of this user left; returns how many. Living labs are not touched."""
    return sum(_remove_if_dead(lab) for lab in runtime_directory().glob("lab-*"))


def clean() -> Cleaned:
    """Sweep, claims of memory too, and end the labs that ``--keep-guest`` left running."""
    kept = 0
    for lab in runtime_directory().glob("lab-*"):
        note = lab / LINGERING
        if note.exists() and not _lock_is_free(lab):
            os.kill(int(note.read_text()), signal.SIGKILL)  # unshare; the kernel ends its namespace
            wait_for(functools.partial(_freed, lab), Deadline.after(END_S), 0.05)
            kept += 1
    admission.sweep(runtime_directory())
    return Cleaned(dead=sweep() - kept, kept=kept)


def _lock_is_free(lab: Path) -> bool:
    """Whether nobody holds the lab's lock: neither its owner nor its first process."""
    try:
        with open(lab / LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False  # being made or being removed by its owner


def _is_remnant(lab: Path) -> bool:
    """Whether a lab has lost its lock: killed while it was made or removed, both matters of moments."""
    try:
        return not (lab / LOCK).exists() and time.time() - lab.stat().st_mtime > REMNANT_S
    except FileNotFoundError:
        return False


def _freed(lab: Path) -> bool | None:
    return _lock_is_free(lab) or None


def _remove_if_dead(lab: Path) -> bool:
    if not _lock_is_free(lab) and not _is_remnant(lab):
        return False
    disks = lab / "disks"
    if disks.is_symlink():
        shutil.rmtree(disks.readlink(), ignore_errors=True)
    with contextlib.suppress(OSError):  # another sweep may be at it as well
        remove_lab(lab)
    return True

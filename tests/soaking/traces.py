"""What a killed run may have left: on the machine, in the runtime directory, in the cache."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from soaking.processes import naming
from virtproof.errors import VirtproofError
from virtproof.images.cache import Cache
from virtproof.measure.store import read_results

# Where a lab that got out would leave something. Not /tmp: runs have a TMPDIR of their own, and on a
# machine that others use as well nobody could tell whose a file there is.
OUTSIDE = ("/var/tmp", "/dev/shm", "/run", "/run/libvirt", "/var/lib/libvirt", "/etc/libvirt",
           "/var/log/libvirt", "/var/cache/libvirt", "~")  # fmt: skip
BOOKKEEPING = re.compile(r"guests(/(lock|turn-\d+))?")  # of the runtime directory
KINDS = ("packages", "rootfs", "prepared", "warm")
CACHE = {*KINDS, "tmp", "lock", "failed", "quarantine", "labs", "ssh", "accel.json", "accel.lock"}
OUT = {"results.jsonl", "run.json", "report.html", "evidence"}
EMPTY = ("tmp", "labs", "quarantine")  # of the cache, when nobody uses it


@dataclass(frozen=True)
class Place:
    """The directories of a soak. ``cache`` is where this process sees it, ``inside`` where runs do."""

    root: Path
    runtime: Path
    cache: Path
    inside: Path

    @property
    def work(self) -> Path:
        """Where runs are started; holds their tests, and what they put beside."""
        return self.root / "work"

    @property
    def tmp(self) -> Path:
        """TMPDIR of the runs."""
        return self.root / "tmp"


@dataclass(frozen=True)
class Machine:
    """What a run could change on the host."""

    mounts: tuple[str, ...]
    interfaces: tuple[str, ...]
    routes: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def now(cls) -> Machine:
        listed = []
        for name in OUTSIDE:
            with contextlib.suppress(OSError):
                directory = Path(name).expanduser()
                names = [str(path) for path in directory.iterdir()]
                listed += [
                    name for name in names if "virtproof-soak-" not in name
                ]  # of another soak
        # Without IDs and counts, which differ though nothing has changed.
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        interfaces = sorted(name for _, name in socket.if_nameindex())
        routes = Path("/proc/net/route").read_text().splitlines()
        return cls(tuple(mounts), tuple(interfaces), tuple(routes), tuple(sorted(listed)))

    def since(self, before: Machine) -> list[str]:
        """What has come and what has gone, a line each."""
        found = []
        for what in ("mounts", "interfaces", "routes", "files"):
            lines = difflib.ndiff(getattr(before, what), getattr(self, what))
            found += [f"the host's {what}: {line}" for line in lines if line[0] in "+-"]
        return found


def left_at_once(place: Place, before: Machine, known: set[str]) -> list[str]:
    """What must be gone as soon as the last process of a run is. ``known``: names in ``work``."""
    found = [f"lives on: {one}" for one in naming(str(place.runtime), str(place.inside))]
    found += Machine.now().since(before)
    # pytest keeps the directories of its last three sessions itself.
    files = [path.name for path in place.tmp.iterdir() if not path.name.startswith("pytest-of-")]
    found += [f"left in TMPDIR: {name}" for name in files]
    found += [f"left where it ran: {p.name}" for p in place.work.iterdir() if p.name not in known]
    return found


def left_after_next(place: Place, *, thorough: bool) -> list[str]:
    """What must be gone once a run has come after. ``thorough`` reads every item of the cache."""
    found = []
    for path in sorted([*place.runtime.glob("*"), *place.runtime.glob("guests/*")]):
        name = path.relative_to(place.runtime).as_posix()
        if not BOOKKEEPING.fullmatch(name) and not path.name.startswith("memory-"):
            found.append(f"left in the runtime directory: {name}")
        elif path.name.startswith("memory-"):
            found.append(f"memory still claimed: {name}")
        elif path.is_file() and _held(path):
            found.append(f"a lock still held: {name}")
    return found + _left_in_cache(place, thorough=thorough)


def _left_in_cache(place: Place, *, thorough: bool) -> list[str]:
    cache = place.cache
    found = [f"strange in the cache: {p.name}" for p in cache.iterdir() if p.name not in CACHE]
    for name in EMPTY:
        if (cache / name).is_dir():
            found += [f"left in the cache: {name}/{p.name}" for p in (cache / name).iterdir()]
    for path in (cache / "lock").iterdir():
        if _held(path):
            found.append(f"a lock still held: {path.name}")
    said: list[str] = []
    items = Cache(cache, said.append)
    for kind in KINDS:
        for path in items.items(kind):
            if thorough or kind == "warm":
                for stamp in path.glob(".*.verified"):
                    stamp.unlink()
            items.get(kind, path.name)
        whole = {path.name for path in items.items(kind)}
        there = (cache / kind).iterdir() if (cache / kind).is_dir() else iter(())
        found += [f"no item: {kind}/{path.name}" for path in there if path.name not in whole]
    return found + said


def left_in_results(out: Path) -> list[str]:
    """What of a run's results nobody could read, or nobody knows."""
    if not out.is_dir():
        return []
    found = [f"strange in {out.name}: {p.name}" for p in out.iterdir() if p.name not in OUT]
    if (out / "results.jsonl").exists():
        try:
            read_results(out / "results.jsonl")
        except VirtproofError as error:
            found.append(str(error))
    return found


def _held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

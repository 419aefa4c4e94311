"""The processes of one run: all of them, by the part that they play, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
POLL_S = 0.01
GONE = (FileNotFoundError, ProcessLookupError)
INIT = "lab/init.py"
BUILDERS = ("mmdebstrap", "apt-get", "dpkg", "tar", "mke2fs", "sfdisk", "qemu-img", "sh")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when it was seen. ``words`` is its command line."""

    pid: int
    parent: int
    comm: str
    words: str

    def __str__(self) -> str:
        return f"{self.pid} {self.comm}: {self.words[:140]}"


def seen(pid: int) -> Process | None:
    """A process, unless it is gone or dead."""
    try:
        comm, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
    except GONE:
        return None
    state, parent = rest.split()[:2]
    return None if state in "XZ" else Process(pid, int(parent), comm, words.strip())


def below(pid: int) -> list[Process]:
    """All living processes below one, parents first."""
    found = []
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(*GONE):
                children = [int(word) for word in task.read_text().split()]
                waiting += children
                found += [one for child in children if (one := seen(child))]
    return found


def naming(*texts: str) -> list[Process]:
    """Processes of the whole machine that have one of the texts in command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(PermissionError, *GONE):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if any(text.encode() in said for text in texts) and (one := seen(int(entry.name))):
                found.append(one)
    return found


def role(process: Process, of: Mapping[int, Process], keeper: int) -> str:
    """The part that a process plays; empty for one that is nothing to us."""
    parent = of.get(process.parent)
    if process.comm == "unshare":
        return "unshare" if INIT in process.words else "builder"
    if INIT in process.words:
        # Two processes: the first of the namespace, and its child that does the work.
        return "init" if parent is not None and parent.comm == "unshare" else "lab-worker"
    if process.comm.startswith("qemu-system"):
        lab = any(INIT in one.words for one in of.values())
        return "qemu" if lab else "first-boot"
    if process.comm in ("libvirtd", "dnsmasq"):
        return process.comm
    if process.parent == keeper and process.comm not in ("libvirtd", "dnsmasq"):
        return "controller"
    if parent is not None and parent.parent == keeper and "exec(eval(" in process.words:
        return "worker"
    return "builder" if process.comm in BUILDERS else ""


class Started:
    """A command under a keeper, in a session of its own. ``log`` gets all that it says."""

    def __init__(
        self, command: list[str], place: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.log = log
        self._status = log.with_suffix(".status")
        self._status.unlink(missing_ok=True)
        self.begin_s = time.monotonic()
        with log.open("wb") as out:
            self.keeper = subprocess.Popen(
                [sys.executable, "-I", str(KEEPER), str(self._status), *command],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.begin_s

    @property
    def status(self) -> int | None:
        """Exit status of the command, negative for a signal; None while it runs."""
        with contextlib.suppress(FileNotFoundError):
            return int(self._status.read_text())
        return None

    @property
    def over(self) -> bool:
        """Whether nothing of it lives any more."""
        return self.keeper.poll() is not None

    def living(self) -> list[Process]:
        return below(self.keeper.pid)

    def roles(self) -> dict[str, list[Process]]:
        """The living processes by the part that they play."""
        living = self.living()
        of = {one.pid: one for one in living}
        found: dict[str, list[Process]] = {}
        for one in living:
            if name := role(one, of, self.keeper.pid):
                found.setdefault(name, []).append(one)
        return found

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait for something to hold; false where the time has passed or all is over before."""
        end = time.monotonic() + seconds
        while not until():
            if self.over or time.monotonic() > end:
                return until()
            time.sleep(POLL_S)
        return True

    def end(self) -> None:
        """Kill whatever is left, and the keeper."""
        for _ in range(50):
            left = self.living()
            for one in left:
                kill(one.pid)
            if not left and self.over:
                return
            time.sleep(0.1)
        self.keeper.kill()
        self.keeper.wait()


@contextlib.contextmanager
def started(
    command: list[str], place: Path, log: Path, environment: Mapping[str, str]
) -> Iterator[Started]:
    """A command that ends with the block, with all that it started."""
    run = Started(command, place, log, environment)
    try:
        yield run
    finally:
        run.end()


def kill(pid: int) -> bool:
    """kill -9; false where it is gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_session(process: Process) -> bool:
    """kill -9 for every process of a session's first group, as a terminal that goes would."""
    try:
        os.killpg(os.getpgid(process.pid), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True

"""A lab in a process of its own, and what is looked at to see that nothing of it stays."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from virtproof.errors import VirtproofError

SOON_S = 20.0

# A lab in a process of its own: says where it is, then waits to be told how to end.
OWNER = """
import os, sys
from pathlib import Path
from virtproof.guest.connection import Connection
from virtproof.lab import open_lab
kept = []
def connect(uri):
    kept.append(Connection(uri))
    return kept[0]
lab = open_lab(Path(sys.argv[1]), connect)
print(lab._directory, lab._process.pid, flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "exec":
        done = lab.run("ip", "-4", "-o", "address", "show", "dev", "virtproof0")
        print(done.stdout.split()[3], flush=True)
    if word == "linger":
        print(lab.linger(), flush=True)
    if word == "die":
        os._exit(7)
lab.close()
"""


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something holds; an assertion that names it where it does not."""
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def labs(runtime: Path) -> set[Path]:
    """All that lies in a runtime directory but ``guests``, which is every lab's and stays."""
    return {path for path in runtime.iterdir() if path.name != "guests"}


def processes_naming(text: str) -> dict[int, str]:
    """Host-wide: processes with ``text`` in their command line, environment not looked at."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if text in words:
                found[int(entry.name)] = words
    return found


def members(pid: int) -> set[int]:
    """A process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= members(int(child))
    return found


def alive(pids: set[int]) -> set[int]:
    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    return {pid for pid in pids if state(pid) not in "XZ"}


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a lab could leave on the host."""

    mounts: str
    interfaces: tuple[str, ...]
    rules: str

    @classmethod
    def now(cls) -> Machine:
        interfaces = tuple(sorted(name for _, name in socket.if_nameindex()))
        rules = Path("/proc/net/route").read_text()
        return cls(Path("/proc/self/mounts").read_text(), interfaces, rules)


@dataclasses.dataclass
class Owner:
    """A process that owns a lab."""

    process: subprocess.Popen[str]
    directory: Path
    unshare: int
    cache: Path

    @property
    def disks(self) -> Path:
        return self.cache / "labs" / self.directory.name

    def say(self, word: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """Close its input, so that it closes its lab; its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(SOON_S)


Start = Callable[..., Owner]


def nothing_left(one: Owner, pids: set[int]) -> None:
    until(lambda: not alive(pids), f"the end of {pids}")
    until(lambda: not one.directory.exists(), "the lab's directory is gone")
    until(lambda: not one.disks.exists(), "the lab's disks are gone")
    assert processes_naming(str(one.directory)) == {}


def one_line(failure: VirtproofError) -> str:
    """The words of an error that is one line and has a hint."""
    assert "\n" not in str(failure)
    assert failure.hint
    return str(failure)

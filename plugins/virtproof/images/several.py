"""Several images built at a time: a process each, as many as cores and memory allow."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from virtproof import host
from virtproof.images.child import spawned

JOB_MIB = 2048  # a guest of 1 GiB, and what packs and unpacks beside it


def jobs() -> int:
    """How many builds this machine bears: one a core, and one for every 2 GiB of its memory."""
    record = host.record()
    return max(1, min(int(record["cpus"]), int(record["memory_mib"]) // JOB_MIB))


def spread(names: Sequence[str], group: Callable[[str], str]) -> list[str]:
    """The names, first one of each group: its others would only wait for what that one makes for them."""
    seen: dict[str, int] = {}
    ranks = []
    for name in names:
        rank = seen[group(name)] = seen.get(group(name), -1) + 1
        ranks.append(rank)
    return [name for _, name in sorted(zip(ranks, names, strict=True), key=lambda pair: pair[0])]


def build(
    names: Sequence[str], options: Sequence[str], tell: Callable[[str], None], at_once: int
) -> list[str]:
    """Build each name by ``images build NAME options``, ``at_once`` at a time; those that failed.

    A failure does not stop the others. Ctrl-C ends all, each of which leaves nothing half-made.
    """
    children: list[subprocess.Popen[bytes]] = []
    stopped = threading.Event()

    def one(name: str) -> bool:
        if stopped.is_set():
            return False
        argv = [sys.executable, "-m", "virtproof", "images", "build", name, *options]
        with spawned(argv) as child:
            children.append(child)
            for line in child.stdout or ():
                if not stopped.is_set():
                    tell(line.decode("utf-8", "replace").rstrip())
            return child.wait() == 0

    with ThreadPoolExecutor(at_once) as pool:
        try:
            done = list(pool.map(one, names))
        except KeyboardInterrupt:
            stopped.set()
            for child in children:
                child.send_signal(signal.SIGINT)
            raise
    return [name for name, good in zip(names, done, strict=True) if not good]

"""What the host's logs say of a guest's end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

LOG_BYTES = 1 << 20
OOM = re.compile(r"oom-kill|out of memory", re.IGNORECASE)
STAMP = re.compile(r"\[\s*(\d+\.\d+)\]")


def killed_for_memory(since_s: float) -> str:
    """Lines of the kernel's log about the OOM killer; empty where the log may not be read.

    ``since_s`` is a time of CLOCK_MONOTONIC, the clock that the log's own time stamps follow.
    """
    done = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", check=False)
    lines = (line for line in done.stdout.splitlines() if OOM.search(line))
    return "\n".join(line for line in lines if _stamp(line) >= since_s)


def _stamp(line: str) -> float:
    found = STAMP.match(line)
    return float(found[1]) if found else 0.0


def tail(path: Path) -> str:
    """The last MiB of a log; empty where it is missing or not ours to read."""
    try:
        with open(path, "rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - LOG_BYTES))
            return log.read().decode(errors="replace")
    except (FileNotFoundError, PermissionError):
        return ""

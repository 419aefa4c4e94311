"""Starts a command, takes in every orphan of it, and ends when nothing of it is left.

    python keeper.py STATUS COMMAND...

STATUS is a file that gets the command's exit status. The keeper is a subreaper: whatever the command
starts stays below it in the tree of processes, whoever dies in between, and its own end is the proof
that nothing lives on. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("no subreaper")
    status, command = Path(sys.argv[1]), sys.argv[2:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while True:
        try:
            pid, how = os.wait()
        except ChildProcessError:
            return
        if pid == child.pid:
            half = status.with_suffix(".half")
            half.write_text(str(os.waitstatus_to_exitcode(how)))
            half.rename(status)


if __name__ == "__main__":
    main()

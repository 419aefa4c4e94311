"""A disk image with a Windows that is switched off: read, never written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError
from virtproof.images import foreign, scratch
from virtproof.images.child import need, spawned
from virtproof.windows.bootstart import WindowsFacts, parse

START_S = 30.0
DEADLINE_S = 300.0
LARGEST_ANSWER = 4 << 20


def inspect(path: Path, *, overlay: bool = False) -> WindowsFacts:
    """The facts of the Windows on an image (qcow2 or raw); ImageError that says what it has instead.

    Takes seconds, and at most 300; an image that would take the reading process more is refused. A file
    with a backing file is refused too, unless it is an ``overlay`` that we made.
    """
    form = "qcow2" if overlay else foreign.check(path).format
    need("qemu-nbd")
    with scratch.short() as folder:
        socket = folder / "nbd"
        server = ["qemu-nbd", "--read-only", "--persistent", "--shared=1", f"--socket={socket}"]
        with spawned([*server, f"--format={form}", str(path.absolute())]) as child:
            wait_for(lambda: socket.exists() or child.poll(), Deadline.after(START_S), 0.02)
            if not socket.exists():
                said = child.stdout.read(400) if child.stdout and child.poll() is not None else b""
                raise ImageError(f"{path}: qemu-nbd: {said.decode('utf-8', 'replace').strip()}")
            facts = _asked(path, socket)
    return facts


def digest(path: Path) -> str:
    """SHA-256 of the file in hex, to prove that nobody wrote to it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _asked(path: Path, socket: Path) -> WindowsFacts:
    command = [sys.executable, "-m", "virtproof.windows.offline", str(socket)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{path}: reading it took over {DEADLINE_S:.0f} s") from None
    try:
        if done.returncode != 0 or len(done.stdout) > LARGEST_ANSWER:
            raise ValueError
        return parse(json.loads(done.stdout))
    except ValueError:
        raise ImageError(
            f"{path}: the process that read it died of it (status {done.returncode})",
            hint="its file system or a hive is damaged: let Windows check it",
            detail=done.stderr.decode("utf-8", "replace"),
        ) from None
    except ImageError as error:
        raise ImageError(f"{path}: {error.what}", hint=error.hint) from None

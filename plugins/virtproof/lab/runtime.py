"""Where labs have their sockets and locks."""

from __future__ import annotations

import os
from pathlib import Path

from virtproof.errors import LabError

LOCK = "lock"  # held by the lab's owner and its first process
LINGERING = "lingering"  # holds the PID of a lab that was told to outlive its owner


def runtime_directory() -> Path:
    """``$VIRTPROOF_RUNTIME`` or ``/tmp/virtproof-<uid>``: 0700 and ours, or a LabError.

    Not ``$XDG_RUNTIME_DIR``: a lab covers /run, and UNIX sockets allow paths of 107 bytes only.
    """
    path = Path(os.environ.get("VIRTPROOF_RUNTIME") or f"/tmp/virtproof-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"cannot make {path}: {error.strerror}", hint="set VIRTPROOF_RUNTIME to another"
        ) from error
    seen = path.lstat()
    if seen.st_uid != os.getuid() or path.is_symlink() or not path.is_dir():
        raise LabError(
            f"{path} is not a directory of yours", hint="set VIRTPROOF_RUNTIME to another"
        )
    path.chmod(0o700)
    return path

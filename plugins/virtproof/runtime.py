"""Where sockets and locks are: a directory of the user's with a short path."""

from __future__ import annotations

import os
from pathlib import Path

from virtproof.errors import LabError


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

"""Commands as root: the real one, or an ordinary user's in a user namespace of his own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from virtproof import host
from virtproof.errors import MissingToolError
from virtproof.images.child import need

# --kill-child: when unshare ends, so does everything below it; the mounts go with the namespace.
PRIVATE = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
MAPPED = ["--user", "--map-root-user", "--map-auto"]


def as_root(argv: list[str]) -> list[str]:
    """``argv`` to be run as root in mount and PID namespaces of its own."""
    mapped = [] if os.geteuid() == 0 else MAPPED
    return ["unshare", *mapped, *PRIVATE, *argv]


def check() -> None:
    """Raise MissingToolError where ``as_root`` cannot work here, with the command that mends it."""
    need("unshare", "setpriv")
    if os.geteuid() != 0:
        need("newuidmap")
        ids = host.subordinate_ids()
        if not ids.usable:
            raise MissingToolError("an image cannot be built without root here", hint=ids.why)
    tried = subprocess.run(as_root(["true"]), capture_output=True, check=False, timeout=60)
    if tried.returncode != 0:
        said = tried.stderr.decode("utf-8", "replace").strip()
        raise MissingToolError(
            f"no namespaces here: {said.splitlines()[-1][:200] if said else 'unshare fails'}",
            hint="allow user namespaces (sysctl user.max_user_namespaces, and on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0), or run as root",
        )


def remove_tree(path: Path) -> None:
    """Remove a directory of the cache, even where files in it belong to subordinate ids."""
    if not path.exists():
        return
    argv = ["rm", "-rf", "--one-file-system", "--", str(path)]
    plain = subprocess.run(argv, capture_output=True, check=False)
    if plain.returncode != 0 and os.geteuid() != 0:
        subprocess.run(as_root(argv), capture_output=True, check=False)

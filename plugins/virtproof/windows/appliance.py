"""libguestfs where it does not run by itself: without usable KVM, and without a kernel on the host.

Its appliance is made by supermin of the host's own files; of a container or a CI machine without a kernel, it
takes ours. supermin wants /lib/modules to be there too, so it is shown one, in a namespace of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from virtproof.images import namespace

# A place on top of /usr/lib that has the folder; a mount that dies with the namespace.
SHOW_MODULES = """set -eu
[ ! -d /lib/modules ] || exec "$@"
mkdir "$VP_SCRATCH/over"
mount -t tmpfs -o mode=755 tmpfs "$VP_SCRATCH/over"
mkdir -p "$VP_SCRATCH/over/upper/modules" "$VP_SCRATCH/over/work"
lib=$(readlink -f /lib)
parts=lowerdir=$lib,upperdir=$VP_SCRATCH/over/upper,workdir=$VP_SCRATCH/over/work
mount -t overlay -o "$parts" overlay "$lib"
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class KernelTree:
    """An unpacked kernel package: ``vmlinuz`` and its modules (``.../lib/modules/RELEASE``)."""

    vmlinuz: Path
    modules: Path


def own_kernel() -> bool:
    """Whether the host has a kernel that we may read, and its modules."""
    kernels = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return any(
        Path("/lib/modules", path.name.removeprefix("vmlinuz-")).is_dir() for path in kernels
    )


def command(argv: Sequence[str]) -> list[str]:
    """The program in mount, PID and network namespaces of its own: the appliance is given a network."""
    shown = ["sh", "-c", SHOW_MODULES, "sh", *argv]
    return namespace.as_root(["unshare", "--net", *shown])


def environment(scratch: Path, tree: Callable[[], KernelTree], *, kvm: bool) -> dict[str, str]:
    """What libguestfs is told; ``tree`` is asked for a kernel where the host has none."""
    told = {
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_CACHEDIR": str(scratch),
        "LIBGUESTFS_TMPDIR": str(scratch),
        "VP_SCRATCH": str(scratch),
        "LC_ALL": "C",
    }
    if not kvm:
        told["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    if not own_kernel():
        kernel = tree()
        told["SUPERMIN_KERNEL"] = str(kernel.vmlinuz)
        told["SUPERMIN_MODULES"] = str(kernel.modules)
        told["SUPERMIN_KERNEL_VERSION"] = kernel.modules.name
    return told

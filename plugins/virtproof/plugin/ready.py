"""A root disk of an image whose initramfs knows every bus that the kernel knows: made once and kept.

Making an initramfs takes minutes under emulation, and each cell of the matrix boots a copy of such a disk.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import VirtproofError
from virtproof.guest.guest import Guest
from virtproof.images.cache import READY, Item
from virtproof.images.child import output
from virtproof.plugin.run import Run
from virtproof.spec import DiskBus, GuestSpec

FORMAT = 1  # of such a disk; another number makes all of before unfit
DISK = "disk.qcow2"
ALWAYS = ("sd_mod",)  # the disks' own driver of most buses
# Every bus' drivers, the controllers' first.
MODULES = tuple(dict.fromkeys((*(m for bus in DiskBus for m in bus.modules), *ALWAYS)))


@dataclass(frozen=True, slots=True)
class Ready:
    """Such a disk (an overlay on its image), and which modules its initramfs was given."""

    path: Path
    modules: tuple[str, ...]


class ReadyRoots:
    """Makes them. What could not be made is not tried again in this session."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._failed: dict[str, VirtproofError] = {}

    def of(self, spec: GuestSpec) -> Ready:
        """The disk, prepared on a guest of that spec. VirtproofError where the guest cannot do it."""
        image = self._run.image(spec.image)
        parts = [FORMAT, image.digest, MODULES]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        if key in self._failed:
            raise self._failed[key]
        cache = self._run.store.cache
        with cache.locked(f"{READY}-{key}", f"{spec.image}: its initramfs for every bus"):
            item = cache.get(READY, key)
            try:
                item = item or self._make(spec, key)
            except VirtproofError as error:
                self._failed[key] = error
                raise
        return Ready(item.path / DISK, tuple(item.facts["modules"]))

    def _make(self, spec: GuestSpec, key: str) -> Item:
        guest = self._run.guest(spec)
        try:
            self._run.boot(guest)
            modules = prepare(guest)
            guest.shut_down()

            # Based on the image itself: what a warm guest is a copy of may go.
            argv = ["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", str(guest.image.path)]
            output([*argv, guest.resources.root], f"{spec.image}: its disk for every bus")

            def keep(scratch: Path) -> dict[str, Any]:
                shutil.move(guest.resources.root, scratch / DISK)
                return {"image": guest.image.digest, "modules": modules, "spec": guest.spec.id}

            return self._run.store.cache.make(READY, key, keep)
        finally:
            guest.close()


def prepare(guest: Guest) -> tuple[str, ...]:
    """Put the modules of every bus that the guest's kernel has as files into its initramfs: them."""
    modules = tuple(name for name in MODULES if guest.kernel.supports(name) == "module")
    guest.prepare_for_virtio(*modules)
    return modules

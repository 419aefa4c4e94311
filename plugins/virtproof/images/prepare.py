"""From a catalog entry or a user's file to a prepared disk, in a scratch directory of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.images import base, firstboot, namespace, seed
from virtproof.images.cache import Cache, Item
from virtproof.images.child import output
from virtproof.images.entry import BuildEntry
from virtproof.images.foreign import Checked
from virtproof.images.sources import Source
from virtproof.spec import Accel

FIRST_BOOT = "first-boot.sh"
DISK = "disk.qcow2"
ROOTFS = ("rootfs.tar", "vmlinuz")
# Seen on two cores; what the progress line says, so that nobody thinks it hangs.
ABOUT_S = {Accel.TCG: 60, Accel.KVM: 12}


@dataclass(frozen=True, slots=True)
class Maker:
    """What every preparation needs. ``public_key``: the line for root's authorized_keys."""

    cache: Cache
    accel: Accel
    public_key: str

    def of_entry(
        self,
        entry: BuildEntry,
        sources: list[Source],
        rootfs: Item | None,
        rootfs_key: str,
        scratch: Path,
    ) -> dict[str, Any]:
        """Build and prepare; a root filesystem made on the way becomes an item of its own."""
        say = self.cache.progress
        say(f"building {entry.name}: root filesystem (1/3), about {10 if rootfs else 60} s")
        tar = rootfs.path / ROOTFS[0] if rootfs else None
        try:
            facts = base.build(entry, sources, scratch, say, tar)
        except ImageError as error:
            raise self._logged(error, entry.name) from None
        finally:
            if (scratch / ROOTFS[1]).exists():  # of use to the next attempt, whatever failed after
                self._keep_rootfs(entry, scratch, rootfs_key)
        step = f"{entry.name}: first boot (3/3)"
        disk = scratch / "disk.raw"
        facts |= self._first_boot(step, entry.name, disk, "raw", entry.installed_on, own=True)
        return {**facts, "name": entry.name, "rootfs": rootfs_key}

    def of_file(self, path: Path, checked: Checked, scratch: Path) -> dict[str, Any]:
        """A copy of a user's image, prepared; the file itself is only read."""
        self.cache.progress(f"{path.name}: copying (1/2)")
        disk = scratch / "copy.qcow2"
        argv = ["qemu-img", "convert", "-f", checked.format, "-O", "qcow2"]
        output([*argv, str(path.absolute()), str(disk)], f"copying {path.name}")
        step = f"{path.name}: first boot (2/2)"
        facts = self._first_boot(step, path.name, disk, "qcow2", "virtio", own=False)
        return {**facts, "name": path.name}

    def _keep_rootfs(self, entry: BuildEntry, scratch: Path, key: str) -> None:
        def keep(kept: Path) -> dict[str, Any]:
            for name in ROOTFS:
                (scratch / name).rename(kept / name)
            return {"suite": entry.suite}

        self.cache.make("rootfs", key, keep)

    def _first_boot(
        self, step: str, name: str, disk: Path, form: str, bus: str, *, own: bool
    ) -> dict[str, Any]:
        """Boot ``disk`` once with our seed; then nothing is left beside it but the finished disk."""
        self.cache.progress(f"{step}, about {ABOUT_S[self.accel]} s")
        scratch = disk.parent
        console, iso = scratch / "console.log", scratch / "seed.iso"
        script = (base.recipes() / FIRST_BOOT).read_text(encoding="utf-8")
        seed.write_seed(iso, seed.files(script, self.public_key, built=own))
        try:
            facts = firstboot.run(
                firstboot.FirstBoot(disk, form, bus, iso, console, self.accel, own)
            )
        except ImageError as error:
            text = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
            raise self._logged(ImageError(error.what, hint=error.hint, detail=text), name) from None
        new = scratch / "new"
        output(
            ["qemu-img", "convert", "-f", form, "-O", "qcow2", str(disk), str(new)],
            f"{name}: packing the disk",
        )
        for path in scratch.iterdir():
            if path != new:
                namespace.remove_tree(path)
        new.rename(scratch / DISK)
        return dict(facts)

    def _logged(self, error: ImageError, name: str) -> ImageError:
        log = self.cache.keep_failed(name, error.detail or error.what)
        return ImageError(f"{name}: {error.what}; see {log}", hint=error.hint, detail=error.detail)

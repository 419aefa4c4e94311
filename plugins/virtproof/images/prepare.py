"""From a catalog entry or a user's file to a prepared disk, in a scratch directory of the cache."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from virtproof.errors import ImageError
from virtproof.images import base, firstboot, namespace, ovmf, seed
from virtproof.images.cache import Cache, Item
from virtproof.images.child import output
from virtproof.images.entry import BuildEntry
from virtproof.images.foreign import Checked
from virtproof.images.sources import Source
from virtproof.spec import Accel

FIRST_BOOT = "first-boot.sh"
DISK = "disk.qcow2"
# Seen on two cores; what the progress line says, so that nobody thinks it hangs.
ABOUT_S = {Accel.TCG: 60, Accel.KVM: 12}


class Gate(Protocol):
    """What lets guests in by memory and cores (the lab's admission)."""

    def starting(self) -> contextlib.AbstractContextManager[None]:
        """Hold one of as many turns as there are cores; waits for one."""
        ...

    def enter(self, name: str, mib: int, waits: Callable[[str], None]) -> None:
        """Claim memory; waits while there is too little."""
        ...

    def leave(self, name: str) -> None:
        """Give the memory back."""
        ...


@contextlib.contextmanager
def claimed(gate: Gate | None, mib: int, say: Callable[[str], None]) -> Iterator[None]:
    """Memory of the machine is claimed for the block, once there is so much; ``say`` tells why one waits."""
    if gate is None:
        yield
        return
    claim = f"image-{uuid.uuid4().hex}"
    gate.enter(claim, mib, say)
    try:
        yield
    finally:
        gate.leave(claim)


@dataclass(frozen=True, slots=True)
class Maker:
    """What every preparation needs. ``public_key``: the line for root's authorized_keys.

    ``gate``: whom a first boot waits for; nobody where it is None, as in a process that has guests.
    """

    cache: Cache
    accel: Accel
    public_key: str
    gate: Gate | None = None

    def rootfs(self, entry: BuildEntry, archives: list[Source], scratch: Path) -> dict[str, Any]:
        """The packed root filesystem that all images of the entry's packages share."""
        say = self.cache.progress
        say(f"{entry.name}: root filesystem of {entry.suite}, about 60 s")
        try:
            return base.rootfs(entry, archives, scratch, say)
        except ImageError as error:
            raise self._logged(error, entry.name) from None

    def of_entry(
        self, entry: BuildEntry, rootfs: Item, kernel: Item, scratch: Path
    ) -> dict[str, Any]:
        """Build of a root filesystem and a kernel's packages, and prepare."""
        say = self.cache.progress
        say(f"{entry.name}: disk (1/2), about 30 s")
        try:
            facts = base.image(entry, rootfs.path / base.ROOTFS, kernel.path, scratch, say)
        except ImageError as error:
            raise self._logged(error, entry.name) from None
        step = f"{entry.name}: first boot (2/2)"
        disk = scratch / "disk.raw"
        facts |= self._first_boot(
            step, entry.name, disk, "raw", entry.installed_on, own=True, firmware=entry.firmware
        )
        made_of = {"rootfs": rootfs.path.name, "packages": kernel.path.name}
        return {**facts, **made_of, "name": entry.name, "firmware": entry.firmware}

    def of_file(self, path: Path, name: str, checked: Checked, scratch: Path) -> dict[str, Any]:
        """A copy of a user's or a publisher's image, prepared; the file itself is only read."""
        self.cache.progress(f"{name}: copying (1/2)")
        disk = scratch / "copy.qcow2"
        argv = ["qemu-img", "convert", "-f", checked.format, "-O", "qcow2"]
        output([*argv, str(path.absolute()), str(disk)], f"copying {name}")
        step = f"{name}: first boot (2/2)"
        facts = self._first_boot(step, name, disk, "qcow2", "virtio", own=False)
        return {**facts, "name": name}

    def _first_boot(
        self,
        step: str,
        name: str,
        disk: Path,
        form: str,
        bus: str,
        *,
        own: bool,
        firmware: str = "bios",
    ) -> dict[str, Any]:
        """Boot ``disk`` once with our seed; then nothing is left beside it but the finished disk."""
        self.cache.progress(f"{step}, about {ABOUT_S[self.accel]} s")
        scratch = disk.parent
        console, iso = scratch / "console.log", scratch / "seed.iso"
        script = (base.recipes() / FIRST_BOOT).read_text(encoding="utf-8")
        seed.write_seed(iso, seed.files(script, self.public_key, built=own))
        try:
            boot = firstboot.FirstBoot(disk, form, bus, iso, console, self.accel, own)
            if firmware == "uefi":
                uefi = ovmf.find()
                variables = shutil.copyfile(uefi.variables, scratch / "variables.fd")
                boot = replace(boot, firmware=uefi, variables=variables)
            with self._let_in(boot.memory_mib, name):
                facts = firstboot.run(boot)
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

    @contextlib.contextmanager
    def _let_in(self, mib: int, name: str) -> Iterator[None]:
        turn = self.gate.starting() if self.gate else contextlib.nullcontext()
        with claimed(self.gate, mib, lambda why: self.cache.progress(f"{name}: {why}")), turn:
            yield

    def _logged(self, error: ImageError, name: str) -> ImageError:
        try:
            see = f"see {self.cache.keep_failed(name, error.detail or error.what)}"
        except OSError as unkept:
            see = f"its log cannot be kept: {unkept.strerror}"
        return ImageError(f"{name}: {error.what}; {see}", hint=error.hint, detail=error.detail)

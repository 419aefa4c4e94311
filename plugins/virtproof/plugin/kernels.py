"""Images with a kernel under test: which image a name stands for, and what a guest of it is booted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from virtproof.errors import LabGoneError, VirtproofError
from virtproof.guest.derived import derived, name_of
from virtproof.guest.guest import Guest
from virtproof.images.kernels import VMLINUZ, KernelUnderTest
from virtproof.images.store import ImageStore, PreparedImage
from virtproof.spec import DiskBus, Firmware, GuestSpec, Machine

AT = "@"


class Kernels:
    """The kernels under test of a run, by release. ``guest`` defines a guest of a spec and an image."""

    def __init__(
        self,
        kernels: Mapping[str, KernelUnderTest],
        store: Callable[[], ImageStore],
        guest: Callable[[GuestSpec, PreparedImage], Guest],
        boot: Callable[[Guest], Guest],
    ) -> None:
        self._kernels = kernels
        self._store = store
        self._guest = guest
        self._boot = boot
        self._images: dict[str, PreparedImage | VirtproofError] = {}
        self._cmdlines: dict[str, str] = {}
        self.installing: list[
            Guest
        ] = []  # guests that a kernel was installed in, the last one last

    def of(self, name: str) -> tuple[str, KernelUnderTest | None]:
        """``debian-12@6.12.95`` as image and kernel; no kernel where the name has none under test."""
        image, _, release = name.rpartition(AT)
        kernel = self._kernels.get(release)
        return (image, kernel) if kernel is not None else (name, None)

    def image(self, base: str, kernel: KernelUnderTest) -> PreparedImage:
        """The image with that kernel; a kernel that did not come up once is not tried again."""
        name = f"{base}{AT}{kernel.release}"
        if name not in self._images:
            prepared = self._store().prepared(base)
            if kernel.direct:
                self._images[name] = replace(prepared, name=name_of(prepared.name, kernel))
            else:
                try:
                    self._images[name] = derived(
                        self._store(), prepared, kernel, self._defined(name), self._boot
                    )
                except LabGoneError:
                    raise
                except VirtproofError as error:
                    self._images[name] = error
        found = self._images[name]
        if isinstance(found, VirtproofError):
            raise found
        return found

    def fields(self, name: str, accel: Any) -> dict[str, str]:
        """Fields of GuestSpec by which QEMU boots the kernel; none where the image's boot loader does."""
        base, kernel = self.of(name)
        if kernel is None or not kernel.direct:
            return {}
        key = f"{base} {kernel.initrd is not None}"
        if key not in self._cmdlines:
            self._cmdlines[key] = self._cmdline(base, kernel, accel)
        fields = {"kernel": str(self._vmlinuz(kernel)), "cmdline": self._cmdlines[key]}
        return fields | ({"initrd": str(kernel.initrd)} if kernel.initrd else {})

    def lacking(self, spec: GuestSpec, *, nic: bool) -> str:
        """Why a kernel under test cannot drive what a guest is to boot from (and, with ``nic``, its NIC)."""
        kernel = self.of(spec.image)[1]
        if kernel is None:
            return ""
        wanted = [spec.disk.drivers] + ([spec.nic.drivers] if nic and spec.nic else [])
        return next((why for drivers in wanted if (why := kernel.lacks(drivers))), "")

    def _defined(self, name: str) -> Callable[[PreparedImage], Guest]:
        def make(image: PreparedImage) -> Guest:
            spec = GuestSpec(image=name, accel=self._store().accel, nic=None, **_boots(image))
            self.installing.append(self._guest(spec, image))
            return self.installing[-1]

        return make

    def _cmdline(self, base: str, kernel: KernelUnderTest, accel: Any) -> str:
        """The image's own command line; without an initrd, the root as a kernel can find it."""
        image = self._store().prepared(base)
        spec = GuestSpec(image=base, accel=accel, **_boots(image))
        with self._boot(self._guest(spec, image)) as guest:
            words = guest.runner.run("cat /proc/cmdline").stdout.split()
            partition = guest.runner.run("findmnt -no PARTUUID /").stdout.strip()
        words = [word for word in words if not word.startswith("BOOT_IMAGE=")]
        if kernel.initrd is None:
            words = [f"root=PARTUUID={partition}" if w.startswith("root=") else w for w in words]
        return " ".join(words)

    def _vmlinuz(self, kernel: KernelUnderTest) -> Any:
        """The kernel as a file: the user's own, or out of a package."""
        if kernel.vmlinuz is not None:
            return kernel.vmlinuz
        cache, key = self._store().cache, kernel.digest[:32]

        def make(scratch: Any) -> dict[str, Any]:
            data = kernel.image()
            (scratch / VMLINUZ).write_bytes(data)
            return {"kernel": kernel.release}

        with cache.locked(f"direct-{key}", kernel.release):
            item = cache.get("direct", key) or cache.make("direct", key, make)
        return item.path / VMLINUZ


def _boots(image: PreparedImage) -> dict[str, Any]:
    """Axes of a guest that the image surely boots on: those of the machine that it was installed on."""
    uefi = image.firmware is Firmware.UEFI
    plain = DiskBus.SATA if uefi else DiskBus.IDE
    return {
        "firmware": image.firmware,
        "machine": Machine.Q35 if uefi else Machine.PC,
        "disk": DiskBus.VIRTIO if image.installed_on == "virtio" else plain,
    }

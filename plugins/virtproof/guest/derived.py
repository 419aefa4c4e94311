"""An image with another kernel in it: installed into a guest of the image, seen to boot, and kept."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from virtproof.errors import CommandError, GuestError, ImageError, VirtproofError
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.images.child import output
from virtproof.images.kernels import KernelUnderTest
from virtproof.images.prepare import DISK
from virtproof.images.store import ImageStore, PreparedImage
from virtproof.transition.kernel import finish, place_tree, settle

KIND = "prepared"
FORMAT = 3
SPACE_MIB = 2500
Defined = Callable[[PreparedImage], Guest]


def name_of(image: str, kernel: KernelUnderTest) -> str:
    """``debian-12@6.12.95``: how an image with a kernel under test is called."""
    return f"{image}@{kernel.release}"


def derived(
    store: ImageStore,
    image: PreparedImage,
    kernel: KernelUnderTest,
    defined: Defined,
    boot: Callable[[Guest], Guest],
) -> PreparedImage:
    """The image with that kernel, which its own boot loader boots and its own tool made an initramfs for.

    ``defined`` makes a guest of an image, not started, and ``boot`` brings it up. Made once: the cache's key
    is of image and kernel.
    BootFailedError where the kernel does not come up, ImageError where it is not to be installed.
    """
    name = name_of(image.name, kernel)
    key = _digest([str(FORMAT), image.digest, kernel.digest])
    with store.cache.locked(f"{KIND}-{key}", name):
        item = store.cache.get(KIND, key)
        if item is None:
            store.cache.check_space(f"installing a kernel into {image.name}", SPACE_MIB)
            store.progress(f"{name}: installing the kernel, and a boot of it")

            def make(scratch: Path) -> dict[str, Any]:
                with defined(image) as guest:
                    _install(guest, kernel, boot)
                    guest.shut_down()
                    disk = scratch / DISK
                    argv = ["qemu-img", "convert", "-O", "qcow2", guest.resources.root, str(disk)]
                    output(argv, f"{name}: packing the disk")
                return {"name": name, "initramfs": image.initramfs, "kernel": kernel.release}

            item = store.cache.make(KIND, key, make)
    path = item.path / DISK
    size = path.stat().st_size
    return replace(image, name=name, path=path, digest=item.digests[DISK], size_bytes=size)


def _install(guest: Guest, kernel: KernelUnderTest, boot: Callable[[Guest], Guest]) -> None:
    """Install, make it the one that boots, and boot it."""
    what = f"kernel {kernel.release} is not installed in {guest.image.name}"
    try:
        boot(guest)
        with tempfile.TemporaryDirectory(dir=_beside(guest)) as staging:
            folder = Path(staging)
            if kernel.packages:
                for package in kernel.packages:
                    shutil.copy(package, folder)
                guest.install_packages(folder)
            else:
                _stage(kernel, folder)
                guest.hand_in(folder, place_tree(guest.runner))
        finish(guest.runner, kernel.release)
    except BootFailedError:
        raise
    except (CommandError, GuestError) as error:
        raise ImageError(f"{what}: {error.what}", hint=error.hint, detail=error.detail) from None
    guest.reboot()
    seen = guest.kernel.release
    if seen != kernel.release:
        raise ImageError(f"{what}: its boot loader boots {seen}")
    try:
        settle(guest.runner, kernel.release)
    except GuestError as error:
        raise ImageError(f"{what}: {error.what}", hint=error.hint, detail=error.detail) from None


def _stage(kernel: KernelUnderTest, folder: Path) -> None:
    """The kernel's files as the guest gets them: ``vmlinuz``, and ``modules`` without links to sources."""
    if kernel.vmlinuz is None:
        raise VirtproofError(f"kernel {kernel.release} has no files")
    shutil.copy(kernel.vmlinuz, folder / "vmlinuz")
    if kernel.modules is not None:
        sources = shutil.ignore_patterns("build", "source")
        shutil.copytree(kernel.modules, folder / "modules", symlinks=True, ignore=sources)
    else:
        (folder / "modules").mkdir()
    if kernel.config:
        (folder / "config").write_bytes(kernel.config)
    if kernel.initrd is not None:
        shutil.copy(kernel.initrd, folder / "initrd")


def _beside(guest: Guest) -> Path:
    return Path(guest.resources.root).parent


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

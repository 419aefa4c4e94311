"""Kernels under test: packages, or a bzImage with modules or an initrd. Checked before anything boots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from virtproof.errors import UsageError
from virtproof.images.cache import sha256
from virtproof.images.child import output
from virtproof.kernel.bzimage import config_of, drivers_of, kernel_of, release_of
from virtproof.kernel.files import DebFiles, TreeFiles
from virtproof.kernel.support import Support, options, support
from virtproof.spec import DiskBus, NicModel

VMLINUZ = "vmlinuz"
ARCHITECTURES = ("amd64", "all")


@dataclass(frozen=True, slots=True)
class KernelUnderTest:
    """A kernel that guests are to run in the place of their image's.

    Either ``packages`` (.deb), or ``vmlinuz`` with ``modules`` (a directory ``lib/modules/RELEASE``) or
    ``initrd``. ``direct``: booted by QEMU itself, and nothing in the image is changed. ``support``: what it
    supports, None where nobody can tell (an initrd may have any module). ``digest``: of all its files.
    """

    release: str
    digest: str
    support: Support | None
    packages: tuple[Path, ...] = ()
    vmlinuz: Path | None = None
    modules: Path | None = None
    initrd: Path | None = None
    direct: bool = False
    config: bytes = field(default=b"", repr=False)  # empty where it was not found

    def image(self) -> bytes:
        """The kernel itself (bzImage)."""
        if self.vmlinuz is not None:
            return self.vmlinuz.read_bytes()
        return DebFiles(self.packages).read(VMLINUZ) or b""

    def lacks(self, drivers: Iterable[str]) -> str:
        """Why none of these drivers can drive a device of a guest; empty where one can, or none can tell."""
        wanted, known = tuple(drivers), self.support
        if known is None:
            return ""
        if self.direct and self.initrd is None:
            if any(known.has(name) == "builtin" for name in wanted):
                return ""
            return (
                f"{self.release} has no {' or '.join(wanted)} built in, and boots without an initrd"
            )
        if any(known.has(name) for name in wanted):
            return ""
        return f"{self.release} has no {' or '.join(wanted)}, built in or as a module"


def from_packages(
    given: Sequence[Path], *, initrd: Path | None = None, direct: bool = False
) -> list[KernelUnderTest]:
    """The kernels that packages hold: those of one release are one kernel, in the order they were given.

    UsageError where a package is for another architecture, or a release has no vmlinuz among them.
    """
    read = [(path, _package(path)) for path in given]
    releases = dict.fromkeys(name for _, files in read for name in sorted(files.releases))
    if not releases:
        names = ", ".join(path.name for path in given)
        raise UsageError(
            f"no kernel in {names}", hint="a kernel's package has vmlinuz and lib/modules"
        )
    found = []
    for release in releases:
        # What has no release of its own (firmware, a script) goes with each.
        paths = tuple(path for path, files in read if files.releases <= {release})
        files = DebFiles(paths)
        image = files.read(VMLINUZ)
        if image is None:
            names = ", ".join(path.name for path in paths)
            raise UsageError(
                f"{names}: no vmlinuz of {release} in it",
                hint="give the package with the kernel itself too",
            )
        _same(
            release_of(image, f"vmlinuz of {paths[0].name}"), release, f"modules in {paths[0].name}"
        )
        digest = _digest([release, *(sha256(path) for path in paths), _file(initrd)])
        known = None if direct and initrd else support(files)
        kernel = KernelUnderTest(
            release, digest, known, packages=paths, initrd=initrd, direct=direct
        )
        found.append(_bootable(kernel))
    return found


def from_image(
    vmlinuz: Path, *, modules: Path | None = None, initrd: Path | None = None, direct: bool = False
) -> KernelUnderTest:
    """A bzImage with the modules that ``make modules_install`` left, or with an initrd."""
    data = vmlinuz.read_bytes()
    release = release_of(data, str(vmlinuz))
    below = _modules_of(modules, release, vmlinuz) if modules is not None else None
    known: Support | None = None
    if below is not None:
        known = support(TreeFiles(below.parents[2], release))
    elif initrd is None:
        known = _inside(data, vmlinuz, release)
    config = _config(vmlinuz, release, data)
    parts = [
        release,
        sha256(vmlinuz),
        _tree(below),
        _file(initrd),
        config.decode("utf-8", "replace"),
    ]
    kernel = KernelUnderTest(
        release, _digest(parts), known, (), vmlinuz, below, initrd, direct, config
    )
    return _bootable(kernel)


def _config(vmlinuz: Path, release: str, data: bytes) -> bytes:
    """The configuration of a kernel image: beside it, in the tree that made it, or in it; else empty."""
    places = [vmlinuz.parent / f"config-{release}"]
    if vmlinuz.parts[-4:-1] == ("arch", "x86", "boot"):
        places.append(vmlinuz.parents[3] / ".config")
    for place in places:
        if place.is_file():
            return place.read_bytes()
    kernel = kernel_of(data, str(vmlinuz))
    return (config_of(kernel) or b"") if kernel else b""


def _package(path: Path) -> DebFiles:
    files = DebFiles([path])
    architecture = output(["dpkg-deb", "-f", str(path), "Architecture"], path.name).strip()
    if architecture not in ARCHITECTURES:
        raise UsageError(f"{path.name} is for {architecture}, and guests are x86-64 (amd64)")
    return files


def _modules_of(given: Path, release: str, vmlinuz: Path) -> Path:
    """``lib/modules/RELEASE`` below what was given, or that itself."""
    for place in (given / "lib/modules" / release, given / "usr/lib/modules" / release, given):
        if place.is_dir() and place.parts[-3:] == ("lib", "modules", release):
            return place
    there = sorted(p.name for p in (given / "lib/modules").glob("*") if p.is_dir())
    has = f"modules of {', '.join(there)}" if there else "no lib/modules/RELEASE"
    raise UsageError(
        f"--modules {given} has {has}, and {vmlinuz.name} is {release}",
        hint="make modules_install INSTALL_MOD_PATH=DIR, with the tree that made the kernel",
    )


def _same(image: str, modules: str, where: str) -> None:
    if image != modules:
        raise UsageError(f"the kernel is {image}, and the {where} are of {modules}")


def _inside(data: bytes, path: Path, release: str) -> Support | None:
    """What a kernel image alone says of itself: it has no modules."""
    kernel = kernel_of(data, str(path))
    if kernel is None:
        return None
    names = {name for axis in (*DiskBus, *NicModel) for name in axis.drivers} | {"virtio_pci"}
    empty = TreeFiles(path.parent / ".no-modules", release)
    config = config_of(kernel)
    told = None if config is None else options(config)
    return Support(release, told, drivers_of(kernel, names), {}, empty)


def _bootable(kernel: KernelUnderTest) -> KernelUnderTest:
    """UsageError for a kernel that can find no disk at all."""
    if kernel.lacks(name for bus in DiskBus for name in bus.drivers):
        without = "gets no initrd" if kernel.direct else "has no modules"
        raise UsageError(
            f"kernel {kernel.release} {without}, and has no driver of a disk built in",
            hint="give --initrd FILE" if kernel.direct else "give --modules DIR",
        )
    return kernel


def _file(path: Path | None) -> str:
    return sha256(path) if path is not None else ""


def _tree(directory: Path | None) -> str:
    return _digest(_contents(directory)) if directory is not None else ""


def _contents(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"{path.relative_to(directory)} {sha256(path)}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

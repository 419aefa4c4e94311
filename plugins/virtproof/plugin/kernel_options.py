"""The options of a kernel under test: read, and checked against each other, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.errors import UsageError
from virtproof.images.kernels import KernelUnderTest, from_image, from_packages


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--kernel-deb",
        action="append",
        metavar="FILE|DIR",
        help="run every image with the kernel of this package (DIR: of the packages in it); repeatable: "
        "packages of one release are one kernel, each release is a kernel of its own",
    )
    group.addoption(
        "--kernel",
        metavar="BZIMAGE",
        help="run every image with this kernel, with --modules or --initrd",
    )
    group.addoption(
        "--modules",
        metavar="DIR",
        help="what 'make modules_install INSTALL_MOD_PATH=DIR' left, for --kernel",
    )
    group.addoption(
        "--initrd",
        metavar="FILE",
        help="initrd of the kernel, instead of one that the image's own tool makes",
    )
    group.addoption(
        "--direct",
        action="store_true",
        help="QEMU boots the kernel itself: quicker, but neither boot loader nor initramfs are the image's",
    )


def read_kernels(config: pytest.Config) -> dict[str, KernelUnderTest]:
    """The kernels under test by release, none where none was asked for.

    UsageError for files that are missing or not what they should be, and for options that do not go together.
    """
    kernel, packages = config.getoption("--kernel"), config.getoption("--kernel-deb") or []
    modules, initrd = config.getoption("--modules"), config.getoption("--initrd")
    direct = bool(config.getoption("--direct"))
    if not kernel and not packages:
        for name in ("--modules", "--initrd", "--direct"):
            if config.getoption(name):
                raise UsageError(
                    f"{name} is of a kernel under test", hint="give --kernel or --kernel-deb"
                )
        return {}
    if kernel and packages:
        raise UsageError("--kernel and --kernel-deb exclude each other")
    if modules and (packages or direct):
        why = (
            "has its own"
            if packages
            else "uses none: a kernel that is booted directly has an initrd"
        )
        raise UsageError(f"--modules goes with --kernel alone, this {why}")
    if config.getoption("--libvirt") and not direct:
        raise UsageError(
            "a kernel is installed into an image in the private lab alone",
            hint="leave --libvirt out, or boot it by --direct",
        )
    at = _there(config, "--initrd", initrd) if initrd else None
    if kernel:
        below = _directory(config, modules) if modules else None
        file = _there(config, "--kernel", kernel)
        found = [from_image(file, modules=below, initrd=at, direct=direct)]
    else:
        if at is not None and not direct:
            raise UsageError("--initrd with --kernel-deb goes with --direct")
        found = from_packages(_packages(config, packages), initrd=at, direct=direct)
    return {one.release: one for one in found}


def _packages(config: pytest.Config, given: list[str]) -> list[Path]:
    found: list[Path] = []
    for name in given:
        path = (config.invocation_params.dir / name).resolve()
        if path.is_dir():
            inside = sorted(path.glob("*.deb"))
            if not inside:
                raise UsageError(f"--kernel-deb {name} has no .deb in it")
            found += inside
        else:
            found.append(_there(config, "--kernel-deb", name))
    return list(dict.fromkeys(found))


def _there(config: pytest.Config, option: str, name: str) -> Path:
    path: Path = (config.invocation_params.dir / name).resolve()
    if not path.is_file():
        raise UsageError(f"{option} {name}: there is no such file")
    return path


def _directory(config: pytest.Config, name: str) -> Path:
    path: Path = (config.invocation_params.dir / name).resolve()
    if not path.is_dir():
        raise UsageError(f"--modules {name}: there is no such directory")
    return path

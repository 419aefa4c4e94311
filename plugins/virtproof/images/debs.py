"""Packages from the machine's apt sources, without root: a second kernel for a guest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.images.child import need, output
from virtproof.images.entry import BuildEntry
from virtproof.images.sources import Source

DIRECTORIES = (
    "lists/partial",
    "archives/partial",
    "etc/apt.conf.d",
    "etc/preferences.d",
    "etc/trusted.gpg.d",
)


def download(
    entry: BuildEntry, package: str, archives: list[Source], scratch: Path
) -> dict[str, Any]:
    """Put into ``scratch`` the .deb of the kernel that ``package`` depends on, and those which that needs.

    Only what is called ``linux-...``: the rest of what a kernel needs every system has.
    """
    need("apt-get", "apt-cache")
    apt = scratch / "apt"
    options = _private_apt(apt, entry, archives)
    output(["apt-get", *options, "update"], f"{entry.name}: apt-get update")
    found = [name for name in _depends(entry, options, package) if name.startswith("linux-image-")]
    if not found:
        raise ImageError(f"{entry.name}: {package} depends on no kernel package")
    wanted = found[:1]
    for name in wanted:  # which grows
        more = [n for n in _depends(entry, options, name) if n.startswith("linux-")]
        wanted += [n for n in more if n not in wanted]
    output(
        ["env", f"--chdir={scratch}", "apt-get", *options, "download", *wanted],
        f"{entry.name}: downloading {found[0]}",
    )
    shutil.rmtree(apt)
    return {"package": found[0], "kernel": found[0].removeprefix("linux-image-")}


def extract_kernel(packages: Path, scratch: Path) -> dict[str, Any]:
    """Put ``vmlinuz`` of the kernel package in ``packages`` into ``scratch``."""
    need("dpkg-deb")
    tree = scratch / "tree"
    for package in sorted(packages.glob("linux-image-*.deb")) + sorted(
        packages.glob("linux-binary-*.deb")
    ):
        output(["dpkg-deb", "-x", str(package), str(tree)], f"unpacking {package.name}")
        for kernel in sorted(tree.glob("boot/vmlinuz-*")):
            kernel.rename(scratch / "vmlinuz")
            shutil.rmtree(tree)
            return {"kernel": kernel.name.removeprefix("vmlinuz-")}
    raise ImageError(f"no kernel package in {packages}")


def unpack(packages: Path, scratch: Path) -> tuple[Path, Path]:
    """Unpack the kernel package in ``packages`` below ``scratch``; its vmlinuz and its folder of modules.

    ``modules.dep`` is there.
    """
    need("dpkg-deb", "depmod")
    found = sorted(packages.glob("linux-image-*.deb"))
    if not found:
        raise ImageError(f"no kernel package in {packages}")
    tree = scratch / "kernel"
    output(["dpkg-deb", "-x", str(found[0]), str(tree)], f"unpacking {found[0].name}")
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise ImageError(f"{found[0].name} holds no vmlinuz")
    release = kernels[0].name.removeprefix("vmlinuz-")
    output(["depmod", "-b", str(tree), release], f"modules of {release}")
    return kernels[0], tree / "lib" / "modules" / release


def _private_apt(apt: Path, entry: BuildEntry, archives: list[Source]) -> list[str]:
    """An apt that knows only these archives and writes only below ``apt``."""
    for name in DIRECTORIES:
        (apt / name).mkdir(parents=True)
    for name in ("status", "etc/apt.conf", "etc/preferences"):
        (apt / name).touch()
    (apt / "virtproof.sources").write_text("\n".join(s.stanza() for s in archives))
    settings = {
        "Dir::State": apt,
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Etc": apt / "etc",
        "Dir::Etc::sourcelist": apt / "virtproof.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
        "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
        "APT::Architecture": entry.architecture,
        "APT::Default-Release": _release(entry, archives),
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    return ["-qq", *options]


def _release(entry: BuildEntry, archives: list[Source]) -> str:
    """The suite whose versions are wanted: backports where they are among the archives."""
    suites = [source.suite for source in archives]
    wanted = f"{entry.suite}-{entry.kernel_pocket}"
    return wanted if wanted in suites else ""


def _depends(entry: BuildEntry, options: list[str], package: str) -> list[str]:
    """What a package needs, without alternatives and virtual names."""
    argv = ["apt-cache", *options[1:], "depends", "--important", package]
    said = output(argv, f"{entry.name}: {package}")
    names = [line.partition("epends: ")[2].strip() for line in said.splitlines() if "|" not in line]
    return [name for name in names if name and not name.startswith("<")]

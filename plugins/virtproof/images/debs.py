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


def download(entry: BuildEntry, archives: list[Source], scratch: Path) -> dict[str, Any]:
    """Put the .deb of the kernel that ``entry.update_kernel`` stands for into ``scratch``."""
    need("apt-get", "apt-cache")
    apt = scratch / "apt"
    options = _private_apt(apt, entry, archives)
    output(["apt-get", *options, "update"], f"{entry.name}: apt-get update")
    package = _kernel_package(entry, options)
    uris = output(
        ["apt-get", *options, "download", "--print-uris", package], f"{entry.name}: {package}"
    )
    if not uris.strip():
        raise ImageError(f"{entry.name}: apt has no {package}")
    output(
        ["env", f"--chdir={scratch}", "apt-get", *options, "download", package],
        f"{entry.name}: downloading {package}",
    )
    shutil.rmtree(apt)
    return {"package": package, "kernel": package.removeprefix("linux-image-")}


def extract_kernel(packages: Path, scratch: Path) -> dict[str, Any]:
    """Put ``vmlinuz`` of the kernel package in ``packages`` into ``scratch``."""
    need("dpkg-deb")
    found = sorted(packages.glob("linux-image-*.deb"))
    if not found:
        raise ImageError(f"no kernel package in {packages}")
    tree = scratch / "tree"
    output(["dpkg-deb", "-x", str(found[0]), str(tree)], f"unpacking {found[0].name}")
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise ImageError(f"{found[0].name} holds no vmlinuz")
    kernels[0].rename(scratch / "vmlinuz")
    shutil.rmtree(tree)
    return {"kernel": kernels[0].name.removeprefix("vmlinuz-")}


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
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    return ["-qq", *options]


def _kernel_package(entry: BuildEntry, options: list[str]) -> str:
    """The package with the kernel itself: what the flavour's meta package depends on."""
    argv = ["apt-cache", *options[1:], "depends", "--important", entry.update_kernel]
    said = output(argv, f"{entry.name}: {entry.update_kernel}")
    for line in said.splitlines():
        name = line.partition("Depends:")[2].strip()
        if name.startswith("linux-image-") and name != entry.update_kernel:
            return name
    raise ImageError(f"{entry.name}: {entry.update_kernel} depends on no kernel package")

"""What the catalog's files may say: an image that is built, or one that its publisher serves."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~+%@*-]+)+")
SHA256, SHA512 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{128}")
FINGERPRINT = re.compile(r"[0-9A-F]{40}")
TOOLS = ("initramfs-tools", "dracut")
BUSES = ("ide", "virtio")
LATER = ("dep", "list", "most")
FIRMWARES = ("bios", "uefi")
ROOTS = ("ext4", "xfs", "btrfs", "lvm")
POCKETS = ("release", "updates", "security")
FORMATS = ("qcow2", "raw", "qcow2.xz", "raw.xz")
CLEAR_SIGNED = "inline"


@dataclass(frozen=True, slots=True)
class BuildEntry:
    """An image that is built from packages. ``drivers``: what its first initramfs holds to find the root,
    as far as the kernel has it.

    ``pockets``: the suite's archives that the root filesystem is made of. ``kernel``: the package that
    depends on the kernel; ``kernel_pocket``: the archive that it comes from ("backports": one more).
    ``firmware``, ``table``, ``root``: what boots it, its partition table, the kind of its root.
    ``modules_later``: initramfs-tools' MODULES after the build. ``space_mib``: free space that the
    build needs in the cache. ``size_mib``: size of the disk that the guest sees.
    """

    name: str
    title: str
    distribution: str
    suite: str
    architecture: str
    components: tuple[str, ...]
    pockets: tuple[str, ...]
    packages: tuple[str, ...]
    kernel: str
    kernel_pocket: str
    tool: str
    drivers: tuple[str, ...]
    modules_later: str
    installed_on: str
    update_kernel: str
    firmware: str
    table: str
    root: str
    size_mib: int
    space_mib: int
    verified: bool
    kind: Literal["build"] = "build"

    @property
    def all_packages(self) -> tuple[str, ...]:
        """What is installed before the kernel: the list of the entry and its initramfs tool."""
        return (*self.packages, self.tool)


@dataclass(frozen=True, slots=True)
class DownloadEntry:
    """A cloud image as its publisher serves it.

    Its content is held against a digest in lower-case hex, either pinned here (``sha256``, ``sha512``)
    or listed in the publisher's file of them (``checksums``, a URL). ``url``: its last part may have a
    ``*``, which that file resolves. ``signature``: a URL of a detached one, or "inline" for a clear-signed
    file of checksums; it is over that file, or (``signs_image``) over the image. ``key``: fingerprint of
    the publisher's primary key. ``login``: the user whom the publisher's own cloud-init lets in.
    ``firmware``: "bios", "uefi" or "both". ``space_mib``: the most that the disk may take in the cache.
    ``unverified``: keys of the file that nobody has seen to be right.
    """

    name: str
    title: str
    distribution: str
    release: str
    architecture: str
    url: str
    format: str
    sha256: str
    sha512: str
    checksums: str
    signature: str
    signs_image: bool
    key: str
    login: str
    firmware: str
    tool: str
    space_mib: int
    end_of_life: datetime.date | None
    verified: bool
    unverified: tuple[str, ...]
    kind: Literal["download"] = "download"

    @property
    def pinned(self) -> str:
        """The digest that stands in the catalog, in hex; empty where the publisher's file has it."""
        return self.sha256 or self.sha512


Entry: TypeAlias = BuildEntry | DownloadEntry


class Key(NamedTuple):
    """A key of the file: the field, the type of its value, what it must be; ``default``: it may lack."""

    field: str
    type: type[Any]
    wanted: Any = None
    default: Any = ...


_COMMON: dict[str, Key] = {
    "title": Key("title", str),
    "distribution": Key("distribution", str, WORD),
    "architecture": Key("architecture", str, ("amd64",)),
    "verified": Key("verified", bool),
    "initramfs.tool": Key("tool", str, TOOLS),
    "needs.space_mib": Key("space_mib", int, range(1, 1 << 20)),
}
BUILD: dict[str, Key] = _COMMON | {
    "kind": Key("kind", str, ("build",), "build"),
    "suite": Key("suite", str, WORD),
    "components": Key("components", list, WORD),
    "pockets": Key("pockets", list, POCKETS, POCKETS),
    "installed_on": Key("installed_on", str, BUSES),
    "rootfs.packages": Key("packages", list, WORD),
    "kernel.package": Key("kernel", str, WORD),
    "kernel.pocket": Key("kernel_pocket", str, ("release", "backports"), "release"),
    "initramfs.drivers": Key("drivers", list, WORD),
    "initramfs.modules_later": Key("modules_later", str, LATER),
    "update.kernel": Key("update_kernel", str, WORD),
    "disk.firmware": Key("firmware", str, FIRMWARES, "bios"),
    "disk.table": Key("table", str, ("mbr", "gpt"), "mbr"),
    "disk.root": Key("root", str, ROOTS, "ext4"),
    "disk.size_mib": Key("size_mib", int, range(512, 1 << 20)),
}
DOWNLOAD: dict[str, Key] = _COMMON | {
    "kind": Key("kind", str, ("download",)),
    "release": Key("release", str, WORD),
    "login": Key("login", str, USER),
    "firmware": Key("firmware", str, ("bios", "uefi", "both")),
    "initramfs.tool": Key("tool", str, (*TOOLS, "mkinitcpio", "mkinitfs")),
    "end_of_life": Key("end_of_life", datetime.date, None, None),
    "unverified": Key("unverified", list, None, ()),
    "download.url": Key("url", str, URL),
    "download.format": Key("format", str, FORMATS),
    "download.sha256": Key("sha256", str, SHA256, ""),
    "download.sha512": Key("sha512", str, SHA512, ""),
    "download.checksums": Key("checksums", str, URL, ""),
    "download.signature": Key("signature", str, re.compile(rf"{CLEAR_SIGNED}|{URL.pattern}"), ""),
    "download.signs_image": Key("signs_image", bool, None, False),
    "download.key": Key("key", str, FINGERPRINT, ""),
}
KINDS: dict[str, dict[str, Key]] = {"build": BUILD, "download": DOWNLOAD}


def contradiction(values: Mapping[str, Any]) -> str:
    """What is wrong among the keys of a download, each of which is right by itself; or nothing."""
    given = [key for key in ("sha256", "sha512", "checksums") if f"download.{key}" in values]
    signature = values.get("download.signature", "")
    inline, of_image = signature == CLEAR_SIGNED, values.get("download.signs_image", False)
    missing = [key for key in values.get("unverified", ()) if key not in values]
    faults = {
        "download: one of sha256, sha512 and checksums must be there": len(given) != 1,
        "download: a signature needs a key, and a key a signature": bool(signature)
        != ("download.key" in values),
        "download.signature: a pinned digest needs none": bool(signature)
        and "checksums" not in given,
        "download.signs_image: needs the URL of a signature": of_image
        and (inline or not signature),
        "download.url: a * only in the last part, and only with checksums": "*"
        in values["download.url"]
        and ("checksums" not in given or "*" in values["download.url"].rpartition("/")[0]),
        "download.checksums and download.signature have no *": "*"
        in values.get("download.checksums", "") + signature,
        f"unverified: {', '.join(missing)} is no key of this file": bool(missing),
    }
    return next((fault for fault, found in faults.items() if found), "")

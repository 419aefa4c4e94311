"""The image store: a name or a file in, a prepared image or an overlay on it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.images import base, catalog, debs, foreign, installed, seed, sources
from virtproof.images.cache import Cache, Item, default_cache, sha256
from virtproof.images.child import need, output
from virtproof.images.entry import BuildEntry, DownloadEntry
from virtproof.images.fetch import publisher
from virtproof.images.fetch.publisher import Publisher
from virtproof.images.fetch.wishes import Wishes, wishes
from virtproof.images.keys import key_pair
from virtproof.images.prepare import DISK, FIRST_BOOT, Gate, Maker
from virtproof.spec import Accel, Firmware

__all__ = ["ImageStore", "PreparedImage", "default_cache", "default_image"]

RECIPES = ("base.sh", "image.sh", "inside.sh", "kernel.sh", "guest.sh", "drivers.sh", "grub.sh")
FALLBACK = "debian-12"
FIRST_BOOT_SPACE_MIB = 1024
PROBE_SPACE_MIB = 500  # the package, and what it unpacks to
TOOLS = ("initramfs-tools", "dracut")


@dataclass(frozen=True)
class PreparedImage:
    """A sealed image whose first boot is done.

    ``format``: always "qcow2". ``key``: private SSH key that root's account takes. ``digest``: SHA-256
    of the file at ``path``, in hex. ``initramfs``: "initramfs-tools", "dracut" or "unknown".
    ``installed_on``: "ide", "virtio" or "unknown". ``agent``: a guest agent answers on the second
    serial port. ``firmware``: what it boots by.
    """

    name: str
    path: Path
    format: str
    key: Path
    digest: str
    initramfs: str
    installed_on: str
    agent: bool
    size_bytes: int
    firmware: Firmware = Firmware.BIOS


def _quiet(_line: str) -> None:
    """The progress callback of one who wants none."""


def default_image() -> str:
    """The catalog's default here: the first verified entry that this machine's apt sources serve."""
    entries = catalog.builds()
    for entry in entries.values():
        if entry.verified and sources.serves(entry):
            return entry.name
    return FALLBACK


class ImageStore:
    """Prepared images in a cache. ``accel`` is what first boots run on, ``gate`` what they wait for.

    ``wished``: of downloads; where it is not given, what the environment says.
    """

    def __init__(
        self,
        cache: Path,
        accel: Accel,
        progress: Callable[[str], None] = _quiet,
        gate: Gate | None = None,
        wished: Wishes | None = None,
    ) -> None:
        self.cache = Cache(cache, progress)
        self.publisher = Publisher(self.cache, wished or wishes())
        self.accel = accel
        self.progress = progress
        self.gate = gate
        self._digests: dict[tuple[Path, int, int, int], str] = {}

    def prepared(self, name: str) -> PreparedImage:
        """The image of a catalog name, or of a file (has a ``/``, or ends as an image's name does).

        Built or downloaded, and prepared, where it is missing; verified where it is there.
        """
        if foreign.is_file_name(name):
            path = Path(name)
            checked = foreign.check(path)
            key = _digest([self._content(path), checked.format, self._seed(built=False)])
            return self._of_file(path, path.name, key)
        entries = catalog.load()
        if name not in entries:
            installed.refuse(self.cache.root, name)
        entry = catalog.find(entries, name)
        if isinstance(entry, DownloadEntry):
            return self._of_download(entry)
        key = self.prepared_key(entry)
        with self.cache.locked(f"prepared-{key}", name):
            item = self.cache.get("prepared", key) or self._build(entry, key)
        return self._image(name, item, entry.installed_on)

    def overlay(self, image: PreparedImage, path: Path) -> None:
        """Make ``path`` a qcow2 file that reads through to the image and keeps what is written."""
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", image.format]
        output([*argv, "-b", str(image.path.absolute()), str(path)], f"overlay on {image.name}")

    def packages(self, name: str) -> Path:
        """A directory with the packages (.deb) of a second kernel for that catalog image."""
        entry = catalog.find_build(catalog.load(), name)
        return self._packages(entry, entry.update_kernel).path

    def probe_kernel(self) -> Path | None:
        """A stock kernel (vmlinuz) that is already in the cache; None where there is none."""
        for path in self.cache.items("kernel"):
            item = self.cache.get("kernel", path.name)
            if item is not None:
                return item.path / "vmlinuz"
        return None

    def fetch_probe_kernel(self) -> Path:
        """A stock kernel, downloaded by apt (no root needed) where the cache has none."""
        if (found := self.probe_kernel()) is not None:
            return found
        self.cache.check_space("the kernel for the accelerator probe", PROBE_SPACE_MIB)
        here = self.cache.items("packages")
        packages = here[0] if here else self.packages(default_image())
        key = packages.name
        with self.cache.locked(f"kernel-{key}", "kernel for the accelerator probe"):
            item = self.cache.get("kernel", key) or self.cache.make(
                "kernel", key, lambda scratch: debs.extract_kernel(packages, scratch)
            )
        return item.path / "vmlinuz"

    def kernel_tree(self, scratch: Path) -> tuple[Path, Path]:
        """A stock kernel, unpacked below ``scratch``: its vmlinuz, and the folder of its modules."""
        return debs.unpack(self.packages(default_image()), scratch)

    def prepared_key(self, entry: BuildEntry) -> str:
        """Address of the entry's prepared image: all that it is made of, without the mirror's name.

        Not in it: the versions of the packages, which are known only after the build. An image is
        made of newer ones by removing it.
        """
        parts = [self.rootfs_key(entry), entry.tool, entry.drivers, entry.modules_later]
        parts += [str(entry.size_mib), entry.installed_on, entry.kernel, entry.kernel_pocket]
        parts += [entry.firmware, entry.table, entry.root]
        chosen = (entry.tool, f"boot-{entry.firmware}", f"root-{entry.root}")
        made_inside = ("mkfs",) if entry.root in ("xfs", "btrfs") else ()
        of_ext4 = ("root-ext4",) if entry.root == "lvm" else ()
        recipes = (*RECIPES, *(f"{name}.sh" for name in (*chosen, *made_inside, *of_ext4)))
        return _digest([*parts, *_texts(*recipes), self._seed(built=True)])

    def download_key(self, entry: DownloadEntry) -> str | None:
        """Address of a download's prepared image; None while it is not known what is downloaded."""
        digest = publisher.fetched(self.cache, entry)
        return None if digest is None else self._download_key(entry, digest)

    def _download_key(self, entry: DownloadEntry, digest: str) -> str:
        return _digest(["download", entry.name, digest, self._seed(built=False)])

    def rootfs_key(self, entry: BuildEntry) -> str:
        """Address of the entry's root filesystem: packages, suites, and the recipe."""
        suites = sorted({source.suite for source in sources.for_entry(entry)})
        parts = [entry.distribution, entry.suite, entry.architecture, entry.components, suites]
        return _digest([*parts, sorted(entry.all_packages), *_texts("base.sh", "rootfs.sh")])

    def _build(self, entry: BuildEntry, key: str) -> Item:
        need("qemu-system-x86_64", "qemu-img")
        self.cache.check_space(f"building {entry.name}", entry.space_mib)
        maker = Maker(self.cache, self.accel, self._public_key(), self.gate)
        rootfs, kernel = self._rootfs(entry, maker), self._packages(entry, entry.kernel)
        return self.cache.make(
            "prepared", key, lambda scratch: maker.of_entry(entry, rootfs, kernel, scratch)
        )

    def _rootfs(self, entry: BuildEntry, maker: Maker) -> Item:
        """The packed root filesystem; its lock is held no longer than it is made."""
        archives, key = sources.for_entry(entry), self.rootfs_key(entry)
        with self.cache.locked(f"rootfs-{key}", f"{entry.name}: root filesystem"):
            return self.cache.get("rootfs", key) or self.cache.make(
                "rootfs", key, lambda scratch: maker.rootfs(entry, archives, scratch)
            )

    def _packages(self, entry: BuildEntry, package: str) -> Item:
        """The packages of the kernel that ``package`` stands for."""
        archives = sources.for_kernel(entry)
        suites = sorted({source.suite for source in archives})
        key = _digest([entry.distribution, suites, entry.architecture, package])
        with self.cache.locked(f"packages-{key}", f"{entry.name}: {package}"):
            if (item := self.cache.get("packages", key)) is not None:
                return item
            self.progress(f"{entry.name}: downloading {package}")
            return self.cache.make(
                "packages", key, lambda scratch: debs.download(entry, package, archives, scratch)
            )

    def _of_download(self, entry: DownloadEntry) -> PreparedImage:
        """Prepared as a file is. What is prepared is used though the publisher be out of reach."""
        key = self.download_key(entry)
        ready = None if key is None else self.cache.get("prepared", key)
        if ready is not None:
            if past := publisher.support_ended(entry):
                self.progress(past)
            return self._image(entry.name, ready, "unknown")
        item = self.publisher.item(entry)
        (name,) = item.digests
        key = self._download_key(entry, item.digests[name])
        return self._of_file(item.path / name, entry.name, key)

    def _of_file(self, path: Path, name: str, key: str) -> PreparedImage:
        checked = foreign.check(path)
        with self.cache.locked(f"prepared-{key}", name):
            item = self.cache.get("prepared", key)
            if item is None:
                need("qemu-system-x86_64", "qemu-img")
                space_mib = (checked.actual_bytes >> 20) * 2 + FIRST_BOOT_SPACE_MIB
                self.cache.check_space(f"preparing {name}", space_mib)
                maker = Maker(self.cache, self.accel, self._public_key(), self.gate)
                item = self.cache.make(
                    "prepared", key, lambda scratch: maker.of_file(path, name, checked, scratch)
                )
        return self._image(name, item, "unknown")

    def _content(self, path: Path) -> str:
        """The file's SHA-256, read once as long as the file is the same."""
        status = path.stat()
        seen = (path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)
        if seen not in self._digests:
            self.progress(f"{path.name}: reading")
            self._digests[seen] = sha256(path)
        return self._digests[seen]

    def _image(self, name: str, item: Item, installed_on: str) -> PreparedImage:
        tool = str(item.facts.get("initramfs"))
        return PreparedImage(
            name=name,
            path=item.path / DISK,
            format="qcow2",
            key=key_pair(self.cache)[0],
            digest=item.digests[DISK],
            initramfs=tool if tool in TOOLS else "unknown",
            installed_on=installed_on,
            agent=item.facts.get("agent") == "yes",
            size_bytes=(item.path / DISK).stat().st_size,
            firmware=Firmware.UEFI if item.facts.get("firmware") == "uefi" else Firmware.BIOS,
        )

    def _public_key(self) -> str:
        return key_pair(self.cache)[1]

    def _seed(self, *, built: bool) -> dict[str, str]:
        """All that the first boot is told: an image knows the key, and what the script did."""
        return seed.files(_texts(FIRST_BOOT)[0], self._public_key(), built=built)


def _digest(parts: list[Any]) -> str:
    """Content address of a recipe: 32 hex digits of the SHA-256 of its parts as JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _texts(*names: str) -> list[str]:
    return [(base.recipes() / name).read_text(encoding="utf-8") for name in names]

"""The volumes of a disk, and the one that Windows is on: partition tables and NTFS by The Sleuth Kit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytsk3

from virtproof.errors import ImageError

SECTOR = 512
SYSTEM_HIVE = "/Windows/System32/config/SYSTEM"
HIBERNATION = "/hiberfil.sys"
LARGEST_FILE = 512 << 20
VOLUME_FILE, VOLUME_INFORMATION, DIRTY = 3, 0x70, 1  # inode of $Volume, its attribute, the flag
# First bytes of a hibernation file that holds a sleeping system; another file was used up, or is a stub.
SLEEPING = (b"HIBR", b"hibr", b"RSTR", b"rstr")


class Disk(Protocol):
    """Bytes that can be read at any place."""

    size: int

    def read(self, offset: int, size: int, /) -> bytes: ...


class _Image(pytsk3.Img_Info):  # type: ignore[misc]  # pytsk3 has no types
    """What The Sleuth Kit reads from: the disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(url="")

    def close(self) -> None:
        """The disk is closed by who opened it."""

    def read(self, offset: int, size: int) -> bytes:
        return self._disk.read(offset, size)

    def get_size(self) -> int:
        return self._disk.size


@dataclass(frozen=True, slots=True)
class Volume:
    """A part of the disk: ``kind`` is ``ntfs``, ``bitlocker`` or ``other``; offsets in bytes."""

    number: int
    offset: int
    kind: str


class Windows:
    """The NTFS volume with a SYSTEM hive on it."""

    def __init__(self, system: Any, volume: Volume) -> None:
        self._system = system
        self.volume = volume

    def file(self, path: str) -> bytes | None:
        """Content of a file (``/Windows/...``, case does not matter); None where there is none.

        ImageError for one that is larger than 512 MiB or cannot be read whole.
        """
        found = _open(self._system, path)
        if found is None:
            return None
        size = int(found.info.meta.size)
        if size > LARGEST_FILE:
            raise ImageError(f"{path} has {size} bytes, at most {LARGEST_FILE} are read")
        try:
            data = found.read_random(0, size) if size else b""
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error}") from None
        if len(data) != size:
            raise ImageError(f"{path} cannot be read: {len(data)} of {size} bytes")
        return bytes(data)

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return _open(self._system, path) is not None

    @property
    def dirty(self) -> bool:
        """Whether NTFS was not closed when it was last used (the flag of ``$Volume``)."""
        meta = self._system.open_meta(VOLUME_FILE)
        for attribute in meta:
            if int(attribute.info.type) == VOLUME_INFORMATION:
                data = meta.read_random(0, 12, attribute.info.type, attribute.info.id)
                return len(data) >= 12 and bool(data[10] & DIRTY)
        return False

    @property
    def hibernated(self) -> bool:
        """Whether a system sleeps on it, by hibernation or fast start-up."""
        found = _open(self._system, HIBERNATION)
        if found is None or found.info.meta.size < 4:
            return False
        return bytes(found.read_random(0, 4)) in SLEEPING


def _open(system: Any, path: str) -> Any:
    try:
        found = system.open(path)
    except OSError:
        return None
    return found if found.info.meta is not None else None


def volumes(disk: Disk) -> list[Volume]:
    """Every partition of a disk (MBR or GPT), or the disk itself where it has no table."""
    try:
        table = pytsk3.Volume_Info(_Image(disk))
    except OSError:
        return [Volume(0, 0, _kind(disk, 0))]
    parts = [part for part in table if part.flags == pytsk3.TSK_VS_PART_FLAG_ALLOC]
    return [
        Volume(number, int(part.start) * SECTOR, _kind(disk, int(part.start) * SECTOR))
        for number, part in enumerate(parts, start=1)
    ]


def _kind(disk: Disk, offset: int) -> str:
    """By the name in the boot sector, as Windows does."""
    names = {b"NTFS    ": "ntfs", b"-FVE-FS-": "bitlocker"}
    return names.get(disk.read(offset, 16)[3:11], "other")


def windows_on(disk: Disk) -> Windows:
    """The Windows of a disk; ImageError that says what the disk has instead."""
    found = volumes(disk)
    for system, volume in _systems(disk, found):
        if _open(system, SYSTEM_HIVE) is not None:
            return Windows(system, volume)
    if locked := [str(volume.number) for volume in found if volume.kind == "bitlocker"]:
        raise ImageError(
            f"volume {' and '.join(locked)} is locked by BitLocker",
            hint="decrypt it in Windows: manage-bde -off C:",
        )
    kinds = ", ".join(volume.kind for volume in found) or "none"
    raise ImageError(
        f"no Windows is on it: no volume has {SYSTEM_HIVE}; its volumes are: {kinds}",
        hint="give the disk that Windows was installed on",
    )


def _systems(disk: Disk, found: list[Volume]) -> Iterator[tuple[Any, Volume]]:
    image = _Image(disk)
    for volume in found:
        if volume.kind == "ntfs":
            try:
                yield pytsk3.FS_Info(image, offset=volume.offset), volume
            except OSError as error:
                raise ImageError(
                    f"volume {volume.number}: its NTFS cannot be read: {error}",
                    hint="let Windows mend it: chkdsk /f",
                ) from None

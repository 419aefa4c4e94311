"""Executables (.sys, .exe, .dll): architecture, version, and the digest that Authenticode signs."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import pefile

from virtproof.errors import PackageError
from virtproof.windows.platform import Arch

LIMIT_BYTES = 256 << 20
_MACHINES = {0x014C: Arch.X86, 0x8664: Arch.AMD64, 0xAA64: Arch.ARM64}
_CHECKSUM = 64  # of the optional header
_SECURITY = 4  # the data directory of the embedded signature
# What pefile raises on files that were made to confuse it, beside its own.
_CONFUSED = (
    pefile.PEFormatError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


class PeError(PackageError):
    """The bytes are no executable of Windows."""


@dataclass(frozen=True, slots=True)
class Pe:
    """``arch`` is None, and ``machine`` still says which, for one that no virtio driver is built for."""

    machine: int
    version: tuple[int, int, int, int] | None  # FileVersion; None where there is no VERSIONINFO
    size: int

    @property
    def arch(self) -> Arch | None:
        return _MACHINES.get(self.machine)


def is_pe(data: bytes) -> bool:
    """Whether the bytes claim to be an executable; a catalog then holds Authenticode's digest of them."""
    return data[:2] == b"MZ"


def read(data: bytes) -> Pe:
    """The executable's facts. PeError, and nothing else, where there are none."""
    if len(data) > LIMIT_BYTES:
        raise PeError(f"{len(data)} bytes are more than is read of an executable")
    try:
        # Not closed: no file is behind it, and closing collects the whole process's garbage.
        file = pefile.PE(data=data, fast_load=True)
        resources = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_RESOURCE"]
        file.parse_data_directories(directories=[resources])
        return Pe(file.FILE_HEADER.Machine, _version(file), len(data))
    except _CONFUSED as error:
        raise PeError(f"is no executable of Windows: {str(error).splitlines()[0][:120]}") from None


def _version(file: pefile.PE) -> tuple[int, int, int, int] | None:
    for info in getattr(file, "VS_FIXEDFILEINFO", []):
        high, low = int(info.FileVersionMS), int(info.FileVersionLS)
        return high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF
    return None


def authenticode(data: bytes, algorithm: str) -> bytes:
    """The digest that is signed: without checksum, the signature, and where that is said to lie."""
    try:
        header = struct.unpack_from("<I", data, 0x3C)[0]
        optional = header + 24
        magic = struct.unpack_from("<H", data, optional)[0]
        directories = optional + {0x10B: 96, 0x20B: 112}[magic]
        count = struct.unpack_from("<I", data, directories - 4)[0]
        digest = hashlib.new(algorithm)
        checksum = optional + _CHECKSUM
        digest.update(data[:checksum])
        if count <= _SECURITY:
            digest.update(data[checksum + 4 :])
            return digest.digest()
        entry = directories + 8 * _SECURITY
        start, size = struct.unpack_from("<II", data, entry)
    except (KeyError, struct.error):
        raise PeError("is no executable of Windows: its headers are damaged") from None
    end = start if start and size else len(data)
    digest.update(data[checksum + 4 : entry])
    digest.update(data[entry + 8 : end])
    if end == len(data):
        digest.update(b"\0" * (-len(data) % 8))  # as a signer would have filled it up
    return digest.digest()

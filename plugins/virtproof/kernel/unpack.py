"""A compressed kernel module, unpacked in memory, never to more than a bound."""

from __future__ import annotations

import lzma
import zlib

import zstandard

from virtproof.errors import VirtproofError

LARGEST = 64 << 20  # bytes; the largest module of a distribution has some 20 MiB with its symbols
_ZSTD, _XZ, _GZIP = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"\x1f\x8b"


class KernelFileError(VirtproofError):
    """A file of a kernel is not what its name says."""


def unpacked(data: bytes, name: str, most: int = LARGEST) -> bytes:
    """The file's content: of .ko.xz, .ko.zst and .ko.gz what was packed, of others the file itself.

    Told by its first bytes, not by its name. KernelFileError where it is damaged, or holds more than
    ``most`` bytes.
    """
    try:
        if data.startswith(_ZSTD):
            found = zstandard.ZstdDecompressor().stream_reader(data).read(most + 1)
        elif data.startswith(_XZ):
            found = _all(lzma.LZMADecompressor(memlimit=1 << 28), data, most)
        elif data.startswith(_GZIP):
            found = _all(zlib.decompressobj(wbits=31), data, most)
        else:
            return data
    except (zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise KernelFileError(f"{name} is damaged: {error}") from None
    if len(found) > most:
        raise KernelFileError(f"{name} unpacks to more than {most >> 20} MiB")
    return found


def _all(machine: object, data: bytes, most: int) -> bytes:
    """All of a stream, or ``most`` bytes and one of it; EOFError where its end is missing."""
    found: bytes = machine.decompress(data, most + 1)  # type: ignore[attr-defined]  # two libraries, one method
    if len(found) <= most and not machine.eof:  # type: ignore[attr-defined]
        raise EOFError("it ends early")
    return found

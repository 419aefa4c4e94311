"""xz, bounded: neither memory, nor bytes written, nor the disk's size grow beyond what is allowed."""

from __future__ import annotations

import lzma
from pathlib import Path

from virtproof.errors import ImageError

CHUNK = 1 << 20
HOLE = bytes(CHUNK)
MEMORY_BYTES = 256 << 20  # xz -9 takes 65 MiB to unpack
DISK_BYTES = 128 << 30


def unxz(source: Path, target: Path, what: str, most_bytes: int) -> None:
    """Write what ``source`` holds to ``target``, zeros as holes. ImageError.

    ``most_bytes``: of what is not zero.
    """
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY_BYTES)
    written = size = 0
    with source.open("rb") as packed, target.open("wb") as disk:
        try:
            while not decompressor.eof:
                fresh = packed.read(CHUNK) if decompressor.needs_input else b""
                if not fresh and decompressor.needs_input:
                    raise ImageError(f"{what}: its xz data end too early")
                part = decompressor.decompress(fresh, CHUNK)
                size += len(part)
                if part == HOLE[: len(part)]:
                    disk.seek(len(part), 1)
                else:
                    written += disk.write(part)
                if written > most_bytes or size > DISK_BYTES:
                    raise ImageError(
                        f"{what}: unpacked it takes more than {most_bytes >> 20} MiB",
                        hint="needs.space_mib of its catalog entry",
                    )
        except lzma.LZMAError as error:
            raise ImageError(f"{what}: its xz data are damaged: {error}") from None
        except OSError as error:
            raise ImageError(f"{what}: cannot be unpacked: {error.strerror}") from None
        disk.truncate(size)

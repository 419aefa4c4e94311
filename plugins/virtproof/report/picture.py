"""Screenshots for the report: PNG as it is, PPM (libvirt's, of older QEMU) made into PNG. Pure."""

from __future__ import annotations

import re
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(rb"P6\s+(?:#[^\n]*\s+)*(\d{1,5})\s+(\d{1,5})\s+255\s")
_LARGEST_SIDE = 8192  # pixels; more is no guest's display


def as_png(data: bytes) -> bytes | None:
    """The picture as PNG; None if it is neither PNG nor a whole PPM of 8 bits a colour."""
    if data.startswith(_PNG):
        return data
    head = _PPM.match(data)
    if not head:
        return None
    width, height = int(head[1]), int(head[2])
    pixels = data[head.end() :]
    sides_fit = 0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE
    if not sides_fit or len(pixels) < width * height * 3:
        return None
    rows = (pixels[row * width * 3 : (row + 1) * width * 3] for row in range(height))
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 9)  # filter 0: none
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", size) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

"""Reading a disk image as bytes, whatever its format: a client of qemu-nbd, which is on every host of ours.

The protocol is NBD's "fixed newstyle" with simple replies (its doc/proto.md). libnbd's own bindings would
serve, but come with the distribution's Python alone.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from pathlib import Path

from virtproof.errors import ImageError

HELLO = b"NBDMAGICIHAVEOPT"
OPTION = b"IHAVEOPT"
FIXED, NO_ZEROES = 1, 2
GO, READ, DISCONNECT = 7, 0, 2
INFO, ACKNOWLEDGED = 3, 1
OPTION_REPLY, REQUEST, REPLY = 0x3E889045565A9, 0x25609513, 0x67446698
TIMEOUT_S = 60.0
BLOCK = 1 << 16
KEPT_BLOCKS = 1024  # 64 MiB: a file system's own tables are read again and again
LARGEST_REPLY = 1 << 16  # of the handshake; qemu-nbd's have some 20 bytes


class NbdDisk:
    """The bytes of an exported disk: ``size``, and ``read(offset, size)``. ImageError where it fails."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_S)
        self._block = lru_cache(KEPT_BLOCKS)(self._read_block)
        try:
            self._socket.connect(str(path))
            self.size = self._shake_hands()
        except (OSError, struct.error) as error:
            self._socket.close()
            raise ImageError(f"NBD at {path}: {error}") from None

    def close(self) -> None:
        """Say goodbye; whoever is gone already is not missed."""
        try:
            self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        finally:
            self._socket.close()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from ``offset``; fewer where the disk ends."""
        end = min(offset + size, self.size)
        parts = []
        while offset < end:
            start = offset - offset % BLOCK
            piece = self._block(start)[offset - start : end - start]
            parts.append(piece)
            offset += len(piece)
        return b"".join(parts)

    def _read_block(self, start: int) -> bytes:
        size = min(BLOCK, self.size - start)
        try:
            self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, READ, start, start, size))
            magic, fault, cookie = struct.unpack(">IIQ", self._exactly(16))
            if magic != REPLY or cookie != start:
                raise ImageError(f"NBD: an answer that is none: {magic:#x}")
            if fault:
                raise ImageError(f"the disk cannot be read at byte {start}: error {fault}")
            return self._exactly(size)
        except OSError as error:
            raise ImageError(f"the disk cannot be read at byte {start}: {error}") from None

    def _shake_hands(self) -> int:
        """Take the default export; its size in bytes."""
        if self._exactly(16) != HELLO:
            raise ImageError("what answers is no NBD server")
        (flags,) = struct.unpack(">H", self._exactly(2))
        self._socket.sendall(struct.pack(">I", flags & (FIXED | NO_ZEROES)))
        asked = struct.pack(">IH", 0, 0)  # an empty name, no further information
        self._socket.sendall(OPTION + struct.pack(">II", GO, len(asked)) + asked)
        size = None
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._exactly(20))
            if magic != OPTION_REPLY or length > LARGEST_REPLY:
                raise ImageError("NBD: an answer that is none in the handshake")
            body = self._exactly(length)
            if kind == INFO and body[:2] == b"\0\0":
                (size,) = struct.unpack(">Q", body[2:10])
            elif kind == ACKNOWLEDGED and size is not None:
                return int(size)
            elif kind != INFO:
                raise ImageError(f"NBD: the export is refused ({kind:#x})")

    def _exactly(self, size: int) -> bytes:
        parts, wanted = [], size
        while wanted:
            part = self._socket.recv(wanted)
            if not part:
                raise ImageError("NBD: the server has gone")
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

"""libvirt's file of a saved domain: read, and handed to libvirt again as another domain's.

libvirt restores a domain under its old name only. Its file is a header, the domain's XML, a cookie and
QEMU's migration stream; what libvirt is given here is a pipe with another header and XML before the
very same stream, which is copied nowhere.

Layout (libvirt's qemu driver): 16 bytes of magic; little-endian 32-bit words: version (2), length of
the data, whether it ran, compression, offset of the cookie, 14 unused; the data: XML, NUL, cookie, NUL,
padding; the stream.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from virtproof.errors import GuestError

MAGIC = b"LibvirtQemudSave"
VERSION = 2
HEADER = struct.Struct("<16s5I56x")
RAW = 0
CHUNK = 1 << 20
OPEN_POLL_S = 0.005
END_S = 10.0


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved domain. ``stream_at`` is where QEMU's migration stream begins, in bytes."""

    path: Path
    xml: str
    cookie: bytes
    ran: int
    stream_at: int


def read(path: Path) -> Saved:
    """What a file of libvirt's holds. GuestError where it is none, or one that is not understood."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            raise GuestError(f"{path} is no saved domain: it is too short")
        magic, version, length, ran, compression, cookie_at = HEADER.unpack(head)
        if (magic, version, compression) != (MAGIC, VERSION, RAW):
            raise GuestError(
                f"{path} is no saved domain that is understood: {magic!r}, version {version}, "
                f"compression {compression}"
            )
        data = file.read(length)
    if len(data) < length or cookie_at > length:
        raise GuestError(f"{path} is cut off")
    xml, cookie = (data[:cookie_at], data[cookie_at:]) if cookie_at else (data, b"")
    text = xml.partition(b"\0")[0].decode()
    return Saved(path, text, cookie.partition(b"\0")[0], ran, HEADER.size + length)


def head(saved: Saved, xml: str) -> bytes:
    """All that stands before the stream, with ``xml`` in the place of the saved domain's own."""
    text = xml.encode() + b"\0"
    cookie = saved.cookie + b"\0" if saved.cookie else b""
    cookie_at = len(text) if cookie else 0
    length = len(text) + len(cookie)
    return HEADER.pack(MAGIC, VERSION, length, saved.ran, RAW, cookie_at) + text + cookie


@contextlib.contextmanager
def as_pipe(saved: Saved, xml: str, place: Path) -> Iterator[Path]:
    """A named pipe at ``place`` that gives the saved domain with another XML, once, to one reader."""
    os.mkfifo(place, 0o600)
    over = threading.Event()
    arguments = (saved, head(saved, xml), place, over)
    feeder = threading.Thread(target=_feed, args=arguments, daemon=True)
    feeder.start()
    try:
        yield place
    finally:
        over.set()
        feeder.join(END_S)
        place.unlink()


def _feed(saved: Saved, before: bytes, place: Path, over: threading.Event) -> None:
    """Write the pipe; give up when the reader has gone, or never came before ``over``."""
    pipe = _opened(place, over)
    if pipe is None:
        return
    with os.fdopen(pipe, "wb", buffering=0) as out, saved.path.open("rb") as file:
        try:
            out.write(before)
            at, size = saved.stream_at, saved.path.stat().st_size
            while at < size:
                at += os.sendfile(pipe, file.fileno(), at, CHUNK)
        except OSError:
            return  # the reader has gone, or gets a cut stream: libvirt says why


def _opened(place: Path, over: threading.Event) -> int | None:
    """The pipe's writing end, once somebody reads it."""
    while not over.is_set():
        with contextlib.suppress(OSError):  # ENXIO: nobody reads yet
            pipe = os.open(place, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(pipe, True)
            with contextlib.suppress(OSError):  # more than an ordinary user may have
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
            return pipe
        time.sleep(OPEN_POLL_S)
    return None

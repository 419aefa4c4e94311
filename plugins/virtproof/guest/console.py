"""A serial port of a running guest: everything that came out of it, and a way in."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Protocol

from virtproof.errors import GuestError

SEND_S = 1.0  # that a guest has to make room in a port that is full
HEAD, TAIL = 1 << 20, 4 << 20  # bytes


class Port(Protocol):
    """Where bytes come from and go to."""

    def receive(self) -> bytes:
        """The next bytes; empty at the end."""
        ...

    def send(self, data: bytes) -> int:
        """Send some; how many, 0 where there is no room. GuestError where the port has closed."""
        ...


class SocketPort:
    """A serial port that is a UNIX socket of QEMU's. GuestError where nobody listens there."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise GuestError(f"no serial port at {path}: {error}") from error

    def receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except OSError:
            return b""

    def send(self, data: bytes) -> int:
        try:
            select.select([], [self._socket], [], SEND_S)
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise GuestError(f"the guest's serial port is closed: {error}") from error

    def close(self) -> None:
        """End it from this side; a reader sees the end too."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Console:
    """Reads in a thread of its own, from the guest's first instruction until the port closes.

    Of a guest that talks without end, the first ``HEAD`` bytes are kept and the last ``TAIL`` or more;
    positions count all of them.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0  # bytes between the two
        self._changed = threading.Condition()
        self.closed = False
        self._thread = threading.Thread(target=self._read, daemon=True, name="console")
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._port.receive():
            with self._changed:
                self._keep(chunk)
                self._changed.notify_all()
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _keep(self, chunk: bytes) -> None:
        room = HEAD - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * TAIL:  # seldom, as it moves what is kept
            surplus = len(self._tail) - TAIL
            del self._tail[:surplus]
            self._dropped += surplus

    def since(self, position: int) -> bytes:
        """Bytes from ``position`` on; what is no longer kept is told of by a line in its place."""
        with self._changed:
            begin = len(self._head) + self._dropped  # of the tail
            if position >= begin:
                return bytes(self._tail[position - begin :])
            gap = b"\n[%d bytes are not kept]\n" % self._dropped if self._dropped else b""
            return bytes(self._head[position:]) + gap + bytes(self._tail)

    @property
    def size(self) -> int:
        """Bytes that came so far."""
        return len(self._head) + self._dropped + len(self._tail)

    def wait_beyond(self, position: int, timeout_s: float) -> bool:
        """Wait until there are bytes beyond ``position`` or the port closed; whether there are."""
        with self._changed:
            self._changed.wait_for(lambda: self.size > position or self.closed, timeout_s)
            return self.size > position

    def send(self, data: bytes) -> None:
        """Type into the port. GuestError where it has closed, or nobody reads what was sent before."""
        view = memoryview(data)
        while view:
            sent = self._port.send(bytes(view))
            if not sent:
                raise GuestError("the guest does not read its serial port")
            view = view[sent:]

    def join(self, timeout_s: float) -> None:
        """Wait for the last bytes of a port whose domain has ended."""
        self._thread.join(timeout_s)

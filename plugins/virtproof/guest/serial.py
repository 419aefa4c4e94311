"""A serial port of a running domain, over libvirt's own stream.

Read by libvirt's event loop and written by one thread: with libvirt 9.0, a thread that waits in
``virStreamRecv`` while another sends was seen to miss an answer for ever, and every call on its connection
to miss its reply. So the port has a connection of its own too.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import libvirt

from virtproof.errors import GuestError
from virtproof.guest import daemon
from virtproof.guest.console import SEND_S

CHUNK = 65536
UNSENT = 8  # pieces that wait for a guest to read those before them
ALIVE_S = 2.0  # between two looks whether the connection is still there
ENDS = libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR
EMPTY = -2  # what a stream says where it would have to wait
FULL_S = 0.1  # before what it did not take is sent anew


class StreamPort:
    """A serial port of a running domain as a Port: its end and its faults look alike."""

    def __init__(self, uri: str, domain: str, alias: str) -> None:
        self._connection = daemon.opened(uri)
        self._heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._unsent: queue.Queue[bytes] = queue.Queue(UNSENT)
        self._fault = ""
        handle = self._connection.lookupByName(domain)
        self._stream: Any = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        handle.openConsole(alias, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        self._stream.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE | ENDS, self._event, None)
        threading.Thread(target=self._write, daemon=True, name=f"write {alias}").start()

    def _event(self, _stream: object, events: int, _opaque: object) -> None:
        """In the event loop's thread: take what there is, and the end."""
        try:
            while isinstance(chunk := self._stream.recv(CHUNK), bytes) and chunk:
                self._heard.put(chunk)
            ended = chunk != EMPTY or bool(events & ENDS)
        except libvirt.libvirtError as error:
            self._fault, ended = daemon.first_line(error), True
        if ended:
            self._stream.eventRemoveCallback()
            self._fault = self._fault or "it has ended"
            self._heard.put(b"")

    def receive(self) -> bytes:
        while not self._fault or not self._heard.empty():
            try:
                return self._heard.get(timeout=ALIVE_S)
            except queue.Empty:
                if not self._connection.isAlive():
                    self._fault = "libvirtd has gone"
        return b""

    def _write(self) -> None:
        """In a thread of its own: a stream's send waits for ever where nobody reads."""
        while not self._fault:
            try:
                piece = self._unsent.get(timeout=ALIVE_S)
            except queue.Empty:
                continue
            try:
                while piece and not self._fault:
                    sent = self._stream.send(piece)
                    if sent == EMPTY:
                        time.sleep(FULL_S)
                    else:
                        piece = piece[sent:]
            except libvirt.libvirtError as error:
                self._fault = daemon.first_line(error)

    def send(self, data: bytes) -> int:
        if not self._fault:
            try:
                self._unsent.put(data, timeout=SEND_S)
            except queue.Full:
                return 0
            return len(data)
        raise GuestError(f"the guest's serial port is closed: {self._fault}")

"""The console: every byte is kept, waits end with the first of bytes, end and deadline."""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from virtproof.deadline import Deadline
from virtproof.errors import GuestError
from virtproof.guest.agent import Agent
from virtproof.guest.console import HEAD, TAIL, Console, SocketPort

SOON_S = 10.0  # more than anything here takes; a wait that needs it has failed


class Port:
    """A port that says what it is given, takes at most ``takes`` bytes at once, and can close."""

    def __init__(self, takes: int = 1 << 20) -> None:
        self.says: queue.Queue[bytes] = queue.Queue()
        self.heard = b""
        self.sends = 0
        self._takes = takes
        self._closed = False

    def receive(self) -> bytes:
        return self.says.get()

    def send(self, data: bytes) -> int:
        if self._closed:
            raise GuestError("the guest's serial port is closed: end of file")
        self.sends += 1
        self.heard += data[: self._takes]
        return min(len(data), self._takes)

    def close(self) -> None:
        self._closed = True
        self.says.put(b"")


def test_every_byte_is_kept_whatever_it_is() -> None:
    port = Port()
    console = Console(port)
    said = bytes(range(256)) * 300
    for start in range(0, len(said), 7000):
        port.says.put(said[start : start + 7000])
    port.close()
    console.join(SOON_S)
    assert console.since(0) == said
    assert console.size == len(said)
    assert console.since(len(said) - 3) == said[-3:]
    assert console.since(len(said) + 5) == b""
    assert console.closed


class Flood:
    """A port out of which comes a GiB."""

    def __init__(self) -> None:
        self._chunk = b"0123456789abcdef" * 4096
        self.left = (1 << 30) // len(self._chunk)

    def receive(self) -> bytes:
        self.left -= 1
        return self._chunk if self.left >= 0 else b"the end"[: 7 * (self.left == -1)]

    def send(self, data: bytes) -> int:
        return len(data)


def test_of_a_gigabyte_the_beginning_and_the_end_are_kept() -> None:
    console = Console(Flood())
    console.join(60)
    assert console.size == (1 << 30) + 7
    kept = console.since(0)
    assert TAIL < len(kept) < HEAD + 2 * TAIL + 100
    assert kept.startswith(b"0123456789abcdef")
    assert kept.endswith(b"the end")
    assert re.search(rb"\n\[\d+ bytes are not kept\]\n", kept)
    assert console.since(console.size - 3) == b"end"
    assert console.since(1 << 29) == kept[HEAD:]  # from within what is gone: all that is left


def test_what_came_before_anybody_looked_is_there() -> None:
    port = Port()
    port.says.put(b"SeaBIOS")
    console = Console(port)
    assert console.wait_beyond(0, SOON_S)
    assert console.since(0) == b"SeaBIOS"


def test_a_wait_ends_with_the_first_byte_beyond() -> None:
    port = Port()
    console = Console(port)
    port.says.put(b"one")
    assert console.wait_beyond(2, SOON_S)
    timer = threading.Timer(0.05, port.says.put, [b"two"])
    timer.start()
    begin = time.monotonic()
    assert console.wait_beyond(3, SOON_S)
    assert time.monotonic() - begin < SOON_S / 2
    assert console.since(3) == b"two"
    timer.join()
    port.close()


def test_a_wait_ends_at_its_deadline() -> None:
    port = Port()
    console = Console(port)
    begin = time.monotonic()
    assert not console.wait_beyond(0, 0.05)
    assert 0.04 < time.monotonic() - begin < SOON_S / 2
    assert not console.closed
    port.close()


def test_a_wait_ends_when_the_port_closes() -> None:
    port = Port()
    console = Console(port)
    timer = threading.Timer(0.05, port.close)
    timer.start()
    begin = time.monotonic()
    assert not console.wait_beyond(0, SOON_S)
    assert time.monotonic() - begin < SOON_S / 2
    assert console.closed
    timer.join()


def test_a_closed_port_still_gives_what_it_had_said() -> None:
    port = Port()
    console = Console(port)
    port.says.put(b"last words")
    port.close()
    console.join(SOON_S)
    assert console.wait_beyond(0, 0.0)
    assert console.since(5) == b"words"


def test_what_is_typed_arrives_whole_through_a_port_that_takes_a_little() -> None:
    port = Port(takes=3)
    Console(port).send(b"cat /proc/cmdline\n")
    assert port.heard == b"cat /proc/cmdline\n"
    assert port.sends == 6
    port.close()


def test_typing_into_a_closed_port_is_an_error_that_names_it() -> None:
    port = Port()
    console = Console(port)
    port.close()
    with pytest.raises(GuestError, match="serial port is closed"):
        console.send(b"x")


def test_joining_a_port_that_stays_open_ends_in_time() -> None:
    port = Port()
    begin = time.monotonic()
    Console(port).join(0.05)
    assert time.monotonic() - begin < SOON_S / 2
    port.close()


def test_a_guest_that_reads_nothing_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """A port fills up under a guest that hangs; control: what is read makes room again."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "port"))
        server.listen(1)
        port = SocketPort(str(tmp_path / "port"))
        guest, _ = server.accept()
        console = Console(port)
        with guest:
            with pytest.raises(GuestError, match="does not read"):
                console.send(bytes(1 << 22))
            agent = Agent(console, 1.0)
            assert not agent.sync(Deadline.after(0.3))
            while len(guest.recv(1 << 20)) == 1 << 20:
                pass
            console.send(b"there is room")
        port.close()
        console.join(SOON_S)

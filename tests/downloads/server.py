"""An HTTP server on loopback whose files break off, lie, drip and lead astray as they are told to."""

from __future__ import annotations

import contextlib
import mmap
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATED = "Sun, 01 Nov 2026 12:00:00 GMT"


@dataclass
class File:
    """A file that is served. What is in ``cuts``, ``statuses`` and ``flips`` holds for a request each.

    ``cuts``: bytes of the answer's body until it breaks off. ``flips``: places of bytes that change on
    their way. ``length``: the Content-Length that is claimed. ``ranges``: "yes"; "no" for a server that
    has none; "blind" for one that does not look at If-Range. ``then``: called after each answer.
    """

    data: bytes | mmap.mmap
    etag: str = '"1"'
    dated: str = DATED
    ranges: str = "yes"
    location: str = ""
    length: int | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    flips: list[int] = field(default_factory=list)
    drip_s: float = 0.0
    silent: bool = False
    chunked: bool = False
    coding: str = ""
    then: Callable[[], None] | None = None


class Server(ThreadingHTTPServer):
    """``files`` by path; ``asked``: path and Range of each request."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = tls
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.files: dict[str, File] = {}
        self.asked: list[tuple[str, str]] = []
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Whoever does not like our certificate hangs up; that is his right."""


class Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        # A proxy is asked for whole addresses.
        path = "/" + self.path.split("/", 3)[3] if "://" in self.path else self.path
        self.server.asked.append((path, self.headers.get("Range", "")))
        self.close_connection = True
        file = self.server.files.get(path)
        with contextlib.suppress(OSError):  # who has seen enough goes
            if file is None:
                self.send_error(404)
            elif file.silent:
                self.server.ending.wait(60)
            else:
                self._answer(file)
        if file is not None and file.then is not None:
            file.then()

    def _answer(self, file: File) -> None:
        status = file.statuses.pop(0) if file.statuses else 200
        if file.location:
            status = 302
        elif status != 200:
            self.send_error(status)
            return
        begin, end = self._range(file), len(file.data)
        if begin >= end > 0 and begin:
            self.send_error(416)
            return
        self.send_response(206 if begin else status)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{end}")
        if file.location:
            self.send_header("Location", file.location)
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(file.length or end - begin))
        for name, value in (
            ("ETag", file.etag),
            ("Last-Modified", file.dated),
            ("Content-Encoding", file.coding),
        ):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self._body(file, begin)

    def _range(self, file: File) -> int:
        """Where the answer begins: 0 for the whole."""
        asked = self.headers.get("Range", "")
        if not asked or file.ranges == "no":
            return 0
        told = self.headers.get("If-Range")
        if file.ranges == "yes" and told not in (None, file.etag, file.dated):
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def _body(self, file: File, begin: int) -> None:
        data = memoryview(file.data)
        if file.flips:
            changed = bytearray(data)
            changed[file.flips.pop(0)] ^= 0xFF
            data = memoryview(changed)
        body = data[begin:]
        if file.cuts:
            body = body[: file.cuts.pop(0)]
        if file.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), bytes(body)))
        elif file.drip_s:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(file.drip_s)
        else:
            self.wfile.write(body)


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that runs as long as the block; over TLS where a context is given."""
    with Server(tls) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()

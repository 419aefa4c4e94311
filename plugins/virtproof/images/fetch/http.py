"""One HTTP request at a time, of which every end is known: answered, refused, or given up in time."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from virtproof.errors import ImageError

AGENT = "virtproof"
REDIRECTS = (301, 302, 303, 307, 308)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
OFFLINE = "is this machine online? HTTPS_PROXY names a proxy, --mirror FROM=TO another server"


class BrokenOffError(ImageError):
    """The transfer ended early, or the server is busy: worth another attempt, with what is there."""


class UnreachableError(ImageError):
    """Nobody answers there."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    ``silence_s``: without an answer or a byte, seconds. Fewer than ``slow_bytes`` in ``slow_s`` are too
    slow. ``attempts``: as often in a row may a transfer break off without a new byte, with pauses of
    ``pause_s`` times the attempt. ``redirects``: as many are followed.
    """

    silence_s: float = 15.0
    slow_s: float = 60.0
    slow_bytes: int = 64 << 10
    attempts: int = 4
    pause_s: float = 1.0
    redirects: int = 5


class Reply:
    """An answer whose body is still to be read; ``url`` is where the redirects led to."""

    def __init__(self, url: str, response: Any) -> None:
        self.url = url
        self.status: int = response.status
        self.headers: http.client.HTTPMessage = response.headers
        self._response = response

    def read(self, most: int) -> bytes:
        """What has come in by now, at most ``most`` bytes; none at the end. BrokenOffError."""
        try:
            # read1 takes one packet's worth, so that a server that drips is seen to.
            return bytes(self._response.read1(most))
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOffError(f"{self.url}: {_words(self.url, error)}") from None

    def close(self) -> None:
        self._response.close()

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib's own handler reads a redirect's whole body, however long that is."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def request(
    url: str, headers: dict[str, str], patience: Patience, *, proven: bool = False
) -> Reply:
    """Ask for ``url``, through the proxies of the environment. ImageError, BrokenOffError.

    Answers of 200, 206 and 416 are returned, redirects followed; from https to http only where what
    comes is ``proven`` by a digest that came otherwise: publishers' redirectors do that.
    """
    opener = urllib.request.build_opener(_NoRedirects())
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
    seen = [url]
    while True:
        asked = urllib.request.Request(seen[-1], headers=headers)
        try:
            return _plain(Reply(seen[-1], opener.open(asked, timeout=patience.silence_s)))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:
                    return Reply(seen[-1], error)
                if error.code not in REDIRECTS:
                    raise _refused(seen[-1], error.code, error.reason) from None
                location = error.headers.get("Location")
                seen.append(_target(seen, location, patience, proven=proven))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(seen[-1], error) from None


def fetch_small(url: str, patience: Patience, limit: int) -> tuple[bytes, str]:
    """A small file whole, and its Last-Modified; ImageError where it is larger than ``limit`` bytes."""
    for attempt in range(1, patience.attempts + 1):
        try:
            with request(url, {}, patience) as reply:
                until = time.monotonic() + patience.slow_s
                return _whole(reply, limit, until), reply.headers.get("Last-Modified", "")
        except BrokenOffError:
            if attempt == patience.attempts:
                raise
            time.sleep(patience.pause_s * attempt)
    raise AssertionError("unreachable: attempts are at least one")


def _whole(reply: Reply, limit: int, until: float) -> bytes:
    parts, size = [], 0
    while part := reply.read(limit + 1 - size):
        parts.append(part)
        size += len(part)
        if time.monotonic() > until:
            raise ImageError(f"{reply.url} is too slow: {size} bytes so far")
        if size > limit:
            raise ImageError(
                f"{reply.url} has more than {limit >> 10} KiB: it is not what it should be"
            )
    length = reply.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > size:
        raise BrokenOffError(f"{reply.url}: broke off after {size} of {length} bytes")
    return b"".join(parts)


def _plain(reply: Reply) -> Reply:
    coding = reply.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        reply.close()
        raise ImageError(f"{reply.url} comes encoded as {coding[:20]!r}, which was not asked for")
    return reply


def _target(seen: list[str], location: str | None, patience: Patience, *, proven: bool) -> str:
    """Where a redirect leads; ImageError where that is nowhere, a loop, too far, or not safe."""
    if not location:
        raise ImageError(f"{seen[-1]} redirects to nowhere")
    new = urljoin(seen[-1], location)
    if new in seen:
        raise ImageError(f"{seen[0]} redirects in a loop", hint="a mirror: --mirror FROM=TO")
    if len(seen) > patience.redirects:
        raise ImageError(f"{seen[0]} redirects more than {patience.redirects} times")
    old_scheme, scheme = urlsplit(seen[-1]).scheme, urlsplit(new).scheme
    less = (old_scheme, scheme) == ("https", "http") and not proven
    if scheme not in ("http", "https") or less:
        raise ImageError(f"{seen[-1]} redirects from {old_scheme} to {scheme}: not followed")
    return new


def _refused(url: str, status: int, reason: str) -> ImageError:
    kind = BrokenOffError if status in TRANSIENT else ImageError
    hint = "is the catalog's address out of date?" if status in (404, 410) else ""
    return kind(f"{url}: HTTP {status} {reason[:60]}".rstrip(), hint=hint)


def _unreachable(url: str, error: Exception) -> ImageError:
    """Nobody there, at the first attempt: said at once."""
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return BrokenOffError(f"{url}: {_words(url, error)}")
    return UnreachableError(f"{url}: {_words(url, error)}", hint=OFFLINE)


def _words(url: str, error: Exception) -> str:
    """The fault in words, and the proxy that it may be the fault of."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(url).hostname or ""
    proxy = urllib.request.getproxies().get(urlsplit(url).scheme, "")
    through = ""
    if proxy and not urllib.request.proxy_bypass(host):
        # Without user and password, which a proxy's address may hold.
        through = f" (through the proxy {urlsplit(proxy).hostname or 'of the environment'})"
    if isinstance(reason, socket.gaierror):
        said = "its name cannot be resolved"
    elif isinstance(reason, ssl.SSLCertVerificationError):
        said = f"its certificate is not good: {reason.verify_message}"
    elif isinstance(reason, TimeoutError):
        said = "no answer in time"
    elif isinstance(reason, ConnectionRefusedError):
        said = "refuses the connection"
    elif isinstance(reason, ConnectionResetError | http.client.IncompleteRead):
        said = "broke off"
    else:
        said = " ".join(str(reason).split())[:120] or type(reason).__name__
    return said + through

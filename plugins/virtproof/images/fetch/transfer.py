"""A large body into a file: resumed where it broke off, never longer than allowed, never endless."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.images.fetch.http import (
    BrokenOffError,
    Patience,
    Reply,
    UnreachableError,
    request,
)

CHUNK = 1 << 18
TELL_S = 5.0
BODY, STATE = "body", "state.json"
RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is whole, as far as its server says. ``resumed``: it was put together of parts."""

    path: Path
    size: int
    resumed: bool
    last_modified: str


@dataclass
class Transfer:
    """One file on its way to ``folder``, which is kept where it breaks off: the next run goes on.

    ``size``: bytes that the file must have, where that is known. ``limit``: bytes that it may have.
    ``room``: called with the bytes that are to come, before they do.
    """

    name: str
    url: str
    folder: Path
    size: int | None
    limit: int
    patience: Patience
    say: Callable[[str], None]
    room: Callable[[int], None]
    _pieced: bool = field(default=False, init=False)
    _answered: bool = field(default=False, init=False)

    def run(self) -> Body:
        """The whole body. ImageError; BrokenOffError after as many attempts as patience has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            before = self._have()
            try:
                return self._attempt(before)
            except (BrokenOffError, UnreachableError) as error:
                if isinstance(error, UnreachableError) and not self._answered:
                    raise
                failures = 1 if self._have() > before else failures + 1
                if failures >= self.patience.attempts:
                    have = self._have()
                    kept = (
                        f"{_told(have)} are kept: the next run goes on from there" if have else ""
                    )
                    raise BrokenOffError(error.what, hint=kept) from None
                self.say(f"{self.name}: {error.what}; attempt {failures + 1} follows")
                time.sleep(self.patience.pause_s * failures)

    def discard(self) -> None:
        """Forget what has come in."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _attempt(self, have: int) -> Body:
        state = self._state()
        headers = {}
        if have:
            validator = state.get("etag") or state.get("last_modified")
            headers = {"Range": f"bytes={have}-", "If-Range": str(validator)}
        with request(self.url, headers, self.patience, proven=True) as reply:
            if reply.status == 416 or (reply.status == 206 and not self._fits(reply, have, state)):
                self.say(f"{self.name}: the server's file is another one now: from the start")
                self.discard()
                self.folder.mkdir(parents=True)
                raise BrokenOffError(f"{self.url}: does not go on where it broke off")
            total = self._total(reply)
            if reply.status == 200:
                if have:
                    self.say(
                        f"{self.name}: another file, or a server that does not resume: from the start"
                    )
                have = 0
            self._begin(reply, total, have)
            size = self._copy(reply, have, total)
            modified = reply.headers.get("Last-Modified", "")
        if total is not None and size < total:
            raise BrokenOffError(f"{self.url}: broke off after {size} of {total} bytes")
        return Body(self.folder / BODY, size, self._pieced, modified)

    def _fits(self, reply: Reply, have: int, state: dict[str, Any]) -> bool:
        """Whether a part begins where ours ends, and is of the same whole."""
        found = RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        return found is not None and (int(found[1]), int(found[3])) == (have, state.get("total"))

    def _total(self, reply: Reply) -> int | None:
        """Bytes of the whole body, held against what is known of it."""
        if reply.status == 206:
            found = RANGE.fullmatch(reply.headers.get("Content-Range", ""))
            total = int(found[3]) if found else None
        else:
            length = reply.headers.get("Content-Length", "")
            total = int(length) if re.fullmatch(r"\d{1,18}", length) else None
        if total is not None and self.size is not None and total != self.size:
            raise ImageError(
                f"{self.name}: {reply.url} serves {total} bytes, the checksum file says {self.size}",
                hint="a mirror that is behind? try later, or --mirror FROM=TO",
            )
        if total is not None and total > self.limit:
            raise ImageError(
                f"{self.name}: {reply.url} serves {total >> 20} MiB, the catalog allows "
                f"{self.limit >> 20}",
                hint="needs.space_mib of its entry",
            )
        return total

    def _begin(self, reply: Reply, total: int | None, have: int) -> None:
        self.room((total or 0) - have)
        self._pieced, self._answered = bool(have), True
        if have:
            self.say(f"{self.name}: going on after {_told(have)}")
            return
        # A weak ETag may not name bytes; without a validator nothing is resumed.
        etag = reply.headers.get("ETag", "")
        state = {
            "url": self.url,
            "etag": "" if etag.startswith("W/") else etag,
            "last_modified": reply.headers.get("Last-Modified", ""),
            "total": total,
        }
        # Never written over: an image in the cache may be another name of the same file.
        (self.folder / BODY).unlink(missing_ok=True)
        (self.folder / BODY).touch()
        (self.folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def _copy(self, reply: Reply, have: int, total: int | None) -> int:
        """Append the body; returns the file's size. What is written counts, however it ends."""
        told = window = time.monotonic()
        first, in_window = have, 0
        with (self.folder / BODY).open("ab") as file:
            while part := reply.read(CHUNK):
                have += len(part)
                in_window += len(part)
                if have > (self.limit if total is None else total):
                    raise ImageError(f"{self.name}: {reply.url} serves more than it may")
                self._write(file.fileno(), part)
                now = time.monotonic()
                if now - window >= self.patience.slow_s:
                    if in_window < self.patience.slow_bytes:
                        raise self._slow()
                    window, in_window = now, 0
                if now - told >= TELL_S:
                    rate = (have - first) / (now - told) / (1 << 20)
                    told, first = now, have
                    of = f" of {total >> 20}" if total else ""
                    self.say(f"{self.name}: {have >> 20}{of} MiB, {rate:.1f} MiB/s")
        return have

    def _slow(self) -> ImageError:
        least = f"not even {_told(self.patience.slow_bytes)} in {self.patience.slow_s:g} s"
        return ImageError(
            f"{self.name}: {self.url} is too slow: {least}",
            hint="what came is kept; try later, or --mirror FROM=TO",
        )

    def _write(self, descriptor: int, part: bytes) -> None:
        view = memoryview(part)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise ImageError(
                f"{self.name}: {self.folder} cannot be written: {error.strerror}",
                hint="make room, or set VIRTPROOF_CACHE to a directory elsewhere",
            ) from None

    def _have(self) -> int:
        """Bytes that can be gone on from: of this address, with something to tell the file by."""
        state = self._state()
        if state.get("url") != self.url or not (state.get("etag") or state.get("last_modified")):
            return 0
        try:
            size = (self.folder / BODY).stat().st_size
        except OSError:
            return 0
        total = state.get("total")
        return size if isinstance(total, int) and size < total else 0

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


def _told(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 10 << 20 else f"{size >> 10} KiB"

"""From a catalog entry to its image in the cache: what it must be, then the bytes, then the proof."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.images import catalog, foreign
from virtproof.images.cache import CHUNK, Cache, Item, read_manifest
from virtproof.images.child import need
from virtproof.images.entry import CLEAR_SIGNED, DownloadEntry
from virtproof.images.fetch import checksums, signature
from virtproof.images.fetch.checksums import LENGTHS, Listed
from virtproof.images.fetch.http import fetch_small
from virtproof.images.fetch.transfer import Body, Transfer
from virtproof.images.fetch.unpack import unxz
from virtproof.images.fetch.wishes import Wishes

KIND = "fetched"
PARTIAL = "partial"
LIST_BYTES, SIGNATURE_BYTES = 1 << 20, 64 << 10
MARGIN_MIB = 64


@dataclass(frozen=True, slots=True)
class Promise:
    """What the image must be. ``where``: who says so; ``dated``: when that was written, or empty."""

    listed: Listed
    where: str
    dated: str
    signed_by: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """Fetches catalog entries into a cache."""

    cache: Cache
    wishes: Wishes

    def item(self, entry: DownloadEntry, *, refresh: bool = False) -> Item:
        """The image in the cache, fetched where it is missing; with ``refresh``, where there is a newer."""
        if past := support_ended(entry):
            self.cache.progress(past)
        key = address(entry)
        with self.cache.locked(f"{KIND}-{key}", entry.name):
            item = self.cache.get(KIND, key)
            if item is not None and not refresh:
                return item
            return self._fetch(entry, key, item)

    def _fetch(self, entry: DownloadEntry, key: str, old: Item | None) -> Item:
        say = self.cache.progress
        folder = self.cache.root / PARTIAL / key
        with self.cache.scratch() as scratch:
            if entry.signature and not self.wishes.unsigned:  # said before the hour of downloading
                need("gpgv")
                self._key(entry)
            promise = self._promise(entry, scratch)
            if old is not None and old.facts.get("digest") == promise.listed.digest:
                say(f"{entry.name}: up to date")
                return old
            body, promise = self._proven(entry, promise, folder, scratch)
            if entry.signs_image:
                promise = self._signed_image(entry, promise, body.path, scratch)
            disk = self._disk(entry, body, scratch)
            if old is not None:
                self.cache.remove(old.path)
            item = self.cache.make(KIND, key, lambda new: _kept(entry, promise, disk, new))
        (folder / "state.json").unlink(missing_ok=True)
        body.path.unlink(missing_ok=True)
        folder.rmdir()
        by = f"signed by {promise.signed_by}" if promise.signed_by else f"as {promise.where} says"
        say(f"{entry.name}: {promise.listed.algorithm} is right, {by}")
        return item

    def _promise(self, entry: DownloadEntry, scratch: Path) -> Promise:
        """The digest that the image must have, from the catalog or the publisher's file."""
        name = entry.url.rpartition("/")[2]
        if entry.pinned:
            listed = Listed(name, LENGTHS[len(entry.pinned)], entry.pinned, None)
            return Promise(listed, "the catalog", "", "")
        url = self.wishes.address(entry.checksums)
        text, dated = fetch_small(url, self.wishes.patience, LIST_BYTES)
        signed_by = ""
        if entry.signature and not entry.signs_image:
            text, signed_by = self._signed_text(entry, text, scratch)
        elif url.startswith("http:"):
            self.cache.progress(f"{entry.name}: {url} is neither signed nor comes by https")
        where = entry.checksums.rpartition("/")[2]
        listed = checksums.find(text.decode("utf-8", "replace"), name, f"{entry.name}: {where}")
        return Promise(listed, where, dated, signed_by)

    def _signed_text(self, entry: DownloadEntry, text: bytes, scratch: Path) -> tuple[bytes, str]:
        """The signed part of a file of checksums, and the fingerprint of who signed it."""
        if self._unsigned(entry):
            return text, ""
        what = f"{entry.name}: {entry.checksums.rpartition('/')[2]}"
        key = self._key(entry)
        signed = scratch / "signed"
        signed.write_bytes(text)
        if entry.signature == CLEAR_SIGNED:
            text = signature.verify(what, signed, None, key, entry.key, scratch)
        else:
            detached = self._detached(entry, scratch)
            signature.verify(what, signed, detached, key, entry.key, scratch)
        return text, entry.key

    def _signed_image(
        self, entry: DownloadEntry, promise: Promise, path: Path, scratch: Path
    ) -> Promise:
        if self._unsigned(entry):
            return promise
        detached = self._detached(entry, scratch)
        signature.verify(entry.name, path, detached, self._key(entry), entry.key, scratch)
        return Promise(promise.listed, promise.where, promise.dated, entry.key)

    def _unsigned(self, entry: DownloadEntry) -> bool:
        if self.wishes.unsigned:
            self.cache.progress(f"{entry.name}: the signature is not looked at (--unsigned)")
        return self.wishes.unsigned

    def _key(self, entry: DownloadEntry) -> bytes:
        return signature.find_key(entry.key, catalog.catalog_dir(), self.wishes.keys, entry.name)

    def _detached(self, entry: DownloadEntry, scratch: Path) -> Path:
        url = self.wishes.address(entry.signature)
        path = scratch / "detached"
        path.write_bytes(fetch_small(url, self.wishes.patience, SIGNATURE_BYTES)[0])
        return path

    def _proven(
        self, entry: DownloadEntry, promise: Promise, folder: Path, scratch: Path
    ) -> tuple[Body, Promise]:
        """The body whose digest is the one promised. What is not is thrown away, and said.

        The publisher may put a new image there between our two requests: then its list is new as well.
        A body of parts may be of two images that claim to be one: then it is fetched whole.
        """
        transfer = self._transfer(entry, promise, folder)
        body = transfer.run()
        digest = _digest(body.path, promise.listed.algorithm)
        if digest != promise.listed.digest and not entry.pinned:
            promise = self._promise(entry, scratch)
            digest = _digest(body.path, promise.listed.algorithm)
        if digest != promise.listed.digest and body.resumed:
            self.cache.progress(f"{entry.name}: its parts do not fit together; once more, whole")
            transfer.discard()
            body = transfer.run()
            digest = _digest(body.path, promise.listed.algorithm)
        if digest != promise.listed.digest:
            transfer.discard()
            raise _mismatch(entry, promise, body, digest)
        return body, promise

    def _transfer(self, entry: DownloadEntry, promise: Promise, folder: Path) -> Transfer:
        url = entry.url.rpartition("/")[0] + "/" + promise.listed.name
        say = self.cache.progress
        say(f"{entry.name}: downloading {promise.listed.name}")
        return Transfer(
            entry.name,
            self.wishes.address(url),
            folder,
            promise.listed.size,
            entry.space_mib << 20,
            self.wishes.patience,
            say,
            self._room(entry),
        )

    def _room(self, entry: DownloadEntry) -> Callable[[int], None]:
        def room(size: int) -> None:
            self.cache.check_space(f"downloading {entry.name}", (size >> 20) + MARGIN_MIB)

        return room

    def _disk(self, entry: DownloadEntry, body: Body, scratch: Path) -> Path:
        """The disk in the body, unpacked, and what its entry says that it is."""
        form = entry.format.removesuffix(".xz")
        disk = scratch / f"disk.{form}"
        if entry.format == form:
            os.link(body.path, disk)
        else:
            self.cache.progress(f"{entry.name}: unpacking")
            self.cache.check_space(f"unpacking {entry.name}", entry.space_mib)
            unxz(body.path, disk, entry.name, entry.space_mib << 20)
        try:
            foreign.check(disk)
        except ImageError as error:
            raise ImageError(
                f"{entry.name}: {error.what.replace(str(disk), 'the image')}", hint=error.hint
            ) from None
        return disk


def address(entry: DownloadEntry) -> str:
    """Of the entry's image in the cache: 32 hex digits of all that says where and what it is."""
    parts = [entry.url, entry.format, entry.pinned, entry.checksums, entry.signature, entry.key]
    return hashlib.sha256(json.dumps([*parts, entry.signs_image]).encode()).hexdigest()[:32]


def fetched(cache: Cache, entry: DownloadEntry) -> str | None:
    """SHA-256 of the entry's disk as it was sealed in the cache; None where it is not there."""
    try:
        files = read_manifest(cache.root / KIND / address(entry))["files"]
        return "".join(str(told["sha256"]) for told in files.values())
    except ImageError:
        return None


def support_ended(entry: DownloadEntry, today: datetime.date | None = None) -> str:
    """A line where the system is past its end of life; else nothing."""
    day = today or datetime.datetime.now(datetime.UTC).date()
    if entry.end_of_life is None or day <= entry.end_of_life:
        return ""
    doubt = " (unverified)" if "end_of_life" in entry.unverified else ""
    return f"{entry.name}: past its end of life, which was {entry.end_of_life}{doubt}"


def _kept(entry: DownloadEntry, promise: Promise, disk: Path, scratch: Path) -> dict[str, Any]:
    os.link(disk, scratch / disk.name)
    return {
        "name": entry.name,
        "url": entry.url.rpartition("/")[0] + "/" + promise.listed.name,
        "algorithm": promise.listed.algorithm,
        "digest": promise.listed.digest,
        "said_by": promise.where,
        "signed_by": promise.signed_by,
    }


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _mismatch(entry: DownloadEntry, promise: Promise, body: Body, digest: str) -> ImageError:
    """Two digests that are not one: whose fault, as far as can be told from here."""
    listed = promise.listed
    said = f"{entry.name}: {listed.name} has {listed.algorithm} {digest[:16]}..., "
    said += f"{promise.where} says {listed.digest[:16]}..."
    if entry.pinned:
        return ImageError(
            said, hint="damaged on its way, or the publisher has put another one there"
        )
    if _later(body.last_modified, promise.dated):
        return ImageError(
            f"{said}; the list is stale: of {promise.dated}, the image of {body.last_modified}",
            hint="try later, or another server: --mirror FROM=TO",
        )
    return ImageError(
        said, hint="damaged on its way: try again, or another server: --mirror FROM=TO"
    )


def _later(one: str, other: str) -> bool:
    """Whether an HTTP date is after another; not where one of them is none."""
    try:
        return parsedate_to_datetime(one) > parsedate_to_datetime(other)
    except (ValueError, TypeError):
        return False

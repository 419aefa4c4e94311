"""What a user wants of downloads: other servers, own keys, no signatures; from options and environment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from virtproof.errors import UsageError
from virtproof.images.fetch import signature
from virtproof.images.fetch.http import Patience

MIRROR = "VIRTPROOF_MIRROR"
PATIENCE = Patience()
HTTP = re.compile(r"https?://[^\s@=/]+(?:/[^\s=]*)?")


@dataclass(frozen=True, slots=True)
class Wishes:
    """``mirrors``: (beginning of an address, what stands there instead). ``keys``: a file or directory
    with publishers' keys, "" for those that are found. ``unsigned``: signatures are not looked at.
    """

    mirrors: tuple[tuple[str, str], ...] = ()
    keys: str = ""
    unsigned: bool = False
    patience: Patience = PATIENCE

    def address(self, url: str) -> str:
        """Where a publisher's address is to be fetched from: by the longest beginning that fits."""
        fitting = [pair for pair in self.mirrors if url.startswith(pair[0])]
        if not fitting:
            return url
        start, instead = max(fitting, key=lambda pair: len(pair[0]))
        return instead + url[len(start) :]


def wishes(mirrors: Sequence[str] = (), keys: str = "", *, unsigned: bool = False) -> Wishes:
    """From what was given, and for what was not from the environment. UsageError."""
    given = list(mirrors) or os.environ.get(MIRROR, "").split()
    known = keys or os.environ.get(signature.ENVIRONMENT, "")
    return Wishes(tuple(map(_pair, given)), known, unsigned, PATIENCE)


def _pair(text: str) -> tuple[str, str]:
    start, equals, instead = text.partition("=")
    if not equals or not HTTP.fullmatch(start) or not HTTP.fullmatch(instead):
        raise UsageError(
            f"mirror {text!r} is not FROM=TO",
            hint="two beginnings of addresses: https://publisher/images/=http://mirror/images/",
        )
    if start.endswith("/") != instead.endswith("/"):
        raise UsageError(f"mirror {text!r}: both with a / at the end, or both without")
    return start, instead

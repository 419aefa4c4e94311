"""Publishers' files of checksums, in each of the forms that they write: pure functions of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from virtproof.errors import ImageError

LENGTHS = {64: "sha256", 128: "sha512"}
GNU = re.compile(r"\\?([0-9A-Fa-f]{32,128})(?:\s+\*?(\S+))?\s*")
BSD = re.compile(r"([A-Z0-9-]+)\s*\(([^()]+)\)\s*=\s*([0-9A-Fa-f]{32,128})\s*")
SIZE = re.compile(r"#\s*(\S+):\s*(\d{1,18}) bytes\s*")
PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,200}")


@dataclass(frozen=True, slots=True)
class Listed:
    """What a file of checksums says of one image: ``digest`` in lower-case hex, ``size`` in bytes."""

    name: str
    algorithm: str
    digest: str
    size: int | None


def find(text: str, name: str, where: str) -> Listed:
    """The line of the file called ``name``, which may hold a ``*``; ``where`` is said in the ImageError.

    Of several digests of a file the longest counts. SHA-256 and SHA-512 only.
    """
    digests, sizes = _parsed(text, name)
    matching = sorted(found for found in digests if fnmatchcase(found, name))
    if not matching:
        some = ", ".join(sorted(digests)[:3])
        raise ImageError(
            f"{where} lists no {name}", hint=f"but {some} ..." if some else "nor any other file"
        )
    if len(matching) > 1:
        raise ImageError(f"{where} lists {len(matching)} files {name}: {', '.join(matching[:3])}")
    (found,) = matching
    longest = max(len(digest) for digest in digests[found])
    values = {digest for digest in digests[found] if len(digest) == longest}
    if longest not in LENGTHS:
        raise ImageError(f"{where} has neither SHA-256 nor SHA-512 of {found}")
    if len(values) > 1:
        raise ImageError(f"{where} lists {found} twice, with different digests")
    return Listed(found, LENGTHS[longest], values.pop(), sizes.get(found))


def _parsed(text: str, wanted: str) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Digests and sizes by file name; a digest that stands alone is that of the wanted file."""
    digests: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        if match := BSD.fullmatch(line):
            name, digest = match[2], match[3]
        elif match := GNU.fullmatch(line):
            name, digest = match[2] or ("" if "*" in wanted else wanted), match[1]
        else:
            if match := SIZE.fullmatch(line):
                sizes[match[1].rpartition("/")[2]] = int(match[2])
            continue
        name = name.rpartition("/")[2]
        if PLAIN.fullmatch(name):  # it becomes a part of an address
            digests.setdefault(name, set()).add(digest.lower())
    return digests, sizes

"""The editions of an install.wim or install.esd: its header and its XML, which is never compressed.

The format is Microsoft's "Windows Imaging File Format"; nothing of the images themselves is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from lxml import etree

from virtproof.errors import ImageError
from virtproof.windows.looking import printable
from virtproof.windows.platform import WINDOWS, Arch, Windows

HEADER = struct.Struct("<8sIIII16sHHI24s24s24sI24s60x")
TAG = b"MSWIM\0\0\0"
LIMIT_XML = 16 << 20  # a medium of a dozen editions has some 50 KiB
LIMIT_EDITIONS = 256
COMPRESSED = 0x04
ARCHES = {"0": Arch.X86, "9": Arch.AMD64, "12": Arch.ARM64}
LANGUAGE_LIMIT = 20


class Readable(Protocol):
    """A file that is read at places."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Edition:
    """An image of the file. ``index``: by which Setup takes it; ``edition``: Windows' own word for it.

    ``language``: the one that it comes up in, as ``en-US``.
    """

    index: int
    name: str
    edition: str
    arch: Arch
    version: tuple[int, int, int]  # major, minor, build
    server: bool
    language: str
    size: int  # bytes, unpacked

    @property
    def windows(self) -> Windows | None:
        """The Windows whose drivers it takes; None for one before 10.0."""
        if self.version[0] < 10:
            return None
        kinds = [one for one in WINDOWS if one.major == 10 and one.server is self.server]
        if not self.server:
            newest = self.version[2] >= FIRST_11
            return next(one for one in kinds if one.name == ("w11" if newest else "w10"))
        fitting = [one for one in kinds if one.build <= self.version[2]]
        return max(fitting, key=lambda one: one.build, default=kinds[0])


FIRST_11 = 22000


def editions(file: Readable, size: int) -> list[Edition]:
    """All editions, by index. ImageError, in words that follow "the file", where it is no whole WIM."""
    offset, length = _place_of_xml(file, size)
    file.seek(offset)
    raw = file.read(length)
    if len(raw) != length:
        raise ImageError("is cut off: its list of editions is not there")
    try:
        # lxml takes UTF-16 by its byte order mark. No entities, nothing fetched, no huge trees.
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        said = printable(str(error).splitlines()[0])[:120] if str(error) else "no text"
        raise ImageError(f"has a list of editions that is no XML: {said}") from None
    images = root.findall("IMAGE")
    if len(images) > LIMIT_EDITIONS:
        raise ImageError(f"claims {len(images)} editions")
    found = [one for image in images if (one := _edition(image)) is not None]
    if not found:
        raise ImageError("has no edition of Windows in its list")
    return sorted(found, key=lambda one: one.index)


def _place_of_xml(file: Readable, size: int) -> tuple[int, int]:
    file.seek(0)
    raw = file.read(HEADER.size)
    if len(raw) < HEADER.size or raw[:8] != TAG:
        raise ImageError("is no WIM: it does not begin as one")
    fields = HEADER.unpack(raw)
    part, parts, resource = fields[6], fields[7], fields[10]
    if parts != 1 or part != 1:
        raise ImageError(f"is part {part} of {parts}: split media are not supported")
    stored = int.from_bytes(resource[:7], "little")
    offset, original = struct.unpack_from("<QQ", resource, 8)
    if resource[7] & COMPRESSED or stored != original:
        raise ImageError("has a compressed list of editions, which no WIM has")
    if not HEADER.size <= offset <= size or offset + stored > size:
        raise ImageError("is cut off: its list of editions lies beyond its end")
    if not 0 < stored <= LIMIT_XML:
        raise ImageError(f"has a list of editions of {stored} bytes")
    return offset, stored


def _edition(image: etree._Element) -> Edition | None:
    """What the list says of an image; None for one that is no Windows, as Setup's own in boot.wim."""
    index, windows = image.get("INDEX", ""), image.find("WINDOWS")
    if windows is None or not (index.isascii() and index.isdigit()):
        return None
    arch = ARCHES.get(_text(windows, "ARCH"))
    numbers = [_text(windows, f"VERSION/{name}") for name in ("MAJOR", "MINOR", "BUILD")]
    if arch is None or not all(one.isascii() and one.isdigit() for one in numbers):
        return None
    major, minor, build = (int(one[:9]) for one in numbers)
    total = _text(image, "TOTALBYTES")
    word = _text(windows, "EDITIONID")
    return Edition(
        index=int(index[:9]),
        name=_text(image, "DISPLAYNAME") or _text(image, "NAME") or word or f"image {index[:9]}",
        edition=word,
        arch=arch,
        version=(major, minor, build),
        server=_text(windows, "INSTALLATIONTYPE").startswith("Server"),
        language=_language(windows),
        size=int(total[:15]) if total.isascii() and total.isdigit() else 0,
    )


def _language(windows: etree._Element) -> str:
    said = _text(windows, "LANGUAGES/DEFAULT") or _text(windows, "LANGUAGES/LANGUAGE")
    plain = said.isascii() and said.replace("-", "").isalnum() and len(said) <= LANGUAGE_LIMIT
    return said if plain else "en-US"


def _text(element: etree._Element, path: str) -> str:
    return printable((element.findtext(path) or "").strip())[:200]

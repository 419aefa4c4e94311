"""Public keys in files: which keys a file holds, armoured or not. Signatures are gpgv's business."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)
PUBLIC_KEY = 6
MAX_BYTES = 4 << 20


def binary(data: bytes) -> bytes:
    """The file's packets: armoured blocks decoded and joined, or the file as it is."""
    blocks = ARMOUR.findall(data)
    if not blocks:
        return data
    decoded = []
    for block in blocks:
        # Headers end with an empty line; the last line is a checksum that begins with "=".
        lines = block.replace(b"\r", b"").partition(b"\n\n")[2] or block
        body = b"".join(
            line for line in lines.split(b"\n") if b":" not in line and line[:1] != b"="
        )
        try:
            decoded.append(base64.b64decode(body, validate=True))
        except binascii.Error:
            continue
    return b"".join(decoded)


def fingerprints(packets: bytes) -> set[str]:
    """Fingerprints of the primary keys (version 4), in upper-case hex."""
    found = set()
    for tag, body in _packets(packets):
        if tag == PUBLIC_KEY and body[:1] == b"\x04" and len(body) < 1 << 16:
            hashed = b"\x99" + len(body).to_bytes(2, "big") + body
            found.add(hashlib.sha1(hashed, usedforsecurity=False).hexdigest().upper())
    return found


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet, up to the first that is none; RFC 9580, section 4.2."""
    at = 0
    while at < len(data) and data[at] & 0x80:
        head, at = data[at], at + 1
        if head & 0x40:
            tag, octets = head & 0x3F, data[at : at + 1]
            first = octets[0] if octets else 255
            width = 1 if first < 192 else 2 if first < 224 else 5
            field = data[at : at + width]
            if len(field) < width or 224 <= first < 255:
                return
            length = first
            if width == 2:
                length = ((first - 192) << 8) + field[1] + 192
            elif width == 5:
                length = int.from_bytes(field[1:], "big")
        else:
            tag, width = (head >> 2) & 0xF, (1, 2, 4, 0)[head & 3]
            if not width:
                return
            length = int.from_bytes(data[at : at + width], "big")
        at += width
        yield tag, data[at : at + length]
        at += length

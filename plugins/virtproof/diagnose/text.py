"""Untrusted text made readable: bounded, without escape sequences, with its line numbers kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Of a text only this many characters at its end are read, of a line this many at its start.
TEXT_LIMIT: Final = 4 * 1024 * 1024
LINE_LIMIT: Final = 2000
QUOTE_LIMIT: Final = 300
#: A prompt stands if it is among this many last lines that the kernel did not print.
STANDING_LINES: Final = 12

_KERNEL_LINE = re.compile(r"\[ *\d+\.\d+\]")

# ECMA-48: CSI and OSC sequences, then the two- and three-character ones. Repetitions are bounded,
# so that a guest cannot make the search slow. Cursor movements end a line: firmware paints by them.
# A CSI may lack its end: systemd shortens lines in the middle of one.
_MOVE = re.compile(r"\x1b\[[0-9;]{0,16}[Hf]|\x1b\[[0-3]?J|\x1bc")
_ESCAPE = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,512}(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]{0,4}[0-~]?"
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Cleaned lines of a text, and for each its number (from 1) in the file it came from.

    A line of the file that was overwritten by carriage returns or cursor movements gives several.
    """

    texts: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def joined(self) -> str:
        return "\n".join(self.texts)

    def since(self, index: int, until: int | None = None) -> Lines:
        return Lines(self.texts[index:until], self.numbers[index:until])

    def last(self, count: int) -> Lines:
        """The last ``count`` lines that are not blank."""
        kept = [i for i, text in enumerate(self.texts) if text.strip()][-count:]
        return Lines(tuple(self.texts[i] for i in kept), tuple(self.numbers[i] for i in kept))


def lines(text: str, limit: int = TEXT_LIMIT) -> Lines:
    """The cleaned lines of the last ``limit`` characters of ``text``.

    Where the text was cut, the first line is a piece of one and is left out if another follows it:
    what begins in its middle must not look like the beginning of a line.
    """
    start = max(0, len(text) - limit)
    tail = text[start:]
    number = 1 + text.count("\n", 0, start)
    if start and "\n" in tail:
        tail, number = tail.split("\n", 1)[1], number + 1
    texts: list[str] = []
    numbers: list[int] = []
    for offset, raw in enumerate(tail.split("\n")):
        for piece in _MOVE.sub("\r", raw).split("\r") if "\r" in raw or "\x1b" in raw else (raw,):
            if clean := plain(piece[: 2 * LINE_LIMIT])[:LINE_LIMIT]:
                texts.append(clean)
                numbers.append(number + offset)
    return Lines(tuple(texts), tuple(numbers))


def standing(found: Lines) -> tuple[str, ...]:
    """The last lines without blank ones and without the kernel's, which come at any time."""
    said = [text for text in found.texts if text.strip() and not _KERNEL_LINE.match(text)]
    return tuple(said[-STANDING_LINES:])


def plain(text: str) -> str:
    """``text`` without escape sequences and what does not print; tabs are spaces."""
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\t\n" else "" for c in text)


def quoted(text: str, limit: int = QUOTE_LIMIT) -> str:
    """``text`` on one line of at most ``limit`` characters; what is too long loses its middle.

    The beginning says who speaks, the end (of QEMU's and libvirt's errors above all) says why.
    """
    text = " ".join(plain(text[: 64 * 1024]).split())
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"

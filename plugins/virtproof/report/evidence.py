"""Reads the evidence of a test for the report: never outside ``out``, never more than it shows.

The files hold what guests said, and their names may too; nothing here trusts either.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from virtproof.errors import VirtproofError
from virtproof.measure.store import clean_text
from virtproof.report.picture import as_png

KNOWN = (
    "verdict.json",
    "console.log",
    "domain-before.xml",
    "domain-after.xml",
    "domain.diff",
    "domain.xml",
    "shell-answers.txt",
    "qemu.log",
    "host-oom.txt",
    "dmesg.txt",
    "journal.txt",
    "screenshot.png",
    "screenshot.ppm",
    "leases.txt",
    "transcript.txt",
)
_LARGEST_PICTURE = 16 << 20
_CHUNK = 1 << 20
_LISTED = 40


@dataclass(frozen=True, slots=True)
class Excerpt:
    """First and last part of a text, cleaned; ``left_out`` says what lies between, or is empty."""

    head: str
    left_out: str
    tail: str


@dataclass(frozen=True, slots=True)
class Folder:
    """An evidence directory; ``path`` is real and below ``out``. Made by ``open_folder``."""

    out: Path
    path: Path

    def names(self) -> list[str]:
        """Names of its files, the known ones first; at most 40."""
        present = sorted(entry.name for entry in self.path.iterdir())
        known = [name for name in KNOWN if name in present]
        others = [name for name in present if name not in KNOWN]
        return [name for name in known + others if self.file(name)][:_LISTED]

    def children(self) -> list[Folder]:
        """Folders in it, as a second guest of a test has one; links are left out."""
        found = sorted(entry for entry in self.path.iterdir() if not entry.is_symlink())
        return [Folder(self.out, entry) for entry in found if entry.is_dir()][:_LISTED]

    def file(self, name: str) -> Path | None:
        """The file of that name; None if it is absent, no regular file, or lies outside."""
        real = _inside(self.out, self.path / name)
        return real if real and real.is_file() else None

    def steps(self) -> tuple[str, ...]:
        """The way from ``out`` to the folder, for a link."""
        return self.path.relative_to(self.out).parts


def open_folder(out: Path, evidence: str) -> Folder:
    """The evidence directory; VirtproofError if it leads out of ``out`` or is not there."""
    real_out = out.resolve()
    path = _inside(real_out, real_out / evidence)
    if path is None or path == real_out:
        raise VirtproofError("evidence refused: its path leads out of the run's directory")
    if not path.is_dir():
        raise VirtproofError("evidence is missing: the directory is not there")
    return Folder(real_out, path)


def excerpt(path: Path, *, head: int = 4096, tail: int = 24576) -> Excerpt:
    """At most ``head`` bytes from a file's start and ``tail`` from its end, in whole lines."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size <= head + tail:
            return Excerpt(clean_text(file.read(head + tail).decode("utf-8", "replace")), "", "")
        first = file.read(head)
        first = first[: first.rfind(b"\n") + 1] or first
        file.seek(size - tail)
        last = file.read(tail)
        last = last[last.find(b"\n") + 1 :] or last
        lines = _count_lines(path, len(first), size - len(last))
    middle = size - len(first) - len(last)
    left_out = f"{_grouped(lines)} lines ({_grouped(-(-middle // 1024))} KiB) left out"
    head_text, tail_text = (clean_text(part.decode("utf-8", "replace")) for part in (first, last))
    return Excerpt(head_text, left_out, tail_text)


def domain_diff(folder: Folder) -> list[str]:
    """Lines of domain.diff; where it is absent, made from the XML before and after; else none."""
    if path := folder.file("domain.diff"):
        return _lines(path)
    before, after = folder.file("domain-before.xml"), folder.file("domain-after.xml")
    if not before or not after:
        return []
    names = ("domain-before.xml", "domain-after.xml")
    return list(difflib.unified_diff(_lines(before), _lines(after), *names, lineterm=""))


def switch_title(diff: list[str]) -> str:
    """What a domain's diffs switched, as in ``hda ide → vda virtio → hda ide``; empty if not plain."""
    starts = [number for number, line in enumerate(diff) if line.startswith("--- ")] or [0]
    parts: list[list[str]] = []
    for start, end in zip(starts, [*starts[1:], len(diff)], strict=True):
        for element, attributes in (("target", ("dev", "bus")), ("model", ("type",))):
            old, new = (_described(diff[start:end], sign, element, attributes) for sign in "-+")
            if not old or not new or old == new:
                continue
            if parts and parts[-1][-1] == old:
                parts[-1].append(new)
            else:
                parts.append([old, new])
    return ", ".join(" → ".join(part) for part in parts)


def picture(folder: Folder, most_bytes: int) -> bytes | None:
    """The screenshot as PNG, if there is one and it is not too large to carry along."""
    for name in ("screenshot.png", "screenshot.ppm"):
        path = folder.file(name)
        if path and path.stat().st_size <= _LARGEST_PICTURE:
            data = as_png(path.read_bytes())
            return data if data and len(data) <= most_bytes else None
    return None


def _described(diff: list[str], sign: str, element: str, attributes: tuple[str, ...]) -> str:
    for line in diff:
        if line.startswith(sign) and re.match(rf"\s*<{element}\s", line[1:]):
            found = [re.search(rf"\s{name}=['\"]([\w.-]+)['\"]", line) for name in attributes]
            return " ".join(match[1] for match in found if match)
    return ""


def _inside(out: Path, path: Path) -> Path | None:
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links; a name that cannot be
        return None
    return real if real.is_relative_to(out) else None


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        return clean_text(file.read(_CHUNK).decode("utf-8", "replace")).split("\n")


def _count_lines(path: Path, start: int, end: int) -> int:
    lines = 0
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK, end - start))):
            lines += chunk.count(b"\n")
            start += len(chunk)
    return lines


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")

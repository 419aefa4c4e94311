"""A file that the user gives as image: what it must be, and what it may not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from virtproof.errors import ImageError, UsageError
from virtproof.images.child import output

ENDINGS = {".qcow2": "qcow2", ".raw": "raw", ".img": ""}
MIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Checked:
    """What qemu-img says of a file: its format, virtual size, and bytes on the disk."""

    format: str
    virtual_bytes: int
    actual_bytes: int


def is_file_name(name: str) -> bool:
    """Whether an image's name means a file: it has a ``/`` or ends as image files do."""
    return "/" in name or Path(name).suffix in ENDINGS


def check(path: Path) -> Checked:
    """What the file is; ImageError or UsageError where it cannot serve as an image."""
    if not path.exists():
        raise UsageError(f"{path}: no such image file")
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="an image is a qcow2 or raw disk in a file")
    info = json.loads(
        output(["qemu-img", "info", "--output=json", str(path.absolute())], f"{path}")
    )
    form = info.get("format")
    claimed = ENDINGS.get(path.suffix, "")
    if form not in ("qcow2", "raw"):
        raise ImageError(f"{path} is a {form} image", hint="convert it: qemu-img convert -O qcow2")
    if claimed and form != claimed:
        raise ImageError(
            f"{path} is called {path.suffix}, but its content is {form}",
            hint="it is damaged, or has the wrong name",
        )
    for key in ("backing-filename", "full-backing-filename"):
        if key in info:
            raise ImageError(
                f"{path} has a backing file", hint="flatten it: qemu-img convert -O qcow2"
            )
    if info.get("encrypted"):
        raise ImageError(f"{path} is encrypted", hint="decrypt it: qemu-img convert")
    if "data-file" in (info.get("format-specific", {}).get("data") or {}):
        raise ImageError(f"{path} keeps its data in another file", hint="qemu-img convert")
    if form == "raw" and not _bootable(path):
        raise ImageError(
            f"{path} is no disk image: neither qcow2 nor a disk with a partition table"
        )
    return Checked(form, int(info["virtual-size"]), int(info["actual-size"]))


def _bootable(path: Path) -> bool:
    """Anything is "raw" to qemu-img; a disk that a BIOS boots has 55 AA at its 510th byte."""
    with path.open("rb") as file:
        return path.stat().st_size >= MIN_BYTES and file.read(512)[510:] == b"\x55\xaa"

"""A Windows installation ISO, read by a process with bounds: it is anybody's file until it was read.

As a program it is given the ISO's path, and prints one JSON object: what is on it, or ``error`` and ``hint``.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError, UsageError, VirtproofError
from virtproof.windows.iso import Iso, MediumError
from virtproof.windows.looking import printable
from virtproof.windows.platform import Arch
from virtproof.windows.unattended import wim

IMAGES = ("sources/install.wim", "sources/install.esd")
SETUP = ("sources/boot.wim", "bootmgr", "sources/install.swm", "sources/setup.exe")
MEMORY_BYTES = 2 << 30
CPU_S = 60
DEADLINE_S = 120.0
LARGEST_ANSWER = 1 << 20
GIVE = "give an installation ISO of Windows 10, 11 or Server 2016 and later"


@dataclass(frozen=True, slots=True)
class SetupMedium:
    """An installation ISO. ``image``: the file with the editions; ``label``: the volume's name."""

    path: Path
    label: str
    image: str
    editions: tuple[wim.Edition, ...]


def read(path: Path) -> SetupMedium:
    """What the ISO has; UsageError in one line where it is no installation ISO of Windows.

    Takes a second or two, and at most two minutes and 2 GiB.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file", hint=GIVE)
    command = [sys.executable, "-m", __name__, str(path.absolute())]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{path}: reading it took over {DEADLINE_S:.0f} s", hint=GIVE) from None
    try:
        if done.returncode != 0 or len(done.stdout) > LARGEST_ANSWER:
            raise ValueError
        said = json.loads(done.stdout)
    except ValueError:
        raise UsageError(
            f"{path}: the process that read it died of it (status {done.returncode})",
            hint=GIVE,
            detail=done.stderr.decode("utf-8", "replace"),
        ) from None
    if "error" in said:
        raise UsageError(f"{path}: {said['error']}", hint=said["hint"])
    return SetupMedium(path, said["label"], said["image"], tuple(map(_edition, said["editions"])))


def chosen(medium: SetupMedium, wanted: str) -> wim.Edition:
    """The edition by index, name or Windows' own word (``Professional``), in any case; without one, the only.

    UsageError that lists those there are.
    """
    low = wanted.lower()
    fitting = [
        one
        for one in medium.editions
        if low in (str(one.index), one.name.lower(), one.edition.lower())
    ]
    exact = [one for one in fitting if low in (str(one.index), one.name.lower())]
    found = (exact or fitting) if wanted else list(medium.editions)
    if len(found) == 1:
        return found[0]
    there = "; ".join(f"{one.index} {one.name}" for one in medium.editions)
    hint = f"--edition, by number or name, of: {there}"
    if not wanted:
        raise UsageError(f"{medium.path}: has {len(found)} editions of Windows", hint=hint)
    what = "no edition" if not found else "more than one edition"
    raise UsageError(f"{medium.path}: {what} is called {printable(wanted)!r}", hint=hint)


def _edition(fields: dict[str, Any]) -> wim.Edition:
    major, minor, build = fields.pop("version")
    return wim.Edition(**{**fields, "arch": Arch(fields["arch"])}, version=(major, minor, build))


def look(path: Path) -> dict[str, Any]:
    """What ``read`` gives, as JSON has it; raises a VirtproofError for what is no such medium."""
    try:
        iso = Iso(path)
    except MediumError as error:
        what = error.what.removeprefix(f"{path}: ")
        raise UsageError(what, hint=GIVE) from None
    by_name = {name.lower(): name for name in iso.files}
    image = next((by_name[name] for name in IMAGES if name in by_name), None)
    label = printable(next(iter(iso.labels.values()), ""))
    if image is None:
        raise _no_image(label, windows=any(name in by_name for name in SETUP))
    if not iso.boots:
        raise UsageError("has no boot record: no machine boots from it", hint=GIVE)
    with iso.opened(image) as file:
        try:
            found = wim.editions(file, iso.files[image])
        except ImageError as error:
            raise UsageError(f"{image} {error.what}", hint="fetch the ISO again") from None
    return {"label": label, "image": image, "editions": [asdict(one) for one in found]}


def _no_image(label: str, *, windows: bool) -> UsageError:
    if windows:
        return UsageError(
            f"{label!r} has Windows' setup, but neither install.wim nor install.esd", hint=GIVE
        )
    return UsageError(
        f"{label!r} is no installation ISO of Windows: it has no sources/install.wim", hint=GIVE
    )


def main(path: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    logging.disable(logging.CRITICAL)
    answer: dict[str, Any]
    try:
        answer = look(Path(path))
    except VirtproofError as error:
        answer = {"error": error.what, "hint": error.hint}
    except (MemoryError, RecursionError) as error:
        answer = {
            "error": f"reading it takes more than it may: {type(error).__name__}",
            "hint": GIVE,
        }
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

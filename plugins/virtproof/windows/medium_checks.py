"""Checks of the medium as a whole: its label, name, installer and trees, and which drivers it has."""

from __future__ import annotations

import re
from collections.abc import Callable

from virtproof.errors import PackageError
from virtproof.windows import pe
from virtproof.windows.drivers import DRIVERS
from virtproof.windows.iso import Medium
from virtproof.windows.looking import NotApplicable, printable
from virtproof.windows.package import copies

MediumCheck = Callable[[Medium], list[str]]
INSTALLER = "virtio-win-guest-tools.exe"
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def iso_label(medium: Medium) -> list[str]:
    """All volume descriptors have one label, and it has a version. Windows shows Joliet's first."""
    if not medium.labels:
        raise NotApplicable("a folder has no label")
    labels = list(medium.labels.values())
    if len(set(labels)) > 1:
        said = ", ".join(f"{label!r} in {kind}" for kind, label in medium.labels.items())
        return [f"the label is not one: {said}"]
    return [] if _VERSION.search(labels[0]) else [f"the label {labels[0]!r} has no version"]


def iso_name(medium: Medium) -> list[str]:
    """A version in the file's name is the label's."""
    named, labelled = _VERSION.search(medium.name), _label_version(medium)
    if named is None or labelled is None:
        raise NotApplicable("name and label do not both have a version")
    mine = named[0].removesuffix(".iso")
    return [] if mine == labelled else [f"{medium.name} has {labelled} on its label"]


def iso_installer(medium: Medium) -> list[str]:
    """The guest tools' installer has the label's version."""
    path = next((path for path in medium.files if path.lower() == INSTALLER), None)
    labelled = _label_version(medium)
    if path is None or labelled is None:
        raise NotApplicable(f"there is no {INSTALLER}, or no version on the label")
    version = pe.read(medium.read(path)).version
    if version is None:
        return [f"{path} has no version"]
    wanted = [int(part) for part in labelled.split(".")]
    said = ".".join(str(part) for part in version)
    return [] if list(version[: len(wanted)]) == wanted else [f"{path} is {said}, not {labelled}"]


def iso_trees(medium: Medium) -> list[str]:
    """Each tree has the same files: Windows reads another one than Linux does.

    Not the plain ISO 9660 tree, whose names are often cut, if there is any other.
    """
    trees = [(kind, files) for kind, files in medium.trees.items() if kind != "iso"]
    if len(trees) < 2:
        raise NotApplicable("no two trees of files have whole names")
    (first, files), *others = trees
    found = []
    for kind, theirs in others:
        odd = sorted(files ^ theirs)
        if odd:
            found.append(f"{len(odd)} files are not in both {first} and {kind}: {odd[0]} ...")
    return found


def iso_drivers(medium: Medium) -> list[str]:
    """Every driver that virtio-win has long had is there at all, where the medium is a whole one."""
    whole = medium.labels or any(path.lower() == INSTALLER for path in medium.files)
    if not whole:
        raise NotApplicable(f"a folder without {INSTALLER} may hold a few drivers only")
    there = {path.partition("/")[0].lower() for path in medium.files}
    wanted = [driver.folder for driver in DRIVERS if not driver.recent]
    return [f"there is no {folder}" for folder in wanted if folder.lower() not in there]


def iso_copies(medium: Medium) -> list[str]:
    """The storage drivers that lie a second time where Windows' setup looks are the same files."""
    found = []
    pairs = copies(medium)
    if not pairs:
        raise NotApplicable("no storage driver lies below amd64 or i386")
    for path, original in pairs:
        if original not in medium.files:
            found.append(f"{path} has no original {original}")
        elif path.lower().endswith((".inf", ".cat", ".sys")):
            same = medium.files[path] == medium.files[original]
            if not same or medium.read(path) != medium.read(original):
                found.append(f"{path} is not {original}")
    return found


def _label_version(medium: Medium) -> str | None:
    for label in medium.labels.values():
        match = _VERSION.search(label)
        return match[0] if match else None
    return None


MEDIUM_CHECKS: dict[str, MediumCheck] = {
    "iso-label": iso_label,
    "iso-name": iso_name,
    "iso-installer": iso_installer,
    "iso-trees": iso_trees,
    "iso-drivers": iso_drivers,
    "iso-copies": iso_copies,
}


def medium_defects(medium: Medium, check: str) -> list[str]:
    """What the check finds; a file that cannot be read is a defect, too."""
    try:
        return [printable(line) for line in MEDIUM_CHECKS[check](medium)]
    except PackageError as error:
        return [printable(str(error))]

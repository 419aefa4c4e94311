"""The answer medium: an ISO with the answers, the script of the first logon, drivers and the guest agent."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pycdlib

from virtproof.errors import UsageError
from virtproof.windows.drivers import DRIVERS, OPTIONAL
from virtproof.windows.iso import Medium, open_medium
from virtproof.windows.platform import Arch, Windows, arch_of, windows_of
from virtproof.windows.unattended.answers import FILE
from virtproof.windows.unattended.corrections import DRIVERS as FOLDER
from virtproof.windows.unattended.corrections import SCRIPT

LABEL = "VIRTPROOF"
# Without these the image could not be switched to virtio afterwards.
NEEDED = ("viostor", "vioscsi", "NetKVM")
AGENTS = {
    Arch.AMD64: "guest-agent/qemu-ga-x86_64.msi",
    Arch.X86: "guest-agent/qemu-ga-i386.msi",
}
UNUSED = (".pdb", ".doc", ".txt")
LIMIT_BYTES = 512 << 20  # of all that is copied; a whole set of drivers has some 30 MiB


@dataclass(frozen=True)
class Payload:
    """What goes from virtio-win onto the answer medium: path there to bytes. ``agent``: it is among them."""

    files: Mapping[str, bytes]
    agent: bool

    @property
    def digest(self) -> str:
        """Of names and contents, in hex."""
        parts = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in self.files.items()]
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def script() -> str:
    """What the first logon runs."""
    return (Path(__file__).parent / SCRIPT).read_text(encoding="utf-8")


def payload(path: Path, windows: Windows, arch: Arch) -> Payload:
    """The drivers for that Windows on virtio-win's ISO or folder, and the agent where it is there.

    UsageError where those are missing that a switch to virtio needs.
    """
    medium = open_medium(path)
    places = _places(medium, windows, arch)
    lacking = [name for name in NEEDED if not any(place[0] == name for place in places.values())]
    if lacking:
        raise UsageError(
            f"{path}: has no {', '.join(lacking)} for {windows.title} {arch}",
            hint=f"looked for as {lacking[0]}/{windows.name}/{arch}; "
            "./run virtio-win ISO lists what it has",
        )
    wanted = {source: f"{FOLDER}/{name}/{file}" for source, (name, file) in places.items()}
    by_name = {name.lower(): name for name in medium.files}
    agent = by_name.get(AGENTS[arch])
    if agent is not None:
        wanted[agent] = f"guest-agent/{agent.rpartition('/')[2]}"
    if (size := sum(medium.files[source] for source in wanted)) > LIMIT_BYTES:
        raise UsageError(
            f"{path}: drivers of {size >> 20} MiB are more than any virtio-win has",
            hint="is it the right one?",
        )
    files = {target: medium.read(source) for source, target in sorted(wanted.items())}
    return Payload(files, agent is not None)


def write(path: Path, answers: bytes, payload: Payload) -> None:
    """Make the ISO, readable by its owner alone: the answers have secrets."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    folders: dict[str, str] = {"": ""}
    try:
        content = {FILE: answers, SCRIPT: script().encode(), **payload.files}
        for number, (name, data) in enumerate(content.items()):
            inner = _folder(iso, name.rpartition("/")[0], folders)
            iso.add_fp(
                io.BytesIO(data),
                len(data),
                f"{inner}/F{number}.;1",
                rr_name=name.rpartition("/")[2],
                joliet_path=f"/{name}",
            )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            iso.write_fp(file)
    finally:
        iso.close()


def _places(medium: Medium, windows: Windows, arch: Arch) -> dict[str, tuple[str, str]]:
    """Path on the medium to driver and file name."""
    known = {driver.folder.lower(): driver.folder for driver in (*DRIVERS, *OPTIONAL)}
    found = {}
    for path in medium.files:
        parts = path.split("/")
        if len(parts) != 4 or path.lower().endswith(UNUSED):
            continue
        name, of, kind = known.get(parts[0].lower()), windows_of(parts[1]), arch_of(parts[2])
        if name is not None and of is not None and (of.name, kind) == (windows.name, arch):
            found[path] = (name, parts[3])
    return found


def _folder(iso: pycdlib.PyCdlib, name: str, made: dict[str, str]) -> str:
    """ISO 9660's own path of a folder, made with those above it where it is not there."""
    if name not in made:
        above, _, last = name.rpartition("/")
        made[name] = f"{_folder(iso, above, made)}/D{len(made)}"
        iso.add_directory(made[name], rr_name=last, joliet_path=f"/{name}")
    return made[name]

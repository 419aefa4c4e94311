"""Bringing a directory out of a guest: bounded, and nothing but plain files below one place."""

from __future__ import annotations

import base64
import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from virtproof.errors import GuestError
from virtproof.guest.shell import Runner

PACKED_MIB, UNPACKED_MIB = 16, 256
PACK_S = 60.0  # on KVM; the runner scales it


def fetch(runner: Runner, path: str, to: Path) -> None:
    """Copy the files below ``path`` in the guest into ``to``.

    GuestError where they are more than ``PACKED_MIB`` packed or ``UNPACKED_MIB`` unpacked, or where
    what came is no archive of plain files: a guest is not trusted.
    """
    packed = f"{path}.tar.gz"
    runner.run("tar -C %s -czf %s .", path, packed, timeout_s=PACK_S)
    # One byte more than is taken, so that too much is seen and never sent whole.
    most = (PACKED_MIB << 20) + 1
    sent = runner.run("head -c %s %s | base64 -w 0", most, packed, timeout_s=PACK_S).stdout
    try:
        data = base64.b64decode(sent, validate=True)
    except ValueError:
        raise GuestError(f"{path} of the guest did not come as base64") from None
    if len(data) >= most:
        raise GuestError(f"{path} of the guest has over {PACKED_MIB} MiB packed")
    try:
        _unpack(data, path, to)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise GuestError(f"{path} of the guest cannot be unpacked: {error}") from error


def _unpack(data: bytes, path: str, to: Path) -> None:
    left = UNPACKED_MIB << 20
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.isdir():
                continue
            if not member.isreg() or name.is_absolute() or ".." in name.parts:
                raise GuestError(f"{path} of the guest holds {member.name!r}, no plain file in it")
            left -= member.size
            if left < 0:
                raise GuestError(f"{path} of the guest has over {UNPACKED_MIB} MiB")
            content = tar.extractfile(member)
            assert content is not None  # of a plain file
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())

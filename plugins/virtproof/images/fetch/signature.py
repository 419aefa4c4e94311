"""Signatures: the publisher's key found on this machine, and gpgv's verdict with no other key."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from virtproof.errors import ImageError, UsageError
from virtproof.images.child import need, search_path
from virtproof.images.fetch import openpgp

ENVIRONMENT = "VIRTPROOF_KEYS"
# Where distributions' packages put the keys of publishers.
SYSTEM = (
    "/usr/share/keyrings",
    "/usr/share/distribution-gpg-keys",
    "/etc/pki/rpm-gpg",
    "/usr/lib/rpm/gnupg/keys",
)
TIMEOUT_S = 300.0
BAD = re.compile(r"^\[GNUPG:\] (BADSIG|EXPSIG|EXPKEYSIG|REVKEYSIG) ", re.MULTILINE)
VALID = re.compile(r"^\[GNUPG:\] VALIDSIG (?:\S+ ){9}([0-9A-F]{40})\s*$", re.MULTILINE)
OTHER = re.compile(r"^\[GNUPG:\] (?:NO_PUBKEY|ERRSIG) ([0-9A-F]{16,40})", re.MULTILINE)
FAULTS = {
    "BADSIG": "the signature does not fit",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key has expired",
    "REVKEYSIG": "the key was revoked",
}


def find_key(fingerprint: str, catalog: Path, given: str, what: str) -> bytes:
    """The packets of a file that holds the key; ImageError ``what`` where none does.

    Looked for in ``given`` (a file or directory; UsageError where it has none of that key), beside the
    catalog, and where the machine's packages put keys.
    """
    if given:
        if not Path(given).exists():
            raise UsageError(f"{given}: there is no such file of keys")
        places = [Path(given)]
    else:
        places = [catalog / "keys", *map(Path, SYSTEM)]
    others: set[str] = set()
    for path in _files(places):
        packets = openpgp.binary(_read(path))
        found = openpgp.fingerprints(packets)
        if fingerprint in found:
            return packets
        others |= found
    if given:
        held = ", ".join(sorted(others)[:3]) or "no key at all"
        raise UsageError(
            f"{given} does not hold {fingerprint}, the key of {what}", hint=f"but {held}"
        )
    raise ImageError(
        f"{what}: the publisher's key {fingerprint} is not on this machine",
        hint=f"give its file by --keys FILE or {ENVIRONMENT}; or --unsigned, to go without",
    )


def verify(
    what: str, signed: Path, detached: Path | None, key: bytes, fingerprint: str, scratch: Path
) -> bytes:
    """The signed text, or nothing where the signature is ``detached``; ImageError where it is not good.

    Of a clear-signed file only what was signed is returned: there may be more in it.
    """
    need("gpgv")
    keyring, text = scratch / "key.gpg", scratch / "signed-text"
    keyring.write_bytes(key)
    text.unlink(missing_ok=True)
    argv = ["gpgv", "--homedir", str(scratch), "--status-fd", "1", "--keyring", str(keyring)]
    if detached is None:
        argv += ["--output", str(text), str(signed)]
    else:
        argv += [str(detached), str(signed)]
    said = _status(argv, what)
    keyring.unlink()
    if bad := BAD.search(said):
        raise _not_good(what, FAULTS[bad[1]])
    if fingerprint not in VALID.findall(said):
        other = OTHER.search(said)
        why = f"it is by {other[1]}, not by {fingerprint}" if other else "there is none"
        raise _not_good(what, why)
    if detached is not None:
        return b""
    if not text.exists():
        raise _not_good(what, "nothing in it is signed")
    content = text.read_bytes()
    text.unlink()
    return content


def _status(argv: list[str], what: str) -> str:
    """gpgv's lines of status; its exit status is a failure too where one of two signers is unknown."""
    environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{what}: gpgv took over {TIMEOUT_S:.0f} s") from None
    return done.stdout.decode("utf-8", "replace")


def _not_good(what: str, why: str) -> ImageError:
    return ImageError(
        f"{what}: bad signature: {why}",
        hint="nothing of it is used; another mirror: --mirror FROM=TO",
    )


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (path for path in found if path.is_file())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= openpgp.MAX_BYTES else b""
    except OSError:
        return b""

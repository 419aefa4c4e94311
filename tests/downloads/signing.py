"""Keys made for the moment, by the real gpg, and what is signed by them."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONG_AGO = ("--faked-system-time", "20200101T000000!")


def why_not() -> str:
    """Why nothing can be signed here; empty where it can."""
    missing = [name for name in ("gpg", "gpg-agent", "gpgv") if shutil.which(name) is None]
    return (
        f"not installed: {', '.join(missing)} (apt install {' '.join(missing)})" if missing else ""
    )


@dataclass(frozen=True)
class Signer:
    """A key pair in a directory of its own. ``fingerprint`` in upper-case hex."""

    home: Path
    fingerprint: str
    time: tuple[str, ...] = ()

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", *self.time]
        argv += ["--pinentry-mode", "loopback", "--passphrase", ""]
        done = subprocess.run([*argv, *arguments], input=data, capture_output=True, check=True)
        return done.stdout

    def public(self, *, armoured: bool = False) -> bytes:
        return self._gpg(*(["--armor"] if armoured else []), "--export")

    def detached(self, data: bytes, *, armoured: bool = True) -> bytes:
        return self._gpg(*(["--armor"] if armoured else []), "--detach-sign", data=data)

    def clear_signed(self, data: bytes) -> bytes:
        return self._gpg("--clear-sign", data=data)


@contextlib.contextmanager
def signer(*, expired: bool = False) -> Iterator[Signer]:
    """A key that lives as long as the block; ``expired``: of a day in 2020."""
    home = Path(tempfile.mkdtemp(prefix="vp-gpg-", dir="/tmp"))  # sockets have short paths
    time = LONG_AGO if expired else ()
    made = Signer(home, "", time)
    try:
        until = "1d" if expired else "never"
        made._gpg("--quick-gen-key", "Publisher <images@example.org>", "ed25519", "sign", until)
        listed = made._gpg("--with-colons", "--list-keys").decode()
        line = next(line for line in listed.splitlines() if line.startswith("fpr:"))
        yield Signer(home, line.split(":")[9], time)
    finally:
        argv = ["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"]
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(argv, capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


@functools.cache
def lasting(kind: str) -> Signer:
    """One key of each kind ("", "other", "expired") for all tests of a process; gone with it."""
    import atexit

    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(signer(expired=kind == "expired"))

"""Programs that we start: none outlives us, and a fault of one is a clear line."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence

from virtproof import host
from virtproof.errors import ImageError, MissingToolError

END_S = 10.0

# Program -> Debian's package of it, for the hint.
PACKAGES = {
    "depmod": "kmod",
    "qemu-nbd": "qemu-utils",
    "apt-cache": "apt",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "newuidmap": "uidmap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}


def need(*programs: str) -> None:
    """Raise MissingToolError that names every program of these which the machine lacks."""
    missing = [name for name in programs if host.find_program(name) is None]
    if missing:
        packages = sorted({PACKAGES.get(name, name) for name in missing})
        raise MissingToolError(
            f"not installed: {', '.join(missing)}", hint=f"apt install {' '.join(packages)}"
        )


def search_path() -> str:
    """PATH for children, with the sbin directories that an ordinary user's lacks."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *host.SYSTEM_DIRECTORIES))


@contextlib.contextmanager
def spawned(
    argv: Sequence[str], *, env: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the block, and with us even at SIGKILL; stdout and stderr are one pipe.

    It has a session of its own: Ctrl-C reaches us alone, and we end it in our own order. ``pass_fds``:
    descriptors that it inherits under their numbers.
    """
    need("setpriv", argv[0])
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *argv],
        env={**(os.environ if env is None else env), "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def output(argv: Sequence[str], what: str, *, timeout_s: float = 600.0) -> str:
    """Standard output of a program; ImageError ``what`` with its last words where it fails. The program
    ends with us, even at SIGKILL."""
    need("setpriv", argv[0])
    try:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            env={**os.environ, "PATH": search_path(), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{what}: {argv[0]} took over {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        last = said.splitlines()[-1][:200] if said else f"status {done.returncode}"
        raise ImageError(f"{what}: {last}", detail=said)
    return done.stdout.decode("utf-8", "replace")

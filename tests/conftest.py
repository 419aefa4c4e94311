"""What several of the harness's own tests need: a lab of their own, away from the user's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_owner import OWNER, Owner, Start, alive, processes_naming
from virtproof import host
from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab, open_lab

TOOLS = ("unshare", "libvirtd", "dnsmasq", "ip", "qemu-img", "qemu-system-x86_64")


def why_no_lab() -> str:
    """Why this machine cannot start a lab; empty where it can."""
    missing = [name for name in TOOLS if host.find_program(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.getuid() != 0 and host.find_program("newuidmap") is None:
        return "not root, and newuidmap is not installed"
    return ""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """A runtime directory of the module's own, with a path that UNIX sockets have room for."""
    if reason := why_no_lab():
        pytest.skip(reason)
    path = Path(tempfile.mkdtemp(prefix="vp-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTPROOF_RUNTIME", str(path))
        yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory of the module's own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def living(runtime: Path, cache: Path) -> Iterator[tuple[PrivateLab, Connection]]:  # noqa: ARG001
    """A lab with its network up, and the connection to its libvirtd."""
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    with open_lab(cache, connect) as lab:
        yield lab, connections[0]
        connections[0].close()


@pytest.fixture
def owner(runtime: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts processes that own a lab each; whatever a test leaves of them is ended by its PID."""
    started: list[Owner] = []

    def start(
        *before: str, python: str = sys.executable, cache: Path = tmp_path, runtime: Path = runtime
    ) -> Owner:
        process = subprocess.Popen(
            [*before, python, "-c", OWNER, str(cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "VIRTPROOF_RUNTIME": str(runtime)},
        )
        assert process.stdout
        words = process.stdout.readline().split()
        assert len(words) == 2, "the owner's lab did not start"
        started.append(Owner(process, Path(words[0]), int(words[1]), cache))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        if alive({one.unshare}) and str(one.directory) in processes_naming("unshare").get(
            one.unshare, ""
        ):
            os.kill(one.unshare, signal.SIGKILL)
        for stream in (one.process.stdin, one.process.stdout):
            if stream:
                stream.close()

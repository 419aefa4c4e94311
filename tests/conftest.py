"""What several of the harness's own tests need: a lab of their own, away from the user's, and a libvirt
that plays the user's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab_owner import OWNER, Owner, Start, alive, processes_naming
from virtproof import host
from virtproof.guest.connection import Connection
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import PrivateLab, open_lab
from virtproof.spec import Accel
from windows_packages import Authorities, write_medium

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


@dataclass(frozen=True)
class Theirs:
    """A libvirt that is the user's: it has a network and a pool, and our run only its URI."""

    lab: PrivateLab
    pool: str = "virtproof-test"

    def virsh(self, *command: str) -> str:
        done = subprocess.run(
            ["virsh", "-c", self.lab.uri, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def owned(self) -> list[str]:
        """What it holds: domains, volumes, networks, pools."""
        said = [
            self.virsh(*command.split())
            for command in (
                *("list --all --name", f"vol-list {self.pool}", "net-list --all", "pool-list"),
            )
        ]
        rows = [line.split() for text in said for line in text.splitlines()]
        return [row[0] for row in rows if row and row[0] != "Name" and set(row[0]) != {"-"}]


@pytest.fixture
def theirs(runtime: Path, tmp_path: Path) -> Iterator[Theirs]:
    del runtime
    # Made now: from the network that a run may enter, no mirror is reached.
    ImageStore(default_cache(), Accel.TCG).prepared("debian-12")
    (tmp_path / "pool").mkdir()

    def connect(uri: str) -> Connection:
        return Connection(uri)

    with open_lab(tmp_path / "cache", connect) as lab:
        users = Theirs(lab)
        users.virsh("pool-define-as", users.pool, "dir", "--target", str(tmp_path / "pool"))
        users.virsh("pool-start", users.pool)
        yield users


# --- media of Windows drivers (windows_packages) ----------------------------------------------


@pytest.fixture(scope="session")
def authorities() -> Authorities:
    """The keys that the tests' driver packages are signed by."""
    if host.find_program("osslsigncode") is None:
        pytest.skip("osslsigncode signs the tests' catalogs, and is not installed")
    return Authorities()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing")


@pytest.fixture(scope="session")
def test_root(authorities: Authorities, scratch: Path) -> Path:
    """The certificate of the tests' own root, as PEM."""
    return authorities.root.write(scratch / "root")[0]


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, authorities: Authorities, scratch: Path
) -> Path:
    """A folder like virtio-win's ISO: all drivers for five platforms, none of them with a defect."""
    root = tmp_path_factory.mktemp("medium") / "virtio-win-0.1.271"
    root.mkdir()
    write_medium(root, authorities, scratch)
    return root

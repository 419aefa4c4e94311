"""The user's own libvirt as a lab: their network, their storage pool, nothing left in either."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import tarfile
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from virtproof.guest.shell import CommandResult
from virtproof.lab.admission import Admission
from virtproof.lab.base import NoCommandsError
from virtproof.lab.host_log import killed_for_memory, tail
from virtproof.lab.network import why_together
from virtproof.lab.notes import Note
from virtproof.lab.sweeping import Libvirt, remove_all, sweep
from virtproof.runtime import runtime_directory

LOGS = ("/var/log/libvirt/qemu", "~/.cache/libvirt/qemu/log")
MIB = 1 << 20


class Connection(Libvirt, Protocol):
    """A connection to libvirt, and volumes of its storage pools. Names to paths."""

    def create_volume(
        self, pool: str, name: str, kind: str, size: int, backing: str = ""
    ) -> str: ...

    def upload_volume(self, path: str, source: Path) -> None: ...

    def volume_allocation(self, path: str) -> int: ...

    def delete_volume(self, path: str) -> None: ...

    def require_network(self, name: str) -> str: ...


class PoolStorage:
    """Disks as volumes of a pool, each noted before it is made. A base image is uploaded once a run
    and goes with the run."""

    def __init__(self, volumes: Connection, pool: str, note: Note) -> None:
        self._volumes = volumes
        self._pool = pool
        self._note = note
        self._bases: dict[Path, str] = {}

    def overlay(self, base: Path, name: str) -> str:
        if base not in self._bases:
            digest = hashlib.sha256(str(base).encode()).hexdigest()[:8]
            volume = f"virtproof-base-{digest}-{self._note.run}.qcow2"
            path = self._create(volume, "raw", base.stat().st_size)
            self._volumes.upload_volume(path, base)
            self._bases[base] = path
        backing = self._bases[base]
        size = _virtual_size(base)
        return self._create(f"{name}.qcow2", "qcow2", size, backing)

    def blank(self, name: str, size_mib: int) -> str:
        return self._create(f"{name}.raw", "raw", size_mib * MIB)

    def archive(self, name: str, directory: Path) -> str:
        # Without a name, so that nothing is left of it however we end.
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for member in sorted(directory.iterdir()):
                    tar.add(member, member.name)
            file.flush()
            source = Path(f"/proc/self/fd/{file.fileno()}")
            path = self._create(f"{name}.raw", "raw", source.stat().st_size)
            self._volumes.upload_volume(path, source)
        return path

    def allocated_bytes(self, path: str) -> int:
        return self._volumes.volume_allocation(path)

    def remove(self, path: str) -> None:
        self._volumes.delete_volume(path)

    def _create(self, name: str, kind: str, size: int, backing: str = "") -> str:
        self._note.volume(self._pool, name)
        return self._volumes.create_volume(self._pool, name, kind, size, backing)


class UserLibvirt:
    """A libvirt that the user named. UsageError where its network or pool is not there.

    What dead runs left on it is removed first, and told to ``say``.
    """

    def __init__(
        self, uri: str, network: str, pool: str, connection: Connection, say: Callable[[str], None]
    ) -> None:
        self.uri = uri
        self.network = network
        self.why_together = why_together(network, connection.require_network(network))
        connection.require_pool(pool)
        self._connection, self._say = connection, say
        for line in sweep(connection, uri).lines(uri, all_strangers=False):
            say(line)
        self._note = Note(uri)
        self.storage = PoolStorage(connection, pool, self._note)
        self.admission = Admission(runtime_directory())
        self._remote = urllib.parse.urlsplit(uri).netloc

    def connect_tcp(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """From here, or for ``qemu+ssh://HOST/...`` through that host."""
        if not self._remote:
            return socket.create_connection((host, port), timeout_s)
        here, there = socket.socketpair()
        command = ["ssh", "-o", "BatchMode=yes", "-W", f"{host}:{port}", self._remote]
        with there:
            end = there.fileno()
            subprocess.Popen(command, stdin=end, stdout=end, start_new_session=True)
        here.settimeout(timeout_s)
        return here

    def run(self, *argv: str, timeout_s: float = 30.0) -> CommandResult:
        del timeout_s
        raise NoCommandsError(
            f"{argv[0]} is not run on the network of {self.uri}", hint="not ours to change"
        )

    def agent_socket(self, domain: str) -> str:
        del domain
        return ""

    def qemu_log(self, domain: str) -> str:
        if self._remote:
            return ""
        places = (Path(place).expanduser() / f"{domain}.log" for place in LOGS)
        return "".join(tail(path) for path in places)

    def host_log(self, since_s: float) -> str:
        return "" if self._remote else killed_for_memory(since_s)

    def mark(self, guest: str) -> dict[str, str]:
        return self._note.mark(guest)

    def linger(self) -> str:
        """Their guests outlive us as they are; their network is entered by nothing special."""
        self._note.keep()
        return ""

    def check(self) -> None:
        """What its network needs is its owner's."""

    def gone(self) -> str:
        return f"libvirt at {self.uri} has gone"

    def abandon(self) -> None:
        """What was made stays until the next run, or ``./run clean``, sweeps it."""
        self._note.release()

    def close(self) -> None:
        """Remove all that this run has made and nobody has removed yet: the base images, at least."""
        swept = remove_all(self._connection, self._note.noted())
        for fault in swept.faults:
            self._say(f"left on {self.uri}: {fault}")
        if swept.faults:
            self._note.release()
        else:
            self._note.end()


def _virtual_size(image: Path) -> int:
    """Bytes of a qcow2 image as a guest sees it: bytes 24 to 31 of its header, big endian."""
    with open(image, "rb") as file:
        return int.from_bytes(file.read(32)[24:32], "big")

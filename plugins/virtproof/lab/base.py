"""What a lab is to the rest of the house: where guests run and how they are reached."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

from virtproof.errors import LabError
from virtproof.guest.shell import CommandResult
from virtproof.lab.admission import Admission


class Storage(Protocol):
    """Where the disks of guests lie; paths are as QEMU sees them."""

    def overlay(self, base: Path, name: str) -> str:
        """A qcow2 overlay on a sealed base image: its path."""
        ...

    def blank(self, name: str, size_mib: int) -> str:
        """An empty, sparse raw disk: its path."""
        ...

    def archive(self, name: str, directory: Path) -> str:
        """A raw disk that is a tar archive of a directory's files: its path."""
        ...

    def allocated_bytes(self, path: str) -> int:
        """Bytes that a disk takes up on the host (after discard: fewer)."""
        ...

    def remove(self, path: str) -> None: ...


class NoCommandsError(LabError):
    """The lab has no namespace of its own in which commands could run."""


class Lab(Protocol):
    """A libvirt with a network, and the way into that network."""

    @property
    def uri(self) -> str: ...

    @property
    def network(self) -> str:
        """libvirt's name of the network that guests' NICs are on."""
        ...

    @property
    def why_together(self) -> str:
        """Why guests here cannot be kept from reaching each other; empty where they can."""
        ...

    @property
    def storage(self) -> Storage: ...

    @property
    def admission(self) -> Admission:
        """Who may start a guest on this machine now."""
        ...

    def connect_tcp(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connected TCP socket into the guests' network; OSError where nothing answers."""
        ...

    def run(self, *argv: str, timeout_s: float = 30.0) -> CommandResult:
        """A command in the guests' network namespace; NoCommandsError where the lab has none."""
        ...

    def agent_socket(self, domain: str) -> str:
        """Path of a UNIX socket for a guest's second serial port, which this process can open too;
        empty where only libvirt reaches it."""
        ...

    def qemu_log(self, domain: str) -> str:
        """libvirt's log of that domain's QEMU, the last MiB of it; empty where it cannot be read."""
        ...

    def host_log(self, since_s: float) -> str:
        """Lines of the host's kernel log since ``since_s`` (CLOCK_MONOTONIC) about the OOM killer."""
        ...

    def mark(self, guest: str) -> dict[str, str]:
        """What the metadata of a guest's domain says beside its spec, where others may see it."""
        ...

    def linger(self) -> str:
        """Keep running after this process ends; returns the command that enters the guests' network."""
        ...

    def check(self) -> None:
        """LabGoneError where what its guests need beside libvirt has died."""
        ...

    def gone(self) -> str:
        """What to say of it when it does not answer any more."""
        ...

    def abandon(self) -> None:
        """Give up a lab that has gone: remove what can be removed without it."""
        ...

    def close(self) -> None: ...

"""Where guests run: a private lab, or the user's own libvirt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from virtproof.errors import LabError
from virtproof.lab.base import Lab, Storage
from virtproof.lab.network import network_xml
from virtproof.lab.private import PrivateLab

__all__ = ["Lab", "PrivateLab", "Storage", "open_lab"]


class Starter(Protocol):
    """What opening a private lab needs of a libvirt connection."""

    def start_network(self, xml: str) -> None: ...


def open_lab(cache: Path, connect: Callable[[str], Starter]) -> PrivateLab:
    """A private lab whose libvirtd answers and whose network is up; nothing is left if it does not."""
    lab = PrivateLab(cache)
    try:
        connect(lab.uri).start_network(network_xml())
        lab.expect_dhcp()
        _forward_nothing(lab)
    except BaseException:
        lab.close()
        raise
    return lab


def _forward_nothing(lab: Lab) -> None:
    """Undo what libvirt does for such a network: the lab's kernel shall not carry what one guest sends
    it to another, round the isolation of their ports."""
    done = lab.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    if done.status != 0:
        raise LabError(f"the lab's network forwards between guests: {done.stderr.strip()}")

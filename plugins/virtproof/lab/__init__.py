"""Where guests run: a private lab, or the user's own libvirt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
    except BaseException:
        lab.close()
        raise
    return lab

"""A lab of a benchmark's own; imported by the benchmarks beside it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab, open_lab


@contextlib.contextmanager
def bench_lab() -> Iterator[tuple[PrivateLab, Connection, Path]]:
    """The lab, the connection to its libvirtd, and a directory with a short path; gone after the block."""
    place = Path(tempfile.mkdtemp(prefix="vp-bench-", dir="/tmp"))
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    try:
        with open_lab(place / "cache", connect) as lab:
            yield lab, connections[0], place
    finally:
        shutil.rmtree(place, ignore_errors=True)

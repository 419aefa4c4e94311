"""A publisher: its server, its catalog entry, and ``virtproof images fetch`` against it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from downloads.server import File, Server, serving
from virtproof.cli import main
from virtproof.images.fetch.http import Patience

HOST = "https://images.example/"
NAME = "guest"
FILE = "guest.raw"
# A disk, as far as can be seen without booting it; of parts that are not alike.
DISK = b"\0" * 510 + b"\x55\xaa" + random.Random(1).randbytes((2 << 20) - 512)
PATIENCE = Patience(pause_s=0.001)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listing(data: bytes, name: str = FILE) -> bytes:
    return f"{sha256(data)}  {name}\n".encode()


@dataclass
class Site:
    """One publisher with one image. ``more``: lines of the entry's table [download]."""

    server: Server
    catalog: Path
    cache: Path
    more: list[str] = field(default_factory=list)
    url: str = HOST + FILE
    form: str = "raw"
    key: str = ""
    space_mib: int = 64
    end_of_life: str = "2999-01-01"
    patience: Patience = PATIENCE
    mirror: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.image = self.put(FILE, DISK)
        self.list = self.put("SHA256SUMS", listing(DISK))

    def put(self, name: str, data: bytes) -> File:
        self.server.files[f"/{name}"] = file = File(data)
        return file

    def entry(self) -> str:
        listed = f'checksums = "{HOST}SHA256SUMS"'
        lines = self.more if any("sha" in line for line in self.more) else [listed, *self.more]
        return f"""
title = "A guest of others"
kind = "download"
distribution = "debian"
release = "12"
architecture = "amd64"
login = "debian"
firmware = "both"
end_of_life = {self.end_of_life}
verified = false
[download]
url = "{self.url}"
format = "{self.form}"
{chr(10).join(lines)}
[initramfs]
tool = "dracut"
[needs]
space_mib = {self.space_mib}
"""

    def run(self, *argv: str) -> tuple[int, list[str]]:
        """Exit status of ``virtproof images`` and the lines that it wrote, stdout last."""
        (self.catalog / f"{NAME}.toml").write_text(self.entry())
        mirror = self.mirror or f"{HOST}={self.server.url}/"
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= {"VIRTPROOF_MIRROR": mirror, "VIRTPROOF_CACHE": str(self.cache)}
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**environment, **self.environment}, clear=True),
            mock.patch("virtproof.images.catalog.catalog_dir", return_value=self.catalog),
            mock.patch("virtproof.images.fetch.wishes.PATIENCE", self.patience),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main(["images", *argv])
        return status, [*err.getvalue().splitlines(), *out.getvalue().splitlines()]

    def fetch(self, *options: str) -> tuple[int, list[str]]:
        return self.run("fetch", NAME, *options)

    def fetched(self) -> list[bytes]:
        """The disks of this publisher in the cache."""
        return [path.read_bytes() for path in self.cache.glob("fetched/*/disk.*")]

    def leftovers(self) -> list[str]:
        """What a download left beside a finished image; parts that can be gone on from are none."""
        return [str(p) for p in (self.cache / "tmp").iterdir()]

    def plain(self, lines: Sequence[str]) -> list[str]:
        """Lines as they can be printed: the same on each machine."""
        text = re.sub(r"127\.0\.0\.1:\d+", "mirror.example", "\n".join(lines))
        text = text.replace(str(self.cache), "CACHE").replace(str(self.catalog), "CATALOG")
        return text.splitlines()


@contextlib.contextmanager
def published(folder: Path) -> Iterator[Site]:
    """A publisher whose everything is in order."""
    catalog = folder / "catalog"
    catalog.mkdir()
    with serving() as server, contextlib.ExitStack() as stack:
        yield Site(server, catalog, folder / "cache", stack=stack)

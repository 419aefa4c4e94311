"""Disks of guests in the private lab, and reading a log's end."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from virtproof.errors import LabError
from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab
from virtproof.lab.host_log import LOG_BYTES, tail
from virtproof.lab.user import PoolStorage


def test_an_overlay_leaves_its_base_alone(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    storage = living[0].storage
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "8M"], check=True)
    sealed = base.read_bytes()
    path = Path(storage.overlay(base, "guest"))
    subprocess.run(["qemu-io", "-c", "write -P 7 0 1M", path], check=True, capture_output=True)
    info = subprocess.run(["qemu-img", "info", path], check=True, capture_output=True, text=True)
    assert f"backing file: {base}" in info.stdout
    assert base.read_bytes() == sealed
    assert storage.allocated_bytes(str(path)) >= 1 << 20
    storage.remove(str(path))
    assert not path.exists()
    storage.remove(str(path))  # twice is no fault


def test_an_overlay_on_nothing_is_one_line(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    with pytest.raises(LabError, match="qemu-img create failed: .*No such file") as failure:
        living[0].storage.overlay(tmp_path / "no-base.qcow2", "orphan")
    assert "\n" not in str(failure.value)


def test_a_blank_disk_is_sparse_and_never_replaces_another(
    living: tuple[PrivateLab, Connection],
) -> None:
    storage = living[0].storage
    path = storage.blank("blank", 64)
    assert os.stat(path).st_size == 64 << 20
    assert storage.allocated_bytes(path) < 1 << 20
    with pytest.raises(FileExistsError):
        storage.blank("blank", 64)


def test_an_archive_holds_a_directorys_files(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    for name in ("b.deb", "a.deb"):
        (tmp_path / name).write_text(name)
    path = living[0].storage.archive("packages", tmp_path)
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["a.deb", "b.deb"]


def test_an_archive_for_a_pool_leaves_no_file_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is uploaded, and even who is killed meanwhile leaves nothing in TMPDIR."""
    drivers, own = tmp_path / "drivers", tmp_path / "tmp"
    for folder in (drivers, own):
        folder.mkdir()
    (drivers / "a.deb").write_text("a")
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    seen: list[tuple[int, list[str], list[Path]]] = []

    class Pool:
        def create_volume(self, _pool: str, name: str, _kind: str, size: int, _backing: str) -> str:
            self.size = size
            return name

        def upload_volume(self, _path: str, source: Path) -> None:
            with open(source, "rb") as file, tarfile.open(fileobj=file) as tar:
                seen.append((source.stat().st_size, tar.getnames(), list(own.iterdir())))

    class Unwritten:
        def volume(self, pool: str, name: str) -> None:
            pass

    pool: Any = Pool()
    note: Any = Unwritten()
    assert PoolStorage(pool, "pool", note).archive("packages", drivers) == "packages.raw"
    assert seen == [(pool.size, ["a.deb"], [])]


def test_a_log_is_read_from_its_end_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * LOG_BYTES + b"the end \xff")
    assert tail(log).endswith("the end \N{REPLACEMENT CHARACTER}")
    assert len(tail(log)) == LOG_BYTES
    assert tail(tmp_path / "none") == ""

"""The physical volume that is written without LVM's tools: its layout, its sums, and what reads it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from virtproof.images import lvm
from virtproof.images.lvm import MIB, SECTOR, Volume

VOLUME = Volume(begin_mib=1, size_mib=4095, root_mib=4092)


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    lvm.write(path, VOLUME)
    return path.read_bytes()


def test_the_sum_is_lvm_s_own() -> None:
    """Its CRC-32 of nothing is the value that it begins with, and of this what calc_crc of LVM gives."""
    assert lvm.checksum(b"") == 0xF597A6CF

    def bit_by_bit(data: bytes) -> int:
        crc = 0xF597A6CF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        return crc

    assert lvm.checksum(b"contents = 1\n") == bit_by_bit(b"contents = 1\n")


def test_the_label_is_in_the_second_sector(disk: bytes) -> None:
    sector = disk[MIB + SECTOR : MIB + 2 * SECTOR]
    name, number, crc, offset, kind = struct.unpack_from("<8sQII8s", sector)
    assert (name, number, offset, kind) == (b"LABELONE", 1, 32, b"LVM2 001")
    assert crc == lvm.checksum(sector[20:])
    (size,) = struct.unpack_from("<Q", sector, 64)
    assert size == VOLUME.size_mib * MIB
    assert struct.unpack_from("<4Q", sector, 72) == (MIB, 0, 0, 0)
    assert struct.unpack_from("<4Q", sector, 104) == (4096, MIB - 4096, 0, 0)


def test_the_area_s_header_finds_the_description(disk: bytes) -> None:
    area = disk[MIB + 4096 : 2 * MIB]
    crc, magic, version, start, size = struct.unpack_from("<I16sIQQ", area)
    assert (magic, version, start, size) == (lvm.MAGIC, 1, 4096, MIB - 4096)
    assert crc == lvm.checksum(area[4:SECTOR])
    offset, length, text_crc, flags = struct.unpack_from("<QQII", area, 40)
    text = area[offset : offset + length]
    assert (offset, flags) == (SECTOR, 0)
    assert text_crc == lvm.checksum(text)
    assert text.endswith(b"\0")
    assert text.decode().startswith("guest {")
    assert not any(disk[: MIB + SECTOR])


def test_the_description_s_numbers_fit_into_each_other() -> None:
    text = lvm.metadata(VOLUME, ["a" * 32, "b" * 32, "c" * 32])
    assert "extent_size = 8192" in text
    assert "extent_count = 1023" in text
    assert "pe_count = 1023" in text
    assert f"dev_size = {4095 * 2048}" in text
    assert 'id = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa"' in text
    assert text.count("{") == text.count("}")
    smaller = lvm.metadata(Volume(1, 4096, 4092), ["a" * 32, "b" * 32, "c" * 32])
    assert "pe_count = 1023" in smaller


def test_each_volume_has_ids_of_its_own(tmp_path: Path) -> None:
    labels = set()
    for name in "ab":
        path = tmp_path / name
        path.write_bytes(b"\0" * 4 * MIB)
        lvm.write(path, VOLUME)
        labels.add(path.read_bytes()[MIB + SECTOR :][32:64])
    assert len(labels) == 2


@pytest.mark.skipif(shutil.which("pvck") is None, reason="no pvck (package lvm2)")
def test_lvm_itself_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "volume.raw"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    lvm.write(path, Volume(0, 64, 60))

    def said() -> str:
        argv = ["pvck", "--dump", "headers", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "vgname guest seqno 1" in said()
    assert "bad header" not in said()
    with path.open("r+b") as file:
        file.seek(4096 + SECTOR + 10)
        file.write(b"!")
    assert "bad header or metadata" in said()

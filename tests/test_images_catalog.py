"""The catalog: every entry reads, and every mistake in one is a line that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.errors import ImageError, UsageError
from virtproof.images import catalog

GOOD = """
title = "A guest"
kind = "build"
distribution = "debian"
suite = "bookworm"
architecture = "amd64"
components = ["main"]
installed_on = "ide"
verified = true
[rootfs]
packages = ["linux-image-amd64"]
[initramfs]
tool = "dracut"
drivers = ["ata_piix"]
modules_later = "dep"
[update]
kernel = "linux-image-cloud-amd64"
[disk]
size_mib = 2048
[needs]
space_mib = 100
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.toml").write_text(GOOD)
    return tmp_path


def test_the_catalog_has_what_the_suites_name() -> None:
    entries = catalog.builds()
    assert {"debian-12", "debian-12-virtio", "debian-12-dracut", "ubuntu-24.04"} <= entries.keys()
    assert list(entries) == sorted(entries)
    assert entries["debian-12-virtio"].packages == entries["debian-12"].packages
    assert not entries["ubuntu-24.04"].verified


@pytest.mark.parametrize("name", ["debian-12", "debian-12-dracut", "ubuntu-24.04"])
def test_an_image_installed_on_ide_has_no_virtio_driver(name: str) -> None:
    entry = catalog.builds()[name]
    assert entry.installed_on == "ide"
    assert "ata_piix" in entry.drivers
    assert not [driver for driver in entry.drivers if "virtio" in driver]


def test_the_recipes_lie_beside_the_entries() -> None:
    names = {path.name for path in (catalog.catalog_dir() / "recipes").iterdir()}
    assert {"rootfs.sh", "disk.sh", "guest.sh", "base.sh", "first-boot.sh"} <= names


def test_a_good_entry_reads(folder: Path) -> None:
    entry = catalog.builds(folder)["good"]
    assert entry.size_mib == 2048
    assert entry.all_packages == ("linux-image-amd64", "dracut")


def test_like_takes_over_what_is_not_said(folder: Path) -> None:
    (folder / "other.toml").write_text('like = "good"\ntitle = "B"\n[disk]\nsize_mib = 4096\n')
    entry = catalog.builds(folder)["other"]
    assert (entry.title, entry.size_mib, entry.suite) == ("B", 4096, "bookworm")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('suite = "bookworm"', "", "missing key suite"),
        ('suite = "bookworm"', 'suit = "bookworm"', "unknown key suit (did you mean suite?)"),
        ('suite = "bookworm"', "suite = 12", "suite is 12, not a string"),
        ('suite = "bookworm"', 'suite = "a b"', "suite: 'a b' has characters"),
        ('suite = "bookworm"', 'suite = "../x"', "suite: '../x' has characters"),
        ("verified = true", "verified = 1", "verified is 1, not true or false"),
        ("size_mib = 2048", "size_mib = true", "disk.size_mib is True, not a number"),
        ("size_mib = 2048", "size_mib = 1", "disk.size_mib is 1 (512 to"),
        ('["ata_piix"]', '["ata_piix", 3]', "initramfs.drivers is ['ata_piix', 3], not a list"),
        ('["ata_piix"]', "[]", "initramfs.drivers is empty"),
        ('["linux-image-amd64"]', '["a,b"]', "rootfs.packages: 'a,b' has characters"),
        ('tool = "dracut"', 'tool = "mkinit"', "initramfs.tool is 'mkinit' (one of:"),
        ('title = "A guest"', "title = ", "not TOML"),
    ],
)
def test_a_mistake_names_file_and_key(folder: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    (folder / "good.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(ImageError) as caught:
        catalog.load(folder)
    assert str(folder / "good.toml") in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["nowhere", "loop", "chain"])
def test_like_names_an_entry_that_stands_by_itself(folder: Path, other: str) -> None:
    (folder / "loop.toml").write_text(f'like = "{other}"\n')
    (folder / "chain.toml").write_text('like = "good"\n')
    with pytest.raises(ImageError, match="loop.toml: like: .* is no other entry"):
        catalog.load(folder)


def test_an_empty_catalog_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no catalog in"):
        catalog.load(tmp_path)


def test_a_typo_gets_the_nearest_names() -> None:
    with pytest.raises(
        UsageError, match=r"no image is called 'debain-12' \(did you mean debian-12"
    ):
        catalog.find(catalog.load(), "debain-12")

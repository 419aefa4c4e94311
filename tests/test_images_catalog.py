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
packages = ["udev"]
[kernel]
package = "linux-image-amd64"
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
    assert {"rootfs.sh", "image.sh", "guest.sh", "base.sh", "first-boot.sh"} <= names


def test_a_good_entry_reads(folder: Path) -> None:
    entry = catalog.builds(folder)["good"]
    assert entry.size_mib == 2048
    assert entry.all_packages == ("udev", "dracut")
    assert (entry.kernel, entry.kernel_pocket) == ("linux-image-amd64", "release")
    assert entry.pockets == ("release", "updates", "security")


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
        ('["udev"]', '["a,b"]', "rootfs.packages: 'a,b' has characters"),
        ("[initramfs]", 'pocket = "x"\n[initramfs]', "kernel.pocket is 'x' (one of: release"),
        ('"linux-image-amd64"', '"a b"', "kernel.package: 'a b' has characters"),
        (
            "architecture",
            'pockets = ["updates", "fixes"]\narchitecture',
            "pockets is 'fixes' (one of:",
        ),
        ("size_mib = 2048", 'size_mib = 2048\nroot = "fat"', "disk.root is 'fat' (one of: ext4"),
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


def test_like_is_a_chain(folder: Path) -> None:
    """The nearest entry's word counts."""
    (folder / "first.toml").write_text('like = "good"\nsuite = "trixie"\ntitle = "B"\n')
    (folder / "second.toml").write_text('like = "first"\ntitle = "C"\n')
    entry = catalog.builds(folder)["second"]
    assert (entry.title, entry.suite, entry.size_mib) == ("C", "trixie", 2048)


@pytest.mark.parametrize(
    ("other", "said"),
    [("nowhere", "is no other entry"), ("loop", "is like this one"), ("chain", "is like this one")],
)
def test_like_names_another_entry(folder: Path, other: str, said: str) -> None:
    (folder / "loop.toml").write_text(f'like = "{other}"\n')
    (folder / "chain.toml").write_text('like = "loop"\n')
    with pytest.raises(ImageError, match=f"(loop|chain).toml: like: .* {said}"):
        catalog.load(folder)


KERNELS = {
    "debian-11": ("bullseye", "release"),
    "debian-12": ("bookworm", "release"),
    "debian-12-backports": ("bookworm", "backports"),
    "debian-13": ("trixie", "release"),
    "debian-13-backports": ("trixie", "backports"),
    "debian-14": ("forky", "release"),
    "debian-sid": ("sid", "release"),
}


@pytest.mark.parametrize("flavour", ["", "cloud", "rt"])
@pytest.mark.parametrize("name", KERNELS)
def test_each_suite_has_each_flavour(name: str, flavour: str) -> None:
    suite, pocket = KERNELS[name]
    entries = catalog.builds()
    entry = entries["-".join(filter(None, (name, flavour)))]
    package = "-".join(filter(None, ("linux-image", flavour, "amd64")))
    assert (entry.suite, entry.kernel_pocket, entry.kernel) == (suite, pocket, package)
    assert entry.packages == entries["debian-12"].packages


@pytest.mark.parametrize(
    ("name", "firmware", "table", "root"),
    [
        ("debian-12", "bios", "mbr", "ext4"),
        ("debian-12-gpt", "bios", "gpt", "ext4"),
        ("debian-12-uefi", "uefi", "gpt", "ext4"),
        ("debian-12-xfs", "bios", "mbr", "xfs"),
        ("debian-12-btrfs", "bios", "mbr", "btrfs"),
        ("debian-12-lvm", "bios", "mbr", "lvm"),
    ],
)
def test_disks_are_made_in_each_of_these_ways(
    name: str, firmware: str, table: str, root: str
) -> None:
    entry = catalog.builds()[name]
    assert (entry.firmware, entry.table, entry.root) == (firmware, table, root)
    assert ("grub-efi-amd64" in entry.packages) == (firmware == "uefi")
    assert ({"lvm": "ext4"}.get(root, root)) in entry.drivers


def test_uefi_wants_a_gpt(folder: Path) -> None:
    (folder / "uefi.toml").write_text('like = "good"\n[disk]\nfirmware = "uefi"\n')
    with pytest.raises(ImageError, match="uefi.toml: disk.firmware: uefi needs disk.table gpt"):
        catalog.load(folder)


def test_an_empty_catalog_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no catalog in"):
        catalog.load(tmp_path)


def test_a_typo_gets_the_nearest_names() -> None:
    with pytest.raises(
        UsageError, match=r"no image is called 'debain-12' \(did you mean debian-12"
    ):
        catalog.find(catalog.load(), "debain-12")

"""The catalog's downloads: what an entry must say, and every mistake in one is a line."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from virtproof.errors import ImageError, UsageError
from virtproof.images import catalog
from virtproof.images.entry import DownloadEntry
from virtproof.images.fetch import openpgp

GOOD = """
title = "A guest of others"
kind = "download"
distribution = "debian"
release = "12"
architecture = "amd64"
login = "debian"
firmware = "both"
end_of_life = 2028-06-30
verified = false
unverified = ["download.url", "end_of_life"]
[download]
url = "https://images.example/x/guest-*.qcow2"
format = "qcow2"
checksums = "https://images.example/x/SHA256SUMS"
signature = "https://images.example/x/SHA256SUMS.gpg"
key = "0123456789ABCDEF0123456789ABCDEF01234567"
[initramfs]
tool = "dracut"
[needs]
space_mib = 100
"""
PINNED = GOOD.replace("guest-*", "guest")
for _line in GOOD.splitlines():
    if _line.startswith(("checksums", "signature", "key")):
        PINNED = PINNED.replace(_line, "")
PINNED = PINNED.replace("[download]", f'[download]\nsha256 = "{"0" * 64}"')


def read(folder: Path, text: str) -> DownloadEntry:
    (folder / "good.toml").write_text(text)
    entry = catalog.load(folder)["good"]
    assert isinstance(entry, DownloadEntry)
    return entry


def test_a_good_entry_reads(tmp_path: Path) -> None:
    entry = read(tmp_path, GOOD)
    assert (entry.release, entry.pinned) == ("12", "")
    assert entry.end_of_life == datetime.date(2028, 6, 30)
    assert entry.signature.endswith(".gpg")
    assert not entry.signs_image


def test_a_pinned_entry_needs_nothing_else(tmp_path: Path) -> None:
    entry = read(tmp_path, PINNED)
    assert entry.pinned == "0" * 64
    assert (entry.checksums, entry.signature, entry.key) == ("", "", "")


def test_what_rolls_has_no_end_of_life(tmp_path: Path) -> None:
    text = GOOD.replace("end_of_life = 2028-06-30", "").replace(', "end_of_life"', "")
    assert read(tmp_path, text).end_of_life is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "download"', 'kind = "upload"', "kind is 'upload' (one of: build, download)"),
        ("2028-06-30", '"2028-06-30"', "end_of_life is '2028-06-30', not a date (2030-06-30)"),
        ("2028-06-30", "2028-06-30T00:00:00Z", "not a date"),
        ("https://images.example/x/g", "ftp://images.example/x/g", "download.url: 'ftp://"),
        ("https://images.example/x/g", "https://jo:pw@images.example/x/g", "download.url: 'https:"),
        ("/x/guest-*", "/*/guest", "a * only in the last part"),
        ("SHA256SUMS.gpg", "*.gpg", "have no *"),
        ('format = "qcow2"', 'format = "vmdk"', "download.format is 'vmdk' (one of: qcow2"),
        ('login = "debian"', 'login = "a b"', "login: 'a b'"),
        ("0123456789ABCDEF01234567", "01234567", "download.key: '"),
        ("checksums =", "#", "one of sha256, sha512 and checksums"),
        (
            "[download]",
            f'[download]\nsha512 = "{"0" * 128}"',
            "one of sha256, sha512 and checksums",
        ),
        ("[download]", '[download]\nsha512 = "00"', "download.sha512: '00'"),
        ("signature =", "#", "a signature needs a key, and a key a signature"),
        ("key =", "#", "a signature needs a key, and a key a signature"),
        ('signature = "https:', 'signs_image = true\nsignature = "inline" #', "signs_image: needs"),
        ('"end_of_life"]', '"end"]', "unverified: end is no key of this file"),
        ('release = "12"', 'suite = "bookworm"', "unknown key suite"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ImageError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "good.toml") in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pinned_digest_needs_no_signature(tmp_path: Path) -> None:
    more = f'signature = "https://images.example/x.sig"\nkey = "{"0" * 40}"\n[initramfs]'
    with pytest.raises(ImageError, match="a pinned digest needs none"):
        read(tmp_path, PINNED.replace("[initramfs]", more))


def test_what_takes_builds_refuses_a_download(tmp_path: Path) -> None:
    read(tmp_path, GOOD)
    assert catalog.builds(tmp_path) == {}
    with pytest.raises(UsageError, match="good is downloaded whole"):
        catalog.find_build(catalog.load(tmp_path), "good")


# --- the project's own ------------------------------------------------------------------------


def downloads() -> dict[str, DownloadEntry]:
    found = catalog.load().items()
    return {name: entry for name, entry in found if isinstance(entry, DownloadEntry)}


@pytest.mark.parametrize("distribution", ["debian", "ubuntu", "fedora", "centos", "rocky",
    "almalinux", "opensuse", "arch", "alpine", "amazon"])  # fmt: skip
def test_the_catalog_has_what_people_run(distribution: str) -> None:
    assert [e for e in downloads().values() if e.distribution == distribution]


@pytest.mark.parametrize("name", downloads())
def test_what_was_not_seen_is_marked(name: str) -> None:
    """No entry claims more than was tried; and what is fetched comes by https, or is signed."""
    entry = downloads()[name]
    addresses = [entry.url, entry.checksums, entry.signature]
    assert not [url for url in addresses if url.startswith("http:")]
    assert not entry.verified
    unseen = {"download.url", "download.checksums", "login", "firmware", "initramfs.tool"}
    assert unseen <= set(entry.unverified)


@pytest.mark.parametrize("path", sorted((catalog.catalog_dir() / "keys").iterdir()), ids=str)
def test_a_key_beside_the_catalog_is_that_of_an_entry(path: Path) -> None:
    wanted = {entry.key for entry in downloads().values()} - {""}
    found = openpgp.fingerprints(openpgp.binary(path.read_bytes()))
    assert found
    assert found <= wanted

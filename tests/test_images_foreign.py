"""A file that a user gives as image: taken where it is one, else one clear line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from virtproof.errors import ImageError, UsageError, VirtproofError
from virtproof.images import foreign

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img")


def make(path: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", *options, str(path), "8M"], check=True)
    return path


def boot_sector(path: Path) -> Path:
    path.write_bytes(b"\0" * 510 + b"\x55\xaa" + b"\0" * (2 << 20))
    return path


@pytest.mark.parametrize(
    ("name", "is_file"),
    [
        ("debian-12", False),
        ("ubuntu-24.04", False),
        ("./debian-12", True),
        ("own.qcow2", True),
        ("own.img", True),
        ("own.raw", True),
    ],
)
def test_which_names_are_files(name: str, is_file: bool) -> None:
    assert foreign.is_file_name(name) is is_file


def test_a_qcow2_image_is_taken(tmp_path: Path) -> None:
    found = foreign.check(make(tmp_path / "a.qcow2", "-f", "qcow2"))
    assert (found.format, found.virtual_bytes) == ("qcow2", 8 << 20)


@pytest.mark.parametrize("name", ["disk.img", "disk.raw"])
def test_a_raw_disk_is_taken(tmp_path: Path, name: str) -> None:
    assert foreign.check(boot_sector(tmp_path / name)).format == "raw"


def test_a_qcow2_image_called_img_is_taken(tmp_path: Path) -> None:
    """As Ubuntu's cloud images are."""
    assert foreign.check(make(tmp_path / "a.img", "-f", "qcow2")).format == "qcow2"


def missing(folder: Path) -> Path:
    return folder / "none.qcow2"


def directory(folder: Path) -> Path:
    return folder


def text(folder: Path) -> Path:
    (folder / "x.img").write_text("no image\n" * 200000)
    return folder / "x.img"


def empty(folder: Path) -> Path:
    (folder / "x.raw").write_bytes(b"")
    return folder / "x.raw"


def misnamed_raw(folder: Path) -> Path:
    return boot_sector(folder / "x.qcow2")


def misnamed_qcow2(folder: Path) -> Path:
    return make(folder / "x.raw", "-f", "qcow2")


def vmdk(folder: Path) -> Path:
    return make(folder / "x.img", "-f", "vmdk")


def backed(folder: Path) -> Path:
    make(folder / "base.qcow2", "-f", "qcow2")
    return make(folder / "x.qcow2", "-f", "qcow2", "-b", str(folder / "base.qcow2"), "-F", "qcow2")


def encrypted(folder: Path) -> Path:
    """By AES, not LUKS: to make a LUKS header, QEMU first measures the processor, and may fail."""
    secret = folder / "secret"
    secret.write_text("pass")
    return make(
        folder / "x.qcow2",
        *("-f", "qcow2", "--object", f"secret,id=s,file={secret}"),
        *("-o", "encrypt.format=aes,encrypt.key-secret=s"),
    )


def data_elsewhere(folder: Path) -> Path:
    return make(folder / "x.qcow2", "-f", "qcow2", "-o", f"data_file={folder / 'data.raw'}")


def cut_off(folder: Path) -> Path:
    path = make(folder / "x.qcow2", "-f", "qcow2")
    path.write_bytes(path.read_bytes()[:50])
    return path


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [
        (missing, UsageError, "no such image file"),
        (directory, UsageError, "is not a file"),
        (text, ImageError, "is no disk image"),
        (empty, ImageError, "is no disk image"),
        (misnamed_raw, ImageError, "is called .qcow2, but its content is raw"),
        (misnamed_qcow2, ImageError, "is called .raw, but its content is qcow2"),
        (vmdk, ImageError, "is a vmdk image"),
        (backed, ImageError, "has a backing file"),
        (encrypted, ImageError, "is encrypted"),
        (data_elsewhere, ImageError, "keeps its data in another file"),
        (cut_off, ImageError, "x.qcow2"),
    ],
)
def test_what_cannot_serve_is_one_line(
    tmp_path: Path, bad: object, error: type[VirtproofError], said: str
) -> None:
    path = bad(tmp_path)  # type: ignore[operator]
    with pytest.raises(error, match=said) as caught:
        foreign.check(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

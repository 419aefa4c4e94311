"""Kernels under test: what is refused before anything boots, in one line; and what becomes of good ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

import kernel_files
from virtproof.errors import UsageError
from virtproof.images.kernels import from_image, from_packages
from virtproof.kernel.unpack import KernelFileError

RELEASE, OTHER = "9.8.7-test", "9.9.0-other"
GUESTLESS = "def test_one(): pass\n"
WHICH = "def test_guest(image_name): print(image_name)\n"
ALL = b"virtio_blk\0virtio_pci\0ata_piix\0"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with a bzImage that has its drivers built in, modules of it, and packages."""
    (tmp_path / "bzImage").write_bytes(kernel_files.bzimage(RELEASE, ALL))
    (tmp_path / "bare").write_bytes(kernel_files.bzimage(RELEASE, b"no driver at all"))
    (tmp_path / "initrd").write_bytes(b"an initrd")
    for release, place in ((RELEASE, "mods"), (OTHER, "other")):
        tree = tmp_path / place / "lib/modules" / release / "kernel"
        tree.mkdir(parents=True)
        (tree / "ata_piix.ko").write_bytes(b"")
    return tmp_path


def packaged(
    here: Path, release: str, name: str, architecture: str = "amd64", *, image: bool = True
) -> Path:
    tree = here / f"tree-{name}"
    (tree / "lib/modules" / release / "kernel").mkdir(parents=True)
    (tree / "lib/modules" / release / "kernel/ata_piix.ko").write_bytes(b"")
    if image:
        (tree / "boot").mkdir()
        (tree / f"boot/vmlinuz-{release}").write_bytes(kernel_files.bzimage(release, ALL))
    return kernel_files.package(tree, name, architecture)


Refused = list[tuple[Callable[[Path], object], str]]
REFUSED: Refused = [
    (lambda at: from_image(at / "initrd"), "initrd is no bzImage"),
    (lambda at: from_image(at / "initrd.gz"), "but packed by gzip"),
    (lambda at: from_image(at / "vmlinux"), "but an ELF file"),
    (lambda at: from_image(at / "arm64"), "is a kernel for arm64, and guests are x86-64"),
    (lambda at: from_image(at / "i386"), "is a kernel of 32 bits"),
    (
        lambda at: from_image(at / "bzImage", modules=at / "other"),
        f"modules of {OTHER}, and bzImage is {RELEASE}",
    ),
    (
        lambda at: from_image(at / "bzImage", modules=at),
        f"no lib/modules/RELEASE, and bzImage is {RELEASE}",
    ),
    (
        lambda at: from_image(at / "bare", direct=True),
        f"kernel {RELEASE} gets no initrd, and has no driver of a disk built in",
    ),
    (lambda at: from_image(at / "bare"), f"kernel {RELEASE} has no modules, and has no driver"),
]


@pytest.mark.parametrize(("give", "line"), REFUSED, ids=[line[:40] for _, line in REFUSED])
def test_what_cannot_be_is_refused(here: Path, give: Callable[[Path], object], line: str) -> None:
    (here / "initrd.gz").write_bytes(gzip.compress(b"x"))
    (here / "vmlinux").write_bytes(b"\x7fELF" + bytes(1024))
    (here / "arm64").write_bytes(bytes(0x38) + b"ARMd" + bytes(1024))
    (here / "i386").write_bytes(kernel_files.bzimage(RELEASE, bits=32))
    with pytest.raises((UsageError, KernelFileError)) as refused:
        give(here)
    assert line in str(refused.value)


def test_good_ones_are_not(here: Path) -> None:
    built_in = from_image(here / "bzImage", direct=True)
    assert (built_in.release, built_in.lacks(("ata_piix",))) == (RELEASE, "")
    assert built_in.lacks(("ahci",)).startswith(f"{RELEASE} has no ahci built in")
    with_modules = from_image(here / "bare", modules=here / "mods")
    assert with_modules.lacks(("ata_piix",)) == ""
    assert with_modules.lacks(("virtio_blk",)) != ""
    assert from_image(here / "bare", initrd=here / "initrd", direct=True).support is None
    below = here / "mods/lib/modules" / RELEASE
    assert from_image(here / "bare", modules=below) == with_modules


def test_a_changed_module_makes_another_kernel(here: Path) -> None:
    before = from_image(here / "bzImage", modules=here / "mods").digest
    assert from_image(here / "bzImage", modules=here / "mods").digest == before
    (here / "mods/lib/modules" / RELEASE / "kernel/ata_piix.ko").write_bytes(b"changed")
    assert from_image(here / "bzImage", modules=here / "mods").digest != before


def test_packages_of_a_release_are_one_kernel(here: Path) -> None:
    one = packaged(here, RELEASE, "linux-image-one")
    extra = packaged(here, RELEASE, "linux-modules-extra-one", image=False)
    two = packaged(here, OTHER, "linux-image-two")
    kernels = from_packages([one, extra, two])
    assert [(kernel.release, kernel.packages) for kernel in kernels] == [
        (RELEASE, (one, extra)),
        (OTHER, (two,)),
    ]
    assert kernels[0].image() == kernel_files.bzimage(RELEASE, ALL)


def test_packages_that_are_no_kernel_are_named(here: Path) -> None:
    lone = packaged(here, RELEASE, "linux-modules-lone", image=False)
    with pytest.raises(UsageError, match=f"linux-modules-lone.deb: no vmlinuz of {RELEASE}"):
        from_packages([lone])
    foreign = packaged(here, RELEASE, "linux-image-arm", "arm64")
    with pytest.raises(UsageError, match="linux-image-arm.deb is for arm64, and guests are x86-64"):
        from_packages([foreign])
    (here / "empty/usr").mkdir(parents=True)
    with pytest.raises(UsageError, match="no kernel in nothing.deb"):
        from_packages([kernel_files.package(here / "empty", "nothing")])
    mixed = packaged(here, RELEASE, "linux-image-mixed")
    tree = here / "tree-linux-image-mixed"
    (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(kernel_files.bzimage(OTHER, ALL))
    mixed = kernel_files.package(tree, "linux-image-mixed")
    with pytest.raises(UsageError, match=f"kernel is {OTHER}, and the modules .* are of {RELEASE}"):
        from_packages([mixed])


OPTIONS = [
    (["--direct"], "--direct is of a kernel under test"),
    (["--modules", "mods"], "--modules is of a kernel under test"),
    (["--kernel", "nowhere"], "--kernel nowhere: there is no such file"),
    (["--kernel", "initrd"], "initrd is no bzImage"),
    (
        ["--kernel", "bzImage", "--modules", "nowhere"],
        "--modules nowhere: there is no such directory",
    ),
    (
        ["--kernel", "bzImage", "--kernel-deb", "x.deb"],
        "--kernel and --kernel-deb exclude each other",
    ),
    (
        ["--kernel", "bzImage", "--modules", "mods", "--direct"],
        "--modules goes with --kernel alone",
    ),
    (
        ["--kernel", "bzImage", "--libvirt", "test:///default"],
        "a kernel is installed into an image in the",
    ),
    (["--kernel-deb", "mods"], "--kernel-deb mods has no .deb in it"),
    (["--kernel-deb", "initrd"], "initrd is no Debian package"),
]


@pytest.mark.parametrize(("options", "line"), OPTIONS, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_is_one_line(
    pytester: pytest.Pytester,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    line: str,
) -> None:
    monkeypatch.setenv("VIRTPROOF_CACHE", str(pytester.path / "cache"))
    pytester.makepyfile(GUESTLESS)
    for name in ("bzImage", "mods", "initrd"):
        (pytester.path / name).symlink_to(here / name)
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [text for text in result.errlines + result.outlines if "virtproof:" in text]
    assert line in error


def test_each_image_runs_each_kernel(
    pytester: pytest.Pytester, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTPROOF_CACHE", str(pytester.path / "cache"))
    pytester.makepyfile(WHICH)
    packages = [packaged(here, one, f"linux-image-{one}") for one in (RELEASE, OTHER)]
    options = [f"--kernel-deb={package}" for package in packages]
    result = pytester.runpytest_inprocess(
        "--collect-only", "-q", "--image=debian-12", "--image=debian-12-virtio", *options
    )
    text = result.stdout.str()
    for image in ("debian-12", "debian-12-virtio"):
        for release in (RELEASE, OTHER):
            assert f"test_guest[{image}@{release}]" in text

"""What is read from a kernel's files: tables of modules, options, built-ins; and what is expected of them."""

from __future__ import annotations

import doctest
import gzip
import lzma
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

import kernel_files
from virtproof.errors import CommandError
from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.kernel import expect, offered, support
from virtproof.kernel.files import DebFiles, GuestFiles, TreeFiles
from virtproof.kernel.table import virtio_drivers
from virtproof.kernel.unpack import KernelFileError, unpacked

RELEASE = "9.8.7-test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return kernel_files.module(tmp_path_factory.mktemp("module"))


@pytest.fixture
def tree(tmp_path: Path, made: bytes) -> Path:
    """A kernel as a package lays it down: virtio_net a packed module, virtio_blk built in."""
    modules = tmp_path / "tree/lib/modules" / RELEASE
    (modules / "kernel/drivers/net").mkdir(parents=True)
    (modules / "kernel/drivers/net/virtio_net.ko.xz").write_bytes(lzma.compress(made))
    (modules / "kernel/drivers/net/8139cp.ko").write_bytes(b"not looked at")
    (modules / "modules.builtin").write_text("kernel/drivers/block/virtio_blk.ko\n")
    (tmp_path / "tree/boot").mkdir()
    (tmp_path / f"tree/boot/config-{RELEASE}").write_text(
        "CONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=m\n"
    )
    return tmp_path / "tree"


# --- tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [120, 136, 192])  # another kernel's size of what stands before
def test_a_table_is_read_wherever_it_stands(tmp_path: Path, before: int) -> None:
    data = kernel_files.module(tmp_path, features=(5, 16, 63, 65), before=before)
    (driver,) = virtio_drivers(data, "virtio_net.ko")
    assert (driver.name, driver.device_ids) == ("virtio_net", (1,))
    assert driver.features == {5, 16, 63, 65}
    assert driver.legacy == {5}


def test_without_a_legacy_table_both_are_one(tmp_path: Path) -> None:
    (driver,) = virtio_drivers(kernel_files.module(tmp_path, legacy=None), "x.ko")
    assert driver.legacy == driver.features == {5, 16, 17}


def test_a_table_of_the_bit_0_alone_is_in_no_section_of_the_file(tmp_path: Path) -> None:
    data = kernel_files.module(tmp_path, "virtio_pmem", 27, (0,), None)
    (driver,) = virtio_drivers(data, "x.ko")
    assert driver.features == {0}


@pytest.mark.parametrize(
    "packed", [lzma.compress, gzip.compress, zstandard.ZstdCompressor().compress, bytes]
)
def test_packed_modules_are_read(made: bytes, packed: object) -> None:
    (driver,) = virtio_drivers(packed(made), "x.ko")  # type: ignore[operator]
    assert driver.features == {5, 16, 17}


@pytest.mark.parametrize(
    "packed", [lzma.compress, gzip.compress, zstandard.ZstdCompressor().compress]
)
def test_a_bomb_and_half_a_file_are_refused(packed: object) -> None:
    bomb = packed(bytes(1 << 22))  # type: ignore[operator]
    with pytest.raises(KernelFileError, match=r"x\.ko unpacks to more than 1 MiB"):
        unpacked(bomb, "x.ko", most=1 << 20)
    with pytest.raises(KernelFileError, match=r"x\.ko"):
        virtio_drivers(packed(random.Random(1).randbytes(1 << 16))[:999], "x.ko")  # type: ignore[operator]


def test_a_damaged_module_is_one_clear_error_or_read(made: bytes) -> None:
    chance, refused = random.Random(20), 0
    for _ in range(300):
        data = bytearray(made[: chance.choice((len(made), chance.randrange(1, len(made))))])
        for _ in range(chance.randrange(1, 9)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            virtio_drivers(bytes(data), "x.ko")
        except KernelFileError:
            refused += 1
    assert refused > 100


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(KernelFileError, match="is no whole ELF file"):
        virtio_drivers(b"#!/bin/sh\n", "x.ko")
    with pytest.raises(KernelFileError, match="no kernel module for x86-64"):
        virtio_drivers(Path("/bin/sh").read_bytes(), "x.ko")


# --- files --------------------------------------------------------------------------------


def test_samples() -> None:
    for module in (support, expect, offered):
        failed, tried = doctest.testmod(module)
        assert (failed, tried > 0) == (0, True)


def test_a_tree_and_its_package_say_the_same(tree: Path) -> None:
    from_tree = support.support(TreeFiles(tree, RELEASE))
    package = DebFiles([kernel_files.package(tree, "linux-image-test")])
    from_deb = support.support(package)
    assert package.releases == {RELEASE}
    assert from_deb == from_tree
    assert (from_tree.has("virtio-net"), from_tree.has("virtio_blk")) == ("module", "builtin")
    assert (from_tree.has("8139cp"), from_tree.has("8139too")) == ("module", None)
    assert from_tree.config == {"VIRTIO_BLK": "y", "VIRTIO_NET": "m"}
    for one in (from_tree, from_deb):
        driver = one.virtio_driver("virtio_net")
        assert driver is not None
        assert driver.features == {5, 16, 17}
        assert one.virtio_driver("virtio_blk") is None


def test_a_kernel_without_config_and_list_says_so(tmp_path: Path) -> None:
    found = support.support(TreeFiles(tmp_path, RELEASE))
    assert (found.config, found.builtin, found.modules) == (None, None, {})


def test_a_file_that_is_no_package_is_named(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb: install dpkg")
    (tmp_path / "x.deb").write_text("x")
    with pytest.raises(KernelFileError, match=r"x\.deb is no Debian package"):
        DebFiles([tmp_path / "x.deb"])


class ShellHere:
    """Runs commands on this machine, with a uname that says RELEASE and a root of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        text = quote(command, args).replace("/lib/modules", f"{self._root}/lib/modules")
        text = text.replace("/boot/", f"{self._root}/boot/").replace("$(uname -r)", RELEASE)
        done = subprocess.run(
            ["sh", "-c", text.replace("uname -r", f"echo {RELEASE}")],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return checked(CommandResult(text, done.returncode, done.stdout, done.stderr), check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError(f"{path} written: {len(data)} bytes")


def test_a_guest_gives_the_same_files(tree: Path) -> None:
    from_guest = support.support(GuestFiles(ShellHere(tree)))
    assert from_guest == support.support(TreeFiles(tree, RELEASE))
    driver = from_guest.virtio_driver("virtio_net")
    assert driver is not None
    assert driver.features == {5, 16, 17}


# --- expectations -------------------------------------------------------------------------


def test_a_driver_is_expected_with_its_file(tree: Path) -> None:
    kernel = support.support(TreeFiles(tree, RELEASE))
    assert expect.driver(kernel, ("8139cp", "8139too")) == expect.Expected(
        True, f"{RELEASE} has kernel/drivers/net/8139cp.ko"
    )
    assert expect.driver(kernel, ("virtio_blk",)).why == f"{RELEASE} has virtio_blk built in"
    nothing = expect.driver(kernel, ("e1000", "e1000e"))
    assert not nothing.yes
    assert nothing.why == f"{RELEASE} has no e1000 or e1000e, built in or as a module"


def test_features_agree_or_are_named(tree: Path) -> None:
    kernel = support.support(TreeFiles(tree, RELEASE))
    offered = {0, 5, 6, 16, 24, 28, 29, 32, 40}
    found = expect.features(kernel, "virtio_net", 1, offered)
    assert found.must == {5, 16, 28, 29, 32}
    assert found.may == {5, 16, 28, 29, 32, 40}
    assert expect.disagreement(found, {5, 16, 28, 29, 32}, 1) == ""
    assert expect.disagreement(found, {5, 16, 28, 29, 32, 40}, 1) == ""
    said = expect.disagreement(found, {0, 5, 28, 29, 32}, 1)
    assert said.startswith("does not take NET_F_STATUS and takes NET_F_CSUM, against: offered")


def test_a_legacy_device_is_held_against_the_legacy_table(tree: Path) -> None:
    kernel = support.support(TreeFiles(tree, RELEASE))
    found = expect.features(kernel, "virtio_net", 1, {0, 5, 16, 24, 28}, modern=False)
    assert (found.must, found.may) == ({5, 28}, {5, 28})


def test_the_table_of_a_driver_that_is_built_in_is_not_known(tree: Path) -> None:
    kernel = support.support(TreeFiles(tree, RELEASE))
    found = expect.features(kernel, "virtio_blk", 2, {6, 9, 32})
    assert not found.known
    assert "is built in" in found.why
    assert expect.disagreement(found, {9, 32}, 2) == ""
    assert expect.disagreement(found, {9, 12, 32}, 2).startswith(
        "takes BLK_F_MQ"
    )  # was not offered


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, "QEMU tells no host-features"),
        ({"host-features": {"transports": ["VIRTIO_F_NEWER: as yet unknown"]}}, "VIRTIO_F_NEWER"),
    ],
)
def test_what_qemu_says_in_another_way_is_no_offer(status: dict[str, object], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        offered.offered_bits(status)


def test_bits_above_63_are_offered_too() -> None:
    told = {"transports": [], "unknown-dev-features": 1 << 40, "unknown-dev-features2": 2}
    assert offered.offered_bits({"host-features": told}) == {40, 65}

"""Each initramfs tool on a fake tree: what is configured, what is run, and how it fails."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from virtproof.errors import CommandError, UsageError
from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.transition.preparing import (
    DEFAULT_MODULES,
    PREPARERS,
    Dracut,
    InitramfsTools,
    Mkinitcpio,
    Mkinitfs,
    Mkinitrd,
    Preparer,
    preparer_for,
)

RELEASE = "6.1.0-56-amd64"
BASICS = ("sh", "grep", "sed", "sort", "find", "tail", "mkdir", "cat")
PROGRAMS: dict[str, tuple[str, ...]] = {
    "initramfs-tools": ("update-initramfs", "mkinitramfs"),
    "dracut": ("dracut",),
    "mkinitrd": ("mkinitrd",),
    "mkinitcpio": ("mkinitcpio",),
    "mkinitfs": ("mkinitfs",),
}
CONFIGURATION = {
    "initramfs-tools": "etc/initramfs-tools/modules",
    "dracut": "etc/dracut.conf.d/90-virtproof.conf",
    "mkinitrd": "etc/modprobe.conf",
    "mkinitcpio": "etc/mkinitcpio.conf",
    "mkinitfs": "etc/mkinitfs/features.d/virtproof.modules",
}


class FakeTree:
    """A guest that is a directory: its absolute paths are below ``root``, its tools log."""

    def __init__(self, root: Path, *tools: str) -> None:
        self.root = root
        self.bin = root / "bin"
        for folder in ("bin", "etc/initramfs-tools", "etc/mkinitfs", "boot"):
            (root / folder).mkdir(parents=True)
        for folder in ("block", "virtio"):
            (root / f"lib/modules/{RELEASE}/kernel/drivers/{folder}").mkdir(parents=True)
        drivers = root / f"lib/modules/{RELEASE}/kernel/drivers"
        (drivers / "block/virtio_blk.ko.gz").touch()
        (drivers / "virtio/virtio_pci.ko.gz").touch()
        for name in BASICS:
            found = shutil.which(name)
            assert found is not None
            (self.bin / name).symlink_to(found)
        for tool in tools:
            for program in PROGRAMS[tool]:
                self.program(program, 'echo "${0##*/} $*" >>"$LOG"')

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    @property
    def log(self) -> list[str]:
        path = self.root / "log"
        return path.read_text().splitlines() if path.exists() else []

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        assert timeout_s is None or timeout_s >= 60  # a tool's first second is slow when emulated
        text = quote(command, args)
        for folder in ("/etc/", "/boot/", "/lib/modules/"):
            text = text.replace(folder, f"{self.root}{folder}")
        text = text.replace("PATH=$PATH:/usr/sbin:/sbin; ", "")
        environment = {"PATH": str(self.bin), "LOG": str(self.root / "log")}
        done = subprocess.run(
            ["/bin/sh", "-c", text], env=environment, capture_output=True, text=True, check=False
        )
        return checked(CommandResult(text, done.returncode, done.stdout, done.stderr), check)

    def put(self, path: str, data: bytes) -> None:
        (self.root / path.lstrip("/")).write_bytes(data)


@pytest.mark.parametrize("preparer", PREPARERS, ids=lambda preparer: preparer.name)
def test_twice_is_the_same_as_once(preparer: Preparer, tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, preparer.name)
    assert preparer_for(tree) is preparer
    preparer.prepare(tree, DEFAULT_MODULES, RELEASE)
    once = tree.text(CONFIGURATION[preparer.name])
    assert "virtio_blk" in once.replace("[-_]", "_")
    assert len(tree.log) == 1
    preparer.prepare(tree, DEFAULT_MODULES, RELEASE)
    assert tree.text(CONFIGURATION[preparer.name]) == once
    assert len(tree.log) == 2


def test_initramfs_tools_keeps_a_last_line_without_its_end(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "initramfs-tools")
    (tmp_path / "etc/initramfs-tools/modules").write_text("# mine\nvirtio_blk\next4")
    InitramfsTools().prepare(tree, ("virtio_pci", "virtio_blk"), RELEASE)
    assert tree.text("etc/initramfs-tools/modules") == "# mine\nvirtio_blk\next4\nvirtio_pci\n"
    assert tree.log == [f"update-initramfs -u -k {RELEASE}"]


def test_dracut_makes_the_image_that_boots(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "dracut")
    Dracut().prepare(tree, ("virtio_blk",), RELEASE)
    (tmp_path / f"boot/initrd.img-{RELEASE}").touch()
    Dracut().prepare(tree, ("virtio_blk",), RELEASE)
    assert tree.text("etc/dracut.conf.d/90-virtproof.conf") == 'add_drivers+=" virtio_blk "\n'
    image = f"{tmp_path}/boot/initrd.img-{RELEASE}"
    assert tree.log == [
        f"dracut --force --kver {RELEASE}",
        f"dracut --force {image} --kver {RELEASE}",
    ]


def test_mkinitrd_runs_as_the_page_has_it(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "mkinitrd")
    Mkinitrd().prepare(tree, ("virtio_pci", "virtio_blk"), RELEASE)
    image = f"{tmp_path}/boot/initrd-{RELEASE}.img"
    assert tree.log == [f"mkinitrd --with=virtio_pci --with=virtio_blk -f {image} {RELEASE}"]
    assert tree.text("etc/modprobe.conf").splitlines() == [
        "alias scsi_hostadapter90 virtio_pci",
        "alias scsi_hostadapter91 virtio_blk",
    ]


def test_mkinitcpio_adds_to_the_modules(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "mkinitcpio")
    (tmp_path / "etc/mkinitcpio.conf").write_text("MODULES=(ext4)\n")
    Mkinitcpio().prepare(tree, ("virtio_pci", "virtio_blk"), RELEASE)
    asked = f'. {tmp_path}/etc/mkinitcpio.conf; echo "${{MODULES[*]}}"'
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "ext4 virtio_pci virtio_blk\n"
    assert tree.log == ["mkinitcpio -P"]


def test_mkinitfs_lists_the_files_that_there_are(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "mkinitfs")
    (tmp_path / "etc/mkinitfs/mkinitfs.conf").write_text('features="ata ext4"\n')
    Mkinitfs().prepare(tree, DEFAULT_MODULES, RELEASE)
    assert tree.text("etc/mkinitfs/features.d/virtproof.modules").splitlines() == [
        "kernel/drivers/block/virtio_blk.ko*",
        "kernel/drivers/virtio/virtio_pci.ko*",
    ]
    asked = f'. {tmp_path}/etc/mkinitfs/mkinitfs.conf; echo "$features"'
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "ata ext4 virtproof\n"
    assert tree.log == [f"mkinitfs {RELEASE}"]
    once = tree.text("etc/mkinitfs/mkinitfs.conf")
    Mkinitfs().prepare(tree, DEFAULT_MODULES, RELEASE)
    assert tree.text("etc/mkinitfs/mkinitfs.conf") == once


@pytest.mark.parametrize("preparer", PREPARERS, ids=lambda preparer: preparer.name)
def test_a_failing_tool_is_named_with_its_last_line(preparer: Preparer, tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, preparer.name)
    for program in PROGRAMS[preparer.name]:
        tree.program(program, r"printf 'first\n\033[31mno space left\n' >&2; exit 4")
    with pytest.raises(CommandError) as caught:
        preparer.prepare(tree, DEFAULT_MODULES, RELEASE)
    assert str(caught.value) == (
        f"{preparer.name} could not make the initramfs of {RELEASE}, exit status 4: "
        "?[31mno space left"
    )
    assert "first" in caught.value.detail


def test_a_configuration_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "initramfs-tools")
    (tmp_path / "etc/initramfs-tools/modules").mkdir()
    with pytest.raises(CommandError, match="initramfs-tools could not be configured"):
        InitramfsTools().prepare(tree, DEFAULT_MODULES, RELEASE)
    assert tree.log == []


def test_the_tool_that_makes_the_images_is_chosen(tmp_path: Path) -> None:
    both = FakeTree(tmp_path / "both", "dracut", "mkinitrd")
    assert preparer_for(both).name == "dracut"
    wrapper = FakeTree(tmp_path / "wrapper", "dracut")
    wrapper.program("update-initramfs", "true")  # as Debian's dracut has it
    assert preparer_for(wrapper).name == "dracut"


def test_no_tool_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no initramfs tool .*known: initramfs-tools, "):
        preparer_for(FakeTree(tmp_path))


@pytest.mark.parametrize("module", ["virtio blk", "$(reboot)", "-x", "", "a;b", "virtio_blk\n"])
def test_a_module_name_that_is_none_is_refused(module: str, tmp_path: Path) -> None:
    for preparer in PREPARERS:
        tree = FakeTree(tmp_path / preparer.name, preparer.name)
        with pytest.raises(UsageError, match="is no module name"):
            preparer.prepare(tree, (module,), RELEASE)
        assert tree.log == []


def test_a_release_that_is_none_is_refused(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path, "dracut")
    with pytest.raises(UsageError, match="is no kernel release"):
        Dracut().prepare(tree, DEFAULT_MODULES, "6.1 -H")

"""virt-v2v-in-place really installs drivers into phony installations, and what it did is read back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phony_windows as phony
import windows_packages as packages
from virtproof.cli import main
from virtproof.errors import ImageError, MissingToolError, UsageError
from virtproof.windows import image, injection
from virtproof.windows.appliance import KernelTree
from virtproof.windows.bootstart import judge, ready
from virtproof.windows.platform import Arch

KINDS = {
    "windows-7": {"version": "6.1", "build": 7601, "product": "Windows 7 Professional"},
    "windows-10": {},
    "windows-11": {"build": 26100},
}
DRIVERS = ("viostor", "vioscsi", "NetKVM")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where virt-v2v finds rhsrvany.exe (which nothing runs here)."""
    if lacks := phony.missing_tools():
        pytest.skip(f"no phony Windows can be made: apt install {lacks}")
    tools = tmp_path / "virt-tools"
    tools.mkdir()
    (tools / "rhsrvany.exe").write_bytes(packages.executable(Arch.X86, (1, 0, 0, 0)))
    monkeypatch.setenv("VIRT_TOOLS_DATA_DIR", str(tools))
    return tmp_path


def windows(folder: Path, **fields: object) -> Path:
    program = packages.executable(Arch.AMD64, (10, 0, 0, 1))
    return phony.disk(folder / "windows.raw", phony.installed(program, **fields), size_mib=256)


def medium(folder: Path) -> Path:
    """A folder like virtio-win's ISO; virt-v2v copies what fits, and looks at no signature."""
    for driver in DRIVERS:
        for name in ("w7", "w10", "w11"):
            place = folder / "virtio-win" / driver / name / "amd64"
            place.mkdir(parents=True)
            for ending in ("inf", "sys", "cat"):
                (place / f"{driver.lower()}.{ending}").write_text("x")
    return folder / "virtio-win"


@pytest.mark.real
@pytest.mark.boots(3)
@pytest.mark.parametrize("kind", ["windows-11"])
def test_drivers_are_injected_and_read_back(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(injection.PROGRAM) is None:
        pytest.skip("needs virt-v2v-in-place: apt install virt-v2v")
    overlay = folder / ("long-name-" * 8 + ".qcow2")  # no socket could lie beside it
    disk = windows(folder, **KINDS[kind])
    digest = image.digest(disk)
    assert not ready(judge(image.inspect(disk)), "viostor")  # the control: it was not there before
    command = ["windows-image", str(disk), "--inject", str(medium(folder)), "-o", str(overlay)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "viostor: ready to boot from it" in said.out
    assert "vioscsi: would not boot from it" in said.out
    assert ready(judge(image.inspect(overlay, overlay=True)), "viostor")
    assert image.digest(disk) == digest
    assert sorted(path.name for path in folder.iterdir()) == [
        overlay.name,
        "virt-tools",
        "virtio-win",
        "windows.raw",
    ]
    if injection.installed_version() == "2.2.0":
        assert "package guestor.inf_tmp" in said.out
        assert "as guestor.inf_tmp" in said.err


@pytest.mark.parametrize(
    ("files", "line"),
    [({"readme.txt": b"no Windows"}, "no Windows is on it"), (None, "a system sleeps")],
    ids=["no-windows", "hibernated"],
)
def test_what_cannot_be_changed_is_refused_and_leaves_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, bytes] | None,
    line: str,
) -> None:
    monkeypatch.setattr(injection, "installed_version", lambda: "2.2.0")
    if files is None:
        files = phony.installed(b"MZ") | {"hiberfil.sys": b"HIBR" + bytes(4096)}
    disk = phony.disk(folder / "windows.raw", files)
    drivers = medium(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(ImageError, match=line):
        injection.inject(disk, drivers, folder / "o", no_tree, kvm=False, say=print)
    assert sorted(folder.iterdir()) == before


def stub(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """A virt-v2v that only does that."""
    program = folder / "virt-v2v-in-place"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo 2.2.0 && exit\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("ending", ["exit 1", "kill -9 $$"])
def test_a_virt_v2v_that_fails_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Its own line is told."""
    stub(folder, monkeypatch, f"echo virt-v2v-in-place: error: no room\n{ending}")
    disk, drivers = windows(folder), medium(folder)
    before = sorted(folder.iterdir())
    empty = KernelTree(folder / "vmlinuz", folder / "modules")
    with pytest.raises(ImageError, match="windows.raw: virt-v2v: no room"):
        injection.inject(disk, drivers, folder / "o", lambda _: empty, kvm=False, say=print)
    assert sorted(folder.iterdir()) == before


HELD = """
import sys
from pathlib import Path
from virtproof.windows import injection
from virtproof.windows.appliance import KernelTree

folder = Path(sys.argv[1])
def tree(scratch):
    print("there", flush=True)
    sys.stdin.read()
injection.inject(folder / "windows.raw", folder / "virtio-win", folder / "o", tree, kvm=False, say=print)
"""


def test_what_a_killed_run_left_is_no_overlay_and_goes_with_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(folder, monkeypatch, "exit 0")
    disk, drivers = windows(folder), medium(folder)
    before = sorted(folder.iterdir())
    argv = [sys.executable, "-c", HELD, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"there\n"
        killed.kill()
    assert sorted(folder.iterdir()) == sorted([*before, folder / ".o.making"])
    empty = KernelTree(folder / "vmlinuz", folder / "modules")
    injection.inject(disk, drivers, folder / "o", lambda _: empty, kvm=False, say=print)
    assert sorted(folder.iterdir()) == sorted([*before, folder / "o"])


def test_a_place_that_cannot_be_written_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(folder, monkeypatch, "exit 0")
    disk, drivers, nowhere = windows(folder), medium(folder), folder / "none" / "o"
    with pytest.raises(ImageError, match=f"cannot write {nowhere}: No such file or directory"):
        injection.inject(disk, drivers, nowhere, no_tree, kvm=False, say=print)


def no_tree(scratch: Path) -> KernelTree:
    raise AssertionError(scratch)


def test_what_cannot_be_injected_is_refused_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, drivers, taken = windows(folder), medium(folder), folder / "taken.qcow2"
    taken.write_text("mine")
    with pytest.raises(ImageError, match="is there already"):
        injection.inject(disk, drivers, taken, no_tree, kvm=False, say=print)
    assert taken.read_text() == "mine"
    with pytest.raises(ImageError, match="no such ISO or directory"):
        injection.inject(disk, folder / "none.iso", folder / "o", no_tree, kvm=False, say=print)
    monkeypatch.setattr(injection, "PROGRAM", "no-such-virt-v2v")
    with pytest.raises(MissingToolError, match="apt install virt-v2v"):
        injection.inject(disk, drivers, folder / "o", no_tree, kvm=False, say=print)
    assert not (folder / "o").exists()


def test_an_overlay_needs_both_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["windows-image", "win.qcow2", "--inject", "virtio-win.iso"]) == 2
    assert "--inject and --output go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "faults"), [("2.2.0", 2), ("2.0.7", 2), ("2.5.1", 0), ("unknown", 0)]
)
def test_known_faults_are_of_the_versions_that_were_seen(version: str, faults: int) -> None:
    assert len(injection.known_faults(version)) == faults


def test_a_usage_error_is_one(folder: Path) -> None:
    with pytest.raises(UsageError):
        image.inspect(folder / "none.qcow2")

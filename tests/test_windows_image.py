"""A switched-off Windows is read and judged: phony installations, each of them with one thing wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import phony_windows as phony
from virtproof.cli import main
from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError
from virtproof.images import scratch
from virtproof.windows import image
from virtproof.windows.bootstart import Finding, WindowsFacts, judge, parse, ready
from virtproof.windows.hives import Hive
from virtproof.windows.offline import driver_file

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "Windows/System32/config/"
SYS = "Windows/System32/drivers/viostor.sys"
VIOSTOR: dict[str, Any] = {
    "Start": 0,
    "Type": 1,
    "ErrorControl": 1,
    "Group": "SCSI miniport",
    "ImagePath": "System32\\drivers\\viostor.sys",
}
CLAIMED = {"oem1.inf": b"\1\xff\0\0"}
DEVICES = {
    "VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00": CLAIMED,
    "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01": CLAIMED,
}
CRITICAL = {
    f"PCI#{name}": {"Service": "viostor", "ClassGUID": "{4D36E97B-E325-11CE-BFC1-08002BE10318}"}
    for name in DEVICES
}
KINDS: dict[str, dict[str, Any]] = {
    "Windows 7": {
        "version": "6.1",
        "build": 7601,
        "product": "Windows 7 Professional",
        "architecture": "x86",
        "critical": CRITICAL,
    },
    "Windows 10": {"devices": DEVICES},
    "Windows 11": {"build": 26100, "devices": DEVICES},
}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Makes a disk: fields of ``phony.registry``, and what else is to be on it."""
    if lacks := phony.missing_tools():
        pytest.skip(f"no phony Windows can be made: apt install {lacks}")

    def make(
        files: Mapping[str, bytes | None] | None = None,
        *,
        dirty: bool = False,
        unfinished: bool = False,
        **fields: Any,
    ) -> Path:
        system, software = phony.registry(**{"services": {"viostor": VIOSTOR}, **fields})
        content: dict[str, bytes | None] = {
            CONFIG + "SYSTEM": phony.hive(system, unfinished=unfinished),
            CONFIG + "SOFTWARE": phony.hive(software),
            SYS: b"MZ",
            **(files or {}),
        }
        there = {name: data for name, data in content.items() if data is not None}
        return phony.disk(tmp_path / "windows.raw", there, dirty=dirty)

    return make


def faults(facts: WindowsFacts, driver: str = "viostor") -> list[str]:
    return [one.check.value for one in judge(facts) if not one.ok and one.driver in ("", driver)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_installation_is_ready_for_viostor(made: Callable[..., Path], kind: str) -> None:
    disk = made(**KINDS[kind])
    before = image.digest(disk)
    facts = image.inspect(disk)
    assert facts.name.startswith(kind)
    assert facts.architecture == KINDS[kind].get("architecture", "AMD64")
    assert faults(facts) == []
    assert ready(judge(facts), "viostor")
    assert not ready(judge(facts), "vioscsi")  # which was not installed
    assert faults(facts, "vioscsi") == ["service"]
    assert image.digest(disk) == before


def test_a_qcow2_is_read_as_well(made: Callable[..., Path]) -> None:
    disk = made(devices=DEVICES)
    packed = disk.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, packed], check=True)
    assert faults(image.inspect(packed)) == []


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "not-installed": ({"services": {}}, "service", "no service viostor"),
    "on-demand": ({"services": {"viostor": VIOSTOR | {"Start": 3}}}, "boot-start", "on demand"),
    "disabled": ({"services": {"viostor": VIOSTOR | {"Start": 4}}}, "boot-start", "disabled"),
    "no-driver": ({"services": {"viostor": VIOSTOR | {"Type": 16}}}, "boot-start", "Type is 16"),
    "override": (
        {"services": {"viostor": VIOSTOR | {"StartOverride": {"0": 3}}}},
        "start-override",
        "on demand",
    ),
    "file-gone": ({"files": {SYS: None}}, "driver-file", "is not on the volume"),
    "no-modern-id": (
        {"devices": {k: v for k, v in DEVICES.items() if "DEV_1001" in k}},
        "ids",
        "DriverDatabase has no 1AF4:1042",
    ),
    "no-ids": ({"devices": {}}, "ids", "no 1AF4:1001, no 1AF4:1042"),
    "unclaimed-id": (
        {"devices": DEVICES | {"VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00": {}}},
        "ids",
        "no 1AF4:1001",
    ),
    "hibernated": ({"files": {"hiberfil.sys": b"HIBR" + bytes(4096)}}, "awake", "sleeps"),
    "dirty": ({"dirty": True}, "ntfs-clean", "was not closed"),
    "unfinished": ({"unfinished": True}, "hives-whole", "SYSTEM"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_else(made: Callable[..., Path], name: str) -> None:
    fields, check, detail = WRONG[name]
    found = judge(image.inspect(made(**{"devices": DEVICES, **fields})))
    wrong = [one for one in found if not one.ok and one.driver in ("", "viostor")]
    assert [one.check.value for one in wrong] == [check]
    assert detail in wrong[0].detail
    assert not ready(found, "viostor")


def test_windows_7_looks_elsewhere(made: Callable[..., Path]) -> None:
    """Control: what makes a Windows 10 ready is not what a Windows 7 reads."""
    facts = image.inspect(made(**(KINDS["Windows 7"] | {"critical": {}})))
    assert faults(facts) == ["ids"]
    others = {name: {"Service": "other"} for name in CRITICAL}
    assert faults(image.inspect(made(**(KINDS["Windows 7"] | {"critical": others})))) == ["ids"]


def test_a_used_up_hibernation_file_is_none(made: Callable[..., Path]) -> None:
    assert faults(image.inspect(made({"hiberfil.sys": b"WAKE" + bytes(64)}, devices=DEVICES))) == []


# --- disks that hold no readable Windows ---------------------------------------------------


def refused(disk: Path) -> str:
    with pytest.raises(ImageError) as caught:
        image.inspect(disk)
    text = str(caught.value)
    assert str(disk) in text
    assert "\n" not in text
    return text


READ = """
from pathlib import Path
from virtproof.windows import image
image.inspect(Path("disk"), overlay=True)
"""


def test_a_killed_reading_leaves_nothing_that_the_next_does_not_remove(tmp_path: Path) -> None:
    """Its qemu-nbd, a stub that stands, is killed with it; in TMPDIR there is nothing at any time."""
    programs, own, runtime = (tmp_path / name for name in ("bin", "tmp", "run"))
    for folder in (programs, own):
        folder.mkdir()
    (programs / "qemu-nbd").write_text(f"#!/bin/sh\n: >{tmp_path}/begun\nexec sleep 600\n")
    (programs / "qemu-nbd").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "TMPDIR": str(own),
        "VIRTPROOF_RUNTIME": str(runtime),
    }
    reading = subprocess.Popen([sys.executable, "-c", READ], env=environment, cwd=tmp_path)
    try:
        begun = tmp_path / "begun"
        assert wait_for(lambda: begun.exists() or None, Deadline.after(60), 0.02), "it never began"
    finally:
        reading.kill()
        reading.wait()
    assert list(own.iterdir()) == []
    assert len(list((runtime / scratch.SHORT).iterdir())) == 1
    scratch.sweep(runtime / scratch.SHORT)
    assert list((runtime / scratch.SHORT).iterdir()) == []


def test_a_disk_without_windows_says_what_it_has(made: Callable[..., Path]) -> None:
    said = refused(made({CONFIG + "SYSTEM": None, CONFIG + "SOFTWARE": None}))
    assert "no Windows is on it" in said
    assert "its volumes are: ntfs" in said


def test_bitlocker_is_named(made: Callable[..., Path]) -> None:
    disk = made()
    with disk.open("r+b") as file:
        file.seek(phony.MIB + 3)
        file.write(b"-FVE-FS-")
    assert "volume 1 is locked by BitLocker (decrypt it" in refused(disk)


@pytest.mark.parametrize(
    ("hive", "line"),
    [
        (b"", "hive SYSTEM is none: 0 bytes"),
        (b"regf" + bytes(8192), "hive SYSTEM is damaged"),
        (b"PK\3\4" + bytes(8192), "hive SYSTEM is none"),
        (phony.hive({"Select": {}}), "Select has no Current"),
        (phony.hive({"Select": {"Current": "1"}}), "Select has no Current"),
        (phony.hive(phony.registry()[0])[:5000], "hive SYSTEM"),
    ],
    ids=["empty", "zeros", "zip", "no-current", "text-current", "cut"],
)
def test_a_damaged_hive_is_one_line(made: Callable[..., Path], hive: bytes, line: str) -> None:
    assert line in refused(made({CONFIG + "SYSTEM": hive}))


def test_a_disk_that_is_cut_off_is_one_line(made: Callable[..., Path]) -> None:
    disk = made()
    with disk.open("r+b") as file:
        file.truncate(8 * phony.MIB)
    refused(disk)


def test_a_process_that_dies_of_an_image_is_one_line(
    made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = made()
    dying = shutil.which("false")
    assert dying
    monkeypatch.setattr(sys, "executable", dying)
    assert "died of it (status 1)" in refused(disk)


def looped(data: bytes) -> bytes:
    """The hive with every key's list of subkeys pointing at the root's: a tree without an end."""
    changed = bytearray(data)
    first = data.index(b"nk")
    root_list, root_count = data[first + 28 : first + 32], data[first + 20 : first + 24]
    at = first
    while (at := data.find(b"nk", at + 2)) > 0:
        changed[at + 20 : at + 24], changed[at + 28 : at + 32] = root_count, root_list
    return bytes(changed)


def test_a_hive_that_loops_ends(made: Callable[..., Path]) -> None:
    looping = looped(phony.hive(phony.registry()[0]))
    hive = Hive("SYSTEM", looping)
    assert hive.has("\\".join(["Select"] * 200))  # the control: it does loop
    refused(made({CONFIG + "SYSTEM": looping}))


def test_a_key_with_endless_subkeys_is_refused() -> None:
    data = bytearray(phony.hive({"A": {"B": {}}}))
    at = data.index(b"lf")
    data[at + 2 : at + 4] = b"\xff\xff"
    with pytest.raises(ImageError, match="hive SYSTEM"):
        Hive("SYSTEM", bytes(data)).has("A\\no such key")


# --- as a user runs it ----------------------------------------------------------------------


def suite(*options: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-n", "0", "-q", "-rfs"]
    done = subprocess.run(
        [*command, "suites/windows/test_switched_off.py", *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_suite_is_green_on_a_ready_image_and_red_on_another(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    options = ("--out", tmp_path / "out")
    good = made(devices=DEVICES)
    status, said = suite(f"--windows-image={good}", *options)
    assert status == 0, said
    assert "vioscsi is not installed" in said
    bad = made(devices=DEVICES, services={"viostor": VIOSTOR | {"StartOverride": {"0": 3}}})
    status, said = suite(f"--windows-image={bad}", *options)
    assert status == 1
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2, said
    assert "start-override-viostor" in failed[0]
    assert "test_one_boot_driver_is_ready" in failed[1]


def test_without_an_image_the_suite_says_what_to_give(tmp_path: Path) -> None:
    status, said = suite("--out", tmp_path / "out")
    assert status == 0
    assert "--windows-image=win.qcow2" in said
    assert "passed" not in said


def test_a_missing_image_is_a_usage_error(tmp_path: Path) -> None:
    status, said = suite("--windows-image=nope.qcow2", "--out", tmp_path / "out")
    assert status == 4
    assert "--windows-image nope.qcow2: there is no such file" in said


@pytest.mark.parametrize(("fields", "status"), [({"devices": DEVICES}, 0), ({}, 1)])
def test_the_command_says_and_exits(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str], fields: Any, status: int
) -> None:
    disk = made(**fields)
    assert main(["windows-image", str(disk)]) == status
    said = capsys.readouterr().out
    assert "Windows 10 Pro (build 19045, AMD64)" in said
    ready_line = "viostor: ready to boot from it"
    assert (ready_line in said) == (status == 0)
    assert main(["windows-image", "--json", str(disk)]) == status
    assert json.loads(capsys.readouterr().out)["ready"]["viostor"] == (status == 0)


# --- the parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("System32\\drivers\\viostor.sys", "/Windows/system32/drivers/viostor.sys"),
        ("\\SystemRoot\\System32\\drivers\\a.sys", "/Windows/system32/drivers/a.sys"),
        ("%SystemRoot%\\system32\\a.sys", "/Windows/system32/a.sys"),
        (
            "\\SystemRoot\\System32\\DriverStore\\FileRepository\\v.inf_amd64_1\\viostor.sys",
            "/Windows/system32/driverstore/filerepository/v.inf_amd64_1/viostor.sys",
        ),
    ],
)
def test_an_image_path_is_found_on_the_volume(path: str, file: str) -> None:
    assert driver_file(path) == file


def test_hives_are_as_libhivex_reads_them(tmp_path: Path) -> None:
    """The oracle: the hives that the tests make are hives to others too."""
    if shutil.which("hivexget") is None:
        pytest.skip("no oracle for hives: apt install libhivex-bin")
    system = phony.registry(services={"viostor": VIOSTOR}, devices=DEVICES)[0]
    path = tmp_path / "SYSTEM"
    path.write_bytes(phony.hive(system))
    command = ["hivexget", path, "ControlSet001\\Services\\viostor"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert '"Start"=dword:00000000' in said
    assert Hive("SYSTEM", path.read_bytes()).values("controlset001\\services\\VIOSTOR") == {
        name.lower(): value for name, value in VIOSTOR.items()
    }


@pytest.mark.parametrize("lacking", ["product", "build", "architecture", "services"])
def test_facts_that_are_none_are_refused(lacking: str) -> None:
    told: dict[str, Any] = {
        "product": "Windows 10 Pro",
        "major": 10,
        "minor": 0,
        "build": "19045",
        "architecture": "AMD64",
        "control_set": "ControlSet001",
        "dirty": False,
        "hibernated": False,
        "unfinished": [],
        "services": {"viostor": None},
        "critical": {},
        "database": {},
    }
    assert [one for one in judge(parse(json.loads(json.dumps(told)))) if isinstance(one, Finding)]
    if lacking != "services":
        with pytest.raises(ImageError, match="does not say what Windows it is"):
            parse(told | {lacking: None})

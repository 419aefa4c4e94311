"""``./run virtio-win`` and ``pytest -k windows --virtio-win``: table, difference, exit status, ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virtproof.cli import main
from virtproof.windows.platform import Arch
from windows_packages import VERSION, Authorities, Signing, good, write_package

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def virtio_win(test_root: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command, with the tests' root trusted; status, and all that it said."""

    def run(*arguments: object, trusted: bool = True) -> tuple[int, str]:
        trust = ["--trust", str(test_root)] if trusted else []
        status = main(["virtio-win", *map(str, arguments), *trust])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture
def changed(whole: Path, tmp_path: Path, authorities: Authorities, scratch: Path) -> Path:
    """The whole medium as a newer one, in which something of each kind has changed."""
    root = tmp_path / "virtio-win-0.1.272"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "vioscsi" / "w10" / "x86")
    newer = (100, 101, 104, 27200)
    for windows, arch in (("w11", Arch.AMD64), ("w11", Arch.ARM64)):
        netkvm = replace(good("NetKVM", windows, arch), inf_version=newer, sys_version=newer)
        write_package(root, netkvm, authorities, scratch)
    one_id = replace(
        good("viorng", "w10", Arch.AMD64), ids=good("viorng", "w10", Arch.AMD64).ids[1:]
    )
    write_package(root, one_id, authorities, scratch)
    by_vendor = replace(good("viofs", "w11", Arch.AMD64), signing=Signing("vendor"))
    write_package(root, by_vendor, authorities, scratch)
    write_package(root, good("viocrypt", "w11", Arch.AMD64), authorities, scratch)
    return root


def test_a_whole_medium_is_a_table_without_a_defect(virtio_win: Command, whole: Path) -> None:
    status, said = virtio_win(whole)
    lines = said.splitlines()
    assert status == 0
    assert lines[0] == "virtio-win-0.1.271"
    assert lines[2].split() == ["driver", "version", "date", "ids", "signature", "for"]
    (viostor,) = (line for line in lines if line.startswith("viostor"))
    version = ".".join(str(part) for part in VERSION)
    assert viostor.split("  ")[1:] != []
    assert " ".join(viostor.split()) == (
        f"viostor {version} 2026-05-20 1001 1042 attested w10 (x86 amd64), 2k22 (amd64), w11 (amd64 ARM64)"
    )
    assert lines[-1] == "61 packages of 13 drivers: no defect"


def test_defects_are_told_once_for_all_platforms(virtio_win: Command, whole: Path) -> None:
    """Of one whose root nobody trusts, each driver's catalog is test-signed."""
    status, said = virtio_win(whole, trusted=False)
    assert status == 1
    assert (
        said.splitlines()[-1]
        == "61 packages of 13 drivers: 61 defects, 61 packages not as they should be"
    )
    told = [line for line in said.splitlines() if "signature-class" in line]
    assert len(told) == 13
    assert "test-signed: 'Test Root 2010' is no root of Windows" in told[0]
    assert told[0].endswith("w10 (x86 amd64), 2k22 (amd64), w11 (amd64 ARM64)")


def test_json_says_the_same(virtio_win: Command, whole: Path, changed: Path) -> None:
    status, said = virtio_win(whole, "--json")
    found = json.loads(said)
    assert status == 0
    assert found["defects"] == []
    assert {row["driver"] for row in found["rows"]} >= {"viostor", "NetKVM"}
    assert found["rows"][0]["signature"] == "attested"
    status, said = virtio_win(whole, changed, "--json")
    assert status == 1
    changes = json.loads(said)["changes"]
    assert {"lost", "gained", "version", "ids", "signature", "defect"} == {
        c["what"] for c in changes
    }


def test_the_difference_names_what_is_worse_first(
    virtio_win: Command, whole: Path, changed: Path
) -> None:
    status, said = virtio_win(whole, changed)
    assert status == 1
    worse, other = said.split("\nother:\n")
    squeezed = [" ".join(line.split()) for line in worse.splitlines()]
    assert "vioscsi lost was 100.101.104.27100 of 2026-05-20 w10 (x86)" in squeezed
    assert "viorng ids -1005 w10 (amd64)" in squeezed
    assert "viofs signature attested -> vendor w11 (amd64)" in squeezed
    assert any(line.startswith("vioscsi defect files-complete: ") for line in squeezed)
    squeezed = [" ".join(line.split()) for line in other.splitlines()]
    versions = "100.101.104.27100 of 2026-05-20 -> 100.101.104.27200 of 2026-05-20"
    assert f"NetKVM version {versions} w11 (amd64 ARM64)" in squeezed
    assert "viocrypt gained is 100.101.104.27100 of 2026-05-20 w11 (amd64)" in squeezed


def test_back_again_what_was_lost_is_gained_and_mended(
    virtio_win: Command, whole: Path, changed: Path
) -> None:
    status, said = virtio_win(changed, whole)
    squeezed = [" ".join(line.split()) for line in said.splitlines()]
    assert status == 1  # the older NetKVM, and viocrypt is lost
    assert "viocrypt lost was 100.101.104.27100 of 2026-05-20 w11 (amd64)" in squeezed
    assert "viofs signature vendor -> attested w11 (amd64)" in squeezed
    assert any(line.startswith("viofs mended signature-class") for line in squeezed)


def test_no_difference_is_said(virtio_win: Command, whole: Path) -> None:
    status, said = virtio_win(whole, whole)
    assert status == 0
    assert said.splitlines()[-1].startswith("no difference in ")


def test_names_on_a_medium_do_nothing_to_the_terminal(
    virtio_win: Command, tmp_path: Path, authorities: Authorities, scratch: Path
) -> None:
    place = write_package(tmp_path, good("viostor", "w11", Arch.AMD64), authorities, scratch)
    (place / "viostor.sys").unlink()
    evil = tmp_path / "a\x1b[2Jb" / "w11" / "amd64"
    evil.mkdir(parents=True)
    (evil / "c\x1b]0;d.inf").write_bytes(b"[Version]\nSignature=\x1b[31m\n")
    status, said = virtio_win(tmp_path)
    assert status == 1
    assert "\x1b" not in said
    assert "a?[2Jb" in said


@pytest.mark.parametrize("name", ["nowhere.iso", "text.iso", "empty", "pipe"])
def test_what_is_no_medium_is_one_line(virtio_win: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.iso").write_text("no ISO\n" * 10_000)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    status, said = virtio_win(tmp_path / name)
    assert status == 2
    assert said.startswith("virtproof: error: ")
    assert said.count("\n") == 1


def test_a_root_that_is_none_is_one_line(virtio_win: Command, whole: Path) -> None:
    status, said = virtio_win(whole, "--trust", "/dev/null", trusted=False)
    assert (status, said) == (
        2,
        "virtproof: error: /dev/null: is no PEM certificate (give a root's certificate as PEM)\n",
    )


# --- pytest -----------------------------------------------------------------------------------


def suite(out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """``pytest -k windows`` in the checkout, its results elsewhere."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-k",
            "windows",
            "-n",
            "0",
            f"--out={out}",
            *map(str, options),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_check_of_each_package_is_a_test(whole: Path, test_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "medium"
    shutil.copytree(whole, root)
    with (root / "viostor" / "w11" / "amd64" / "viostor.inf").open("ab") as file:
        file.write(b"\n")
    options = (f"--virtio-win={root}", f"--virtio-win-trust={test_root}", "-rA")
    done = suite(tmp_path / "out", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    test = "suites/windows/test_virtio_win.py::test_package"
    assert f"PASSED {test}[windows/viostor/w11/amd64/catalog-covers-sys]" in done.stdout
    assert f"FAILED {test}[windows/viostor/w11/amd64/catalog-covers-inf]" in done.stdout
    assert (
        "viostor.cat does not have the digest of viostor.inf\n[test_virtio_win.py:" in done.stdout
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2  # and the copy below amd64, which is another file now
    assert done.stdout.count("PASSED") == 61 * 11 - 1 + 1
    assert "Traceback" not in done.stdout


def test_with_nothing_given_two_lines_say_what_to_give(tmp_path: Path) -> None:
    done = suite(tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    said = [line for line in lines if line.startswith("needs ")]
    assert said == [
        "needs a disk with Windows: --windows-image=win.qcow2",
        "needs virtio-win's drivers: --virtio-win=virtio-win.iso (or a folder like it)",
    ]
    assert " passed" not in lines[-1]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--virtio-win=nowhere.iso", "nowhere.iso: there is no such file"),
        ("--virtio-win=README.md", "README.md: is no ISO, or is damaged"),
        ("--virtio-win=docs", "docs: there is no driver on it"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, option: str, said: str) -> None:
    done = suite(tmp_path / "out", option)
    assert done.returncode == 4
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

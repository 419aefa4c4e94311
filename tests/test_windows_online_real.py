"""``pytest -k windows`` with an image: what it asks for, what it skips and why, what it leaves."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pycdlib
import pytest

import phony_windows as phony
import windows_packages as packages
from virtproof.windows import image
from virtproof.windows.platform import Arch

ROOT = Path(__file__).resolve().parents[1]
SECRET = "Pass word 1"


def suite(
    out: Path, *options: object, tests: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-rsf", f"--out={out}", "--accel=tcg"]
    known = {key: value for key, value in os.environ.items() if not key.startswith("VIRTPROOF_W")}
    return subprocess.run(
        [*command, *map(str, options), f"suites/windows/test_online.py{tests}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**known, **environment},
    )


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    """NTFS and hives of a Windows 10, and nothing that boots."""
    if lacks := phony.missing_tools():
        pytest.skip(f"no phony Windows can be made: apt install {lacks}")
    program = packages.executable(Arch.AMD64, (10, 0, 0, 1))
    return phony.disk(tmp_path / "windows.raw", phony.installed(program), size_mib=256)


def test_what_lacks_is_said(windows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "medium"
    folder.mkdir()
    (folder / "virtio-win").touch()
    choice = "not without_drivers"
    done = suite(tmp_path / "out", f"--windows-image={windows}", "-k", choice)
    assert done.returncode == 0, done.stdout
    assert "needs virtio-win's drivers: --virtio-win=" in done.stdout
    assert "takes hours: --windows-slow" in done.stdout
    assert "passed" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--windows-channel=winrm"], "needs a password (VIRTPROOF_WINDOWS_PASSWORD"),
        (["--windows-channel=ssh"], "needs a password (VIRTPROOF_WINDOWS_PASSWORD"),
        (["--windows-channel=telnet"], "invalid choice: 'telnet'"),
        (["--record=README.md"], "--record README.md is a file (a directory)"),
        (["--virtio-win-other=no.iso"], "--virtio-win-other no.iso: there is no such file"),
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], line: str, tmp_path: Path) -> None:
    done = suite(tmp_path / "out", *options)
    assert done.returncode == 4
    assert line in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def medium(path: Path) -> Path:
    """An ISO with an INF where a driver's lies."""
    iso = pycdlib.PyCdlib()
    iso.new(joliet=3, vol_ident="virtio-win")
    place = ""
    for name in ("viostor", "w11", "amd64"):
        place += f"/{name}"
        iso.add_directory(place.upper(), joliet_path=place)
    data = b'[Version]\nSignature="$Windows NT$"\n'
    inf = f"{place}/viostor.inf"
    iso.add_fp(io.BytesIO(data), len(data), f"{inf.upper()};1", joliet_path=inf)
    iso.write(str(path))
    iso.close()
    return path


@pytest.mark.real
def test_a_windows_that_does_not_boot_is_a_failure_by_name(windows: Path, tmp_path: Path) -> None:
    """The suite's own way, from the option to the evidence; the image stays as it is."""
    with windows.open("r+b") as file:
        file.write(b"\xcd\x18")  # its boot code gives up at once (int 18h)
    digest, out = image.digest(windows), tmp_path / "out"
    iso = medium(tmp_path / "virtio-win-0.1.271.iso")
    options = (f"--windows-image={windows}", f"--virtio-win={iso}", "--windows-channel=winrm")
    done = suite(out, *options, tests="::test_switch[virtio]", VIRTPROOF_WINDOWS_PASSWORD=SECRET)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "windows.raw" in done.stdout
    assert "bootloader-not-found" in done.stdout
    (evidence,) = (path for path in (out / "evidence").iterdir() if path.is_dir())
    assert "panic" in (evidence / "domain.xml").read_text()
    for path in out.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert image.digest(windows) == digest

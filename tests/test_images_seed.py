"""The seed: an ISO that cloud-init takes, and a script that a shell reads."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path

import pycdlib
import pytest

from virtproof.images import base, seed

SCRIPT = (base.recipes() / "first-boot.sh").read_text()
KEY = 'ssh-ed25519 AAAA it\'s "quoted"'


def read_iso(path: Path, name: str) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    data = io.BytesIO()
    iso.get_file_from_iso_fp(data, rr_path=f"/{name}")
    label = iso.pvd.volume_identifier.decode().strip()
    iso.close()
    assert label == "cidata"
    return data.getvalue()


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    seed.write_seed(tmp_path / "seed.iso", seed.files(SCRIPT, KEY, built=True))
    return tmp_path / "seed.iso"


def script_in(iso: Path) -> str:
    head, _, rest = read_iso(iso, "user-data").decode().partition("\n")
    assert head == "#cloud-config"
    written = json.loads(rest)["write_files"][0]
    assert json.loads(rest)["bootcmd"] == [["sh", written["path"]]]
    return base64.b64decode(written["content"]).decode()


def test_the_script_comes_through_whole_and_is_shell(iso: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(script_in(iso))
    assert script.read_text().endswith(SCRIPT)
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_the_key_reaches_the_script_as_it_is(iso: Path) -> None:
    head = script_in(iso)[: -len(SCRIPT)]
    said = subprocess.run(
        ["sh", "-c", head + 'printf "%s|%s" "$VP_KEY" "$VP_BUILT"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{KEY}|yes"


def test_cloud_init_works_before_the_network(iso: Path) -> None:
    """In its local stage: the second start of Python costs 15 s under emulation."""
    assert b"dsmode: local\n" in read_iso(iso, "meta-data")

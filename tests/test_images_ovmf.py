"""Which UEFI a first boot takes, from the descriptors that distributions install."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from virtproof.errors import MissingToolError
from virtproof.images import ovmf

TARGET = {"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}


def describe(folder: Path, name: str, **changes: Any) -> None:
    """A descriptor of plain UEFI, with some of its keys changed, and the files that it names."""
    for file in ("code.fd", "vars.fd"):
        (folder / f"{name}-{file}").touch()
    told: dict[str, Any] = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(folder / f"{name}-code.fd"), "format": "raw"},
            "nvram-template": {"filename": str(folder / f"{name}-vars.fd"), "format": "raw"},
        },
        "targets": [TARGET],
        "features": ["acpi-s3", "verbose-dynamic"],
    }
    (folder / f"{name}.json").write_text(json.dumps(told | changes))


def test_the_first_plain_one_is_taken(tmp_path: Path) -> None:
    describe(tmp_path, "60-b")
    describe(tmp_path, "50-a")
    (tmp_path / "40-broken.json").write_text("{")
    (tmp_path / "41-other.json").write_text("[]")
    assert ovmf.find((tmp_path,)) == ovmf.Firmware(
        tmp_path / "50-a-code.fd", tmp_path / "50-a-vars.fd"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ["secure-boot", "requires-smm"]},
        {"features": ["enrolled-keys"]},
        {"interface-types": ["bios"]},
        {"targets": [{**TARGET, "architecture": "aarch64"}]},
        {"targets": [{**TARGET, "machines": ["microvm"]}]},
        {"mapping": {"device": "memory", "filename": "/x"}},
    ],
)
def test_another_kind_is_passed_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    describe(tmp_path, "40-other", **changes)
    with pytest.raises(MissingToolError, match="no UEFI firmware .*apt install ovmf"):
        ovmf.find((tmp_path,))
    describe(tmp_path, "60-plain")
    assert ovmf.find((tmp_path,)).code.name == "60-plain-code.fd"


def test_the_administrator_s_goes_before_the_distribution_s(tmp_path: Path) -> None:
    """By its name in the whole, and one of the same name replaces the other."""
    own, theirs = tmp_path / "etc", tmp_path / "usr"
    for folder in (own, theirs):
        folder.mkdir()
        describe(folder, "60-same")
    assert own in ovmf.find((own, theirs)).code.parents
    describe(theirs, "10-earlier")
    assert ovmf.find((own, theirs)).code.name == "10-earlier-code.fd"


def test_files_that_are_gone_are_no_firmware(tmp_path: Path) -> None:
    describe(tmp_path, "60-plain")
    (tmp_path / "60-plain-vars.fd").unlink()
    with pytest.raises(MissingToolError, match="no UEFI firmware"):
        ovmf.find((tmp_path,))

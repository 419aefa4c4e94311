"""What a lab cannot have is named in one line, and nothing stays of the attempt."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab_owner import labs, one_line
from virtproof.errors import LabError, MissingToolError
from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab, open_lab
from virtproof.runtime import runtime_directory


def test_no_libvirtd_is_named(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which

    def hidden(name: str, **how: Any) -> str | None:
        return None if name == "libvirtd" else which(name, **how)

    monkeypatch.setattr("shutil.which", hidden)
    before = labs(runtime)
    with pytest.raises(MissingToolError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith("libvirtd is not installed (")
    assert labs(runtime) == before


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that comes first in PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_unshare_that_fails_is_quoted_and_nothing_stays(
    runtime: Path, tmp_path: Path, tools: Path
) -> None:
    script(tools / "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    before = labs(runtime)
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path / "cache")
    line = one_line(failure.value)
    assert line.startswith("the lab does not start: unshare: unshare failed: Operation not perm")
    assert labs(runtime) == before
    assert list((tmp_path / "cache" / "labs").iterdir()) == []


def test_unshare_that_is_not_there_is_named(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    before = labs(runtime)
    with pytest.raises(MissingToolError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith("unshare is not installed (")
    assert labs(runtime) == before


def test_libvirtd_that_ends_at_once_is_quoted(runtime: Path, tmp_path: Path, tools: Path) -> None:
    script(tools / "libvirtd", "echo 'error : no such machine' >&2; exit 3")
    before = labs(runtime)
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith(
        "the lab does not start: libvirtd ended at once with status 3 ("
    )
    assert "error : no such machine" in failure.value.detail
    assert labs(runtime) == before


def test_a_network_that_does_not_start_ends_the_lab(runtime: Path, tmp_path: Path) -> None:
    class Refusing:
        def start_network(self, xml: str) -> None:
            raise LabError(f"no network today: {len(xml)} bytes of XML")

    before = labs(runtime)
    with pytest.raises(LabError, match="no network today"):
        open_lab(tmp_path, lambda _uri: Refusing())
    assert labs(runtime) == before


def test_a_cache_that_cannot_be_written_is_one_line(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    before = labs(runtime)
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path / "cache")
    assert str(tmp_path / "cache") in one_line(failure.value)
    assert labs(runtime) == before


def test_a_libvirt_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="^libvirt at qemu.* does not answer: ") as failure:
        Connection(f"qemu+unix:///system?socket={tmp_path}/none")
    assert "\n" not in str(failure.value)


def test_a_runtime_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").symlink_to(tmp_path)
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / "theirs"))
    with pytest.raises(LabError, match="is not a directory of yours") as failure:
        runtime_directory()
    assert "VIRTPROOF_RUNTIME" in one_line(failure.value)
    if os.getuid() == 0:
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 65534, 65534)
        monkeypatch.setenv("VIRTPROOF_RUNTIME", str(other))
        with pytest.raises(LabError, match="is not a directory of yours"):
            runtime_directory()


@pytest.mark.parametrize("place", ["no/such/parent", "file"])
def test_a_runtime_directory_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / place))
    with pytest.raises(LabError, match="cannot make .*VIRTPROOF_RUNTIME") as failure:
        runtime_directory()
    one_line(failure.value)


def test_a_runtime_directory_is_made_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o777)
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(open_to_all))
    assert runtime_directory().stat().st_mode & 0o777 == 0o700

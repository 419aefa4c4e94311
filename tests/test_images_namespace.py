"""Root, or an ordinary user's root of a namespace; the disk's file system as mke2fs makes it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from virtproof import host
from virtproof.errors import MissingToolError
from virtproof.images import base, namespace

usable = host.user_namespaces()
needs_namespaces = pytest.mark.skipif(not usable.usable, reason=usable.why)


@needs_namespaces
def test_a_command_runs_as_root_in_namespaces_of_its_own() -> None:
    namespace.check()
    said = subprocess.run(
        namespace.as_root(["sh", "-c", "id -u; echo $$"]), capture_output=True, check=True
    )
    assert said.stdout.split() == [b"0", b"1"]


@needs_namespaces
def test_mounts_of_a_recipe_are_not_the_machine_s(tmp_path: Path) -> None:
    script = f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/x && test -e {tmp_path}/x"
    subprocess.run(namespace.as_root(["sh", "-c", script]), check=True)
    assert list(tmp_path.iterdir()) == []


def test_without_subordinate_ids_the_hint_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(
        host, "subordinate_ids", lambda: host.Answer(False, "as root: usermod --add-subuids")
    )
    monkeypatch.setattr(namespace, "need", lambda *_: None)
    with pytest.raises(MissingToolError, match="without root here .*usermod --add-subuids"):
        namespace.check()


def test_where_unshare_fails_its_words_are_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingToolError, match="no namespaces here: .*not permitted"):
        namespace.check()


@pytest.mark.parametrize("name", sorted(path.name for path in base.recipes().glob("*.sh")))
def test_a_recipe_is_shell(name: str) -> None:
    subprocess.run(["sh", "-n", str(base.recipes() / name)], check=True)


def test_the_telling_line_of_a_build_log_is_found() -> None:
    log = "progress: x\nI: running\nnoise\nE: no space\nmore noise\n"
    assert base._telling(log) == "E: no space"
    assert base._telling("a\nb: No space left on device\nE: x") == "b: No space left on device"
    assert base._telling("") == "it said nothing"

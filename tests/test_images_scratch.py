"""Scratch directories: a dead maker's go with the next or by `./run clean`, a living one's stay."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtproof import cli
from virtproof.images import scratch

HOLD = """
import time
from virtproof.images.scratch import short
with short() as path:
    (path / "socket").touch()
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where short ones lie, in a runtime directory of the test's own; not there yet."""
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path / "no cache"))
    return tmp_path / "run" / scratch.SHORT


@pytest.fixture
def holder(place: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A process that has a short directory, and what kills it."""
    argv = [sys.executable, "-c", HOLD]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:

        def kill() -> None:
            process.kill()
            process.wait()

        try:
            assert process.stdout is not None
            path = Path(process.stdout.readline().strip())
            assert path.parent == place
            yield path, kill
        finally:
            kill()


def test_a_killed_makers_goes_with_the_next_and_a_living_ones_stays(
    place: Path, holder: tuple[Path, Callable[[], None]]
) -> None:
    theirs, kill = holder
    with scratch.short() as mine:
        assert set(place.iterdir()) == {mine, theirs}
        assert (theirs / "socket").exists()
    kill()
    assert list(place.iterdir()) == [theirs], "it was killed, and could remove nothing"
    with scratch.short() as mine:
        assert list(place.iterdir()) == [mine]
    assert list(place.iterdir()) == []


def test_clean_removes_a_killed_makers_and_no_living_ones(
    place: Path, holder: tuple[Path, Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, kill = holder
    assert cli.main(["clean"]) == 0
    assert (theirs / "socket").exists()
    kill()
    assert cli.main(["clean"]) == 0
    assert list(place.iterdir()) == []
    capsys.readouterr()


def test_clean_makes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clean"]) == 0
    assert not place.exists()
    capsys.readouterr()


def test_it_is_the_owners_alone_and_goes_when_its_user_fails(place: Path) -> None:
    def fail() -> None:
        with scratch.short() as path:
            (path / "below").mkdir()
            assert (path.is_absolute(), path.stat().st_mode & 0o777) == (True, 0o700)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(place.iterdir()) == []


def test_one_that_was_renamed_stays(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with scratch.fresh(tmp_path / "tmp") as path:
        (path / "file").touch()
        path.rename(tmp_path / "item")
    assert (tmp_path / "item" / "file").exists()


@pytest.mark.parametrize("whole", [True, False], ids=["gone", "going"])
def test_a_sweep_before_the_lock_is_taken_costs_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """For a moment a new one looks like a dead maker's."""
    make, made, sweeper = tempfile.mkdtemp, list[Path](), list[int]()

    def swept(**named: Any) -> str:
        made.append(Path(make(**named)))
        if len(made) == 1 and whole:
            scratch.sweep(tmp_path)
        elif len(made) == 1:
            sweeper.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(sweeper[0], fcntl.LOCK_EX)
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    with scratch.fresh(tmp_path) as path:
        assert path == made[1]
        scratch.sweep(tmp_path)
        assert path.is_dir()
    for descriptor in sweeper:
        os.close(descriptor)


def test_a_maker_that_took_a_swept_ones_lock_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was open when the sweep removed it, and its lock is free thereafter."""
    flock, asked = fcntl.flock, list[int]()

    def swept(descriptor: int, how: int) -> None:
        asked.append(descriptor)
        if len(asked) == 1:
            (only,) = tmp_path.iterdir()
            only.rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", swept)
    with scratch.fresh(tmp_path) as path:
        assert path.is_dir()
    assert len(asked) == 2


def test_what_is_no_directory_is_left_alone(tmp_path: Path) -> None:
    """A link least of all followed."""
    parent, other = tmp_path / "tmp", tmp_path / "other"
    for folder in (parent, other):
        folder.mkdir()
    (other / "mine").touch()
    (parent / "file").touch()
    (parent / "link").symlink_to(other)
    scratch.sweep(parent)
    assert {path.name for path in parent.iterdir()} == {"file", "link"}
    assert (other / "mine").exists()

"""The cache: whole or absent, one maker at a time, and a flipped byte is never served."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from virtproof import cli
from virtproof.errors import ImageError
from virtproof.images import cache as module
from virtproof.images.cache import Cache, default_cache
from virtproof.images.keys import key_pair
from virtproof.images.prepare import Maker
from virtproof.spec import Accel


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> Cache:
    return Cache(tmp_path / "cache", said.append)


def maker(scratch: Path) -> dict[str, Any]:
    (scratch / "disk").write_bytes(b"content" * 1000)
    (scratch / "vmlinuz").write_bytes(b"kernel")
    return {"kernel": "6.1"}


def leftovers(cache: Cache) -> list[Path]:
    return list((cache.root / "tmp").iterdir())


def test_what_is_made_is_there_sealed_and_nothing_else(cache: Cache) -> None:
    made = cache.make("prepared", "k", maker)
    assert cache.get("prepared", "k") == made
    assert made.facts == {"kernel": "6.1"}
    assert made.digests["disk"] == module.sha256(made.path / "disk")
    assert (made.path / "disk").stat().st_mode & 0o777 == 0o444
    assert cache.items("prepared") == [made.path]
    assert leftovers(cache) == []


def test_a_saved_guest_is_its_owners_alone(cache: Cache) -> None:
    """Its memory may hold secrets; an image holds none."""
    for kind, of_directory, of_file in ((module.WARM, 0o700, 0o400), ("prepared", 0o755, 0o444)):
        made = cache.make(kind, "k", maker)
        modes = [path.stat().st_mode & 0o777 for path in (made.path, made.path / "disk")]
        assert modes == [of_directory, of_file]
        assert cache.get(kind, "k") == made
        assert cache.items(kind) == [made.path]


@pytest.mark.parametrize("fault", [ImageError("no"), KeyboardInterrupt()])
def test_a_maker_that_ends_early_leaves_nothing(cache: Cache, fault: BaseException) -> None:
    def broken(scratch: Path) -> dict[str, Any]:
        maker(scratch)
        raise fault

    with pytest.raises(type(fault)):
        cache.make("prepared", "k", broken)
    assert cache.get("prepared", "k") is None
    assert leftovers(cache) == []


def damage_byte(item: Path) -> None:
    disk = item / "disk"
    disk.chmod(0o644)
    with disk.open("r+b") as file:
        file.seek(100)
        file.write(b"X")


def truncate(item: Path) -> None:
    (item / "disk").chmod(0o644)
    os.truncate(item / "disk", 10)


def lose(item: Path) -> None:
    (item / "disk").unlink()


def scribble(item: Path) -> None:
    (item / "manifest.json").write_text("{")


def other_shape(item: Path) -> None:
    (item / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "how"),
    [
        (damage_byte, "has another SHA-256"),
        (truncate, "has 10 bytes, not 7000"),
        (lose, "is missing"),
        (scribble, "no readable manifest"),
        (other_shape, "manifest of another shape"),
    ],
)
def test_a_damaged_item_is_said_put_aside_and_not_served(
    cache: Cache, said: list[str], harm: Any, how: str
) -> None:
    made = cache.make("prepared", "k", maker)
    harm(made.path)
    assert cache.get("prepared", "k") is None
    assert len(said) == 1
    assert "damaged in the cache" in said[0]
    assert how in said[0]
    assert "\n" not in said[0]
    assert len(list((cache.root / "quarantine").iterdir())) == 1
    assert cache.make("prepared", "k", maker) == cache.get("prepared", "k")


def test_a_fresh_stamp_spares_the_reading_and_an_old_one_does_not(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cache.make("prepared", "k", maker)
    read: list[Path] = []
    whole = module.sha256
    monkeypatch.setattr(module, "sha256", lambda path: read.append(path) or whole(path))
    cache.get("prepared", "k")
    assert read == []
    old = time.time() - module.STAMP_S - 1
    os.utime(made.path / ".disk.verified", (old, old))
    cache.get("prepared", "k")
    assert read == [made.path / "disk"]


def test_a_stamp_that_cannot_be_written_costs_the_next_reading_only(cache: Cache) -> None:
    """As on a full disk."""
    made = cache.make("prepared", "k", maker)
    stamp = made.path / ".disk.verified"
    stamp.unlink()
    stamp.mkdir()
    assert cache.get("prepared", "k") == made


def test_a_stamp_of_another_boot_does_not_count(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cache.make("prepared", "k", maker)
    disk = made.path / "disk"
    before = disk.stat()
    damage_byte(made.path)
    os.utime(disk, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.get("prepared", "k") is not None  # size, inode and time are as they were
    monkeypatch.setattr(module.host, "boot_id", lambda: "another")
    assert cache.get("prepared", "k") is None


def test_only_the_wanted_file_is_looked_at(cache: Cache) -> None:
    made = cache.make("rootfs", "k", maker)
    truncate(made.path)
    assert cache.get("rootfs", "k", only="vmlinuz") is not None
    assert cache.get("rootfs", "k", only="disk") is None


def test_a_second_maker_waits_and_says_so(cache: Cache, said: list[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with Cache(cache.root, said.append).locked("k", "debian-12"):
            order.append("second")

    with cache.locked("k", "debian-12"):
        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["debian-12: another process is making it, waiting"]


HANG = """
import sys, time
from pathlib import Path
from virtproof.images.cache import Cache
with Cache(Path(sys.argv[1]), print).scratch() as scratch:
    (scratch / "half").write_text("x")
    print("made", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_builder_left_goes_and_a_living_one_s_stays(cache: Cache) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HANG, str(cache.root)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "made\n"
    cache.make("prepared", "k", maker)
    assert len(leftovers(cache)) == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    cache.make("prepared", "l", maker)
    assert leftovers(cache) == []


def test_opening_the_cache_is_enough_for_what_a_killed_builder_left(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may ever make that very thing again; and what a living one makes stays."""
    (cache.root / "tmp" / "dead").mkdir()
    with cache.scratch() as living:
        (cache.root / "tmp" / "dead too").mkdir()
        Cache(cache.root, print)
        assert leftovers(cache) == [living]
    (cache.root / "tmp" / "dead").mkdir()
    monkeypatch.setenv("VIRTPROOF_CACHE", str(cache.root))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(cache.root.parent / "runtime"))
    assert cli.main(["clean"]) == 0
    assert leftovers(cache) == []
    monkeypatch.setenv("VIRTPROOF_CACHE", str(cache.root / "none"))
    assert cli.main(["clean"]) == 0
    assert not (cache.root / "none").exists()
    capsys.readouterr()


def test_too_little_space_is_said_before_anything_is_made(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.check_space("building x", 1)
    monkeypatch.setattr(module.host, "disk_free_mib", lambda _path: 99)
    with pytest.raises(ImageError, match=r"building x needs 100 MiB free in .*, there are 99"):
        cache.check_space("building x", 100)


@pytest.mark.parametrize("blocked", ["file", "below a file"])
def test_a_cache_that_cannot_be_is_one_line(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" if blocked == "file" else tmp_path / "file" / "cache"
    with pytest.raises(ImageError, match="cannot be made") as caught:
        Cache(where, print)
    assert "VIRTPROOF_CACHE" in str(caught.value)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRTPROOF_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == tmp_path / ".cache" / "virtproof"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache() == Path("/xdg/virtproof")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == tmp_path / ".cache" / "virtproof"
    monkeypatch.setenv("VIRTPROOF_CACHE", "~/own")
    assert default_cache() == tmp_path / "own"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_the_key_is_made_once_and_is_the_owner_s_alone(cache: Cache) -> None:
    private, public = key_pair(cache)
    assert public.startswith("ssh-ed25519 ")
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.parent.stat().st_mode & 0o777 == 0o700
    private.chmod(0o644)
    assert key_pair(cache) == (private, public)
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_one_line_also_where_no_log_can_be_kept(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/some/file")

    maker = Maker(cache, Accel.TCG, "key")
    monkeypatch.setattr(Path, "write_text", full)
    error = maker._logged(ImageError("first boot: it stopped", hint="make room"), "debian-12")
    assert str(error) == (
        "debian-12: first boot: it stopped; its log cannot be kept: No space left on device (make room)"
    )
    assert list((cache.root / "failed").iterdir()) == []
    monkeypatch.setattr("virtproof.images.commands.main", full)
    assert cli.main(["images", "list"]) == 1
    said = capsys.readouterr().err
    assert said == "virtproof: error: No space left on device (/some/file); make room\n"

"""A short soak: runs that are killed in the middle leave nothing, and the checks see what is left.

The long one is ``benchmarks/soak.py``; both are made of ``tests/soaking``.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import why_no_lab
from soaking import runs
from soaking.processes import naming, started
from soaking.rounds import Kill, Soak, draw
from soaking.traces import Machine, Place, left_after_next, left_at_once, left_in_results
from virtproof.images.cache import Cache
from virtproof.images.store import default_cache

CHOSEN = [
    Kill(runs.COPIES, "controller", 0.5),
    Kill(runs.COPIES, "qemu", 0.5),
    Kill(runs.COPIES, "libvirtd", 0.7),
    Kill(runs.COPIES, "init", 0.6),
    Kill(runs.WORKERS, "worker", 0.5),
    Kill(runs.WORKERS, runs.EVERYTHING, 0.6),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    runtime = Path(tempfile.mkdtemp(prefix="vp-", dir="/tmp"))
    yield Place(tmp_path, runtime, tmp_path / "cache", tmp_path / "cache")
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def empty(place: Place) -> Place:
    """The place of a soak without images."""
    for directory in (place.work, place.tmp, place.runtime / "guests"):
        directory.mkdir(exist_ok=True)
    Cache(place.cache, print)
    return place


@pytest.mark.real
@pytest.mark.boots(8)
def test_runs_that_are_killed_leave_nothing(place: Place) -> None:
    if reason := why_no_lab():
        pytest.skip(reason)
    runs.furnish(place, default_cache(), "prepared", "warm")
    soak = Soak(place)
    for drawn in CHOSEN:
        for _ in range(3):  # on a machine that has become faster, a moment may come too late
            done = soak.round(drawn)
            assert done.faults == [], done.line()
            if done.hit:
                break
    assert soak.counts.total() == len(CHOSEN)


def test_the_same_seed_draws_the_same_kills_and_all_kinds_come_first() -> None:
    def some(seed: int) -> list[Kill]:
        drawn = draw(random.Random(seed), runs.KINDS)
        return [next(drawn) for _ in range(100)]

    assert some(1) == some(1) != some(2)
    pairs = {(kind.name, victim) for kind in runs.KINDS for victim in kind.victims}
    assert {(one.kind.name, one.victim) for one in some(1)[: len(pairs)]} == pairs


# --- the checks can fail --------------------------------------------------------------------------


def test_nothing_left_is_no_fault(empty: Place) -> None:
    assert left_at_once(empty, Machine.now(), set()) == []
    assert left_after_next(empty, thorough=True) == []
    assert left_in_results(empty.work / "out") == []


def test_an_orphan_keeps_the_keeper_and_is_found(empty: Place) -> None:
    log = empty.root / "log"
    command = ["sh", "-c", "setsid sleep 98761 & exit 3"]
    environment = {**os.environ, "VIRTPROOF_RUNTIME": str(empty.runtime)}
    with started(command, empty.work, log, environment) as run:
        assert run.wait(lambda: run.status is not None, 20)
        assert run.status == 3
        assert not run.over
        assert run.wait(lambda: [one.comm for one in run.living()] == ["sleep"], 20)
        found = left_at_once(empty, Machine.now(), set())
        assert any("sleep 98761" in fault for fault in found)
    assert naming(str(empty.runtime)) == []


@pytest.mark.parametrize(
    ("left", "fault"),
    [
        ("runtime/lab-dead", "left in the runtime directory: lab-dead"),
        ("runtime/guests/memory-x", "memory still claimed: guests/memory-x"),
        ("cache/tmp/scratch", "left in the cache: tmp/scratch"),
        ("cache/labs/lab-x", "left in the cache: labs/lab-x"),
        ("cache/quarantine/x", "left in the cache: quarantine/x"),
        ("cache/.half", "strange in the cache: .half"),
        ("cache/warm/half-made", "no item: warm/half-made"),
    ],
)
def test_what_is_left_by_then_is_found(empty: Place, left: str, fault: str) -> None:
    where, _, name = left.partition("/")
    path = {"runtime": empty.runtime, "cache": empty.cache}[where] / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir()
    assert fault in left_after_next(empty, thorough=False)


@pytest.mark.parametrize("name", ["runtime/guests/turn-0", "cache/lock/tmp"])
def test_a_lock_that_is_held_is_found(empty: Place, name: str) -> None:
    where, _, rest = name.partition("/")
    with ({"runtime": empty.runtime, "cache": empty.cache}[where] / rest).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = left_after_next(empty, thorough=False)
    assert any("lock still held" in fault for fault in said)


def test_a_damaged_item_is_found_though_its_size_is_right(empty: Place) -> None:
    def make(scratch: Path) -> dict[str, str]:
        (scratch / "memory.save").write_text("right")
        return {}

    item = Cache(empty.cache, print).make("warm", "key", make)
    assert left_after_next(empty, thorough=False) == []
    memory = item.path / "memory.save"
    memory.chmod(0o600)
    memory.write_text("wrong")
    assert any("another SHA-256" in f for f in left_after_next(empty, thorough=False))


def test_files_outside_are_found(empty: Place) -> None:
    before = Machine.now()
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        found = left_at_once(empty, before, set())
        assert [fault for fault in found if file.name in fault]
    (empty.tmp / "left").touch()
    (empty.work / "left").touch()
    found = left_at_once(empty, Machine.now(), set())
    assert found == ["left in TMPDIR: left", "left where it ran: left"]


def test_half_a_record_is_found(empty: Place) -> None:
    out = empty.work / "out"
    out.mkdir()
    (out / "results.jsonl").write_text('{"test": ')
    (out / ".run.json.77").touch()
    found = left_in_results(out)
    assert len(found) == 2
    assert "no JSON" in found[1]


@pytest.mark.skipif(os.getuid() != 0, reason="a mount of one's own needs root")
def test_a_small_disk_can_be_full_and_is_never_on_the_host(tmp_path: Path) -> None:
    before = Machine.now().mounts
    with runs.small_disk(tmp_path / "small", 64) as small:
        small.fill()
        write = [*small.enter(tmp_path), "dd", "if=/dev/zero", f"of={small.path}/x", "bs=64k"]
        done = subprocess.run([*write, "count=1"], capture_output=True, text=True, check=False)
        assert "No space left" in done.stderr
        small.empty()
        assert subprocess.run([*write, "count=1"], capture_output=True, check=False).returncode == 0
        assert Machine.now().mounts == before
    assert list((tmp_path / "small").iterdir()) == []

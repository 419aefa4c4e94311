"""What killed runs leave on a user's libvirt: named, swept, and nothing else ever touched."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Theirs
from virtproof.lab.notes import Note

ROOT = Path(__file__).parent.parent
SOON_S = 120.0
# A running guest with a data disk, and a test that tells its name and PID and then waits.
HOLD = """
import os, time
from pathlib import Path
import pytest
from virtproof.spec import DataDisk, DiskBus

@pytest.mark.parametrize("number", range(1))
def test_hold(defined_guest, number):
    disk = DataDisk(DiskBus.VIRTIO, "data", size_mib=8)
    guest = defined_guest(disk=DiskBus.IDE, data_disks=(disk,), memory_mib=128)
    guest.begin(guest.domain.start)
    assert guest.state == "running"
    here = Path(__file__).parent
    making = here / f"{os.getpid()}.making"
    making.write_text(guest.name)
    making.rename(here / f"{os.getpid()}.up")
    while not (here / "go").exists():
        time.sleep(0.02)
    assert not (here / "fail").exists()
"""
LAB_ONLY = "def test_lab(lab):\n    assert lab.network\n"


class Runs:
    """Starts runs on the user's libvirt; each has a directory, with its test in it."""

    def __init__(self, theirs: Theirs, place: Path) -> None:
        self.theirs = theirs
        self._place = place
        self.processes: list[subprocess.Popen[str]] = []
        self.pids: dict[str, int] = {}  # of the process that a guest belongs to

    def command(self, name: str, text: str, *options: str) -> list[str]:
        directory = self._place / name
        directory.mkdir()
        (directory / "test_it.py").write_text(text)
        lab = self.theirs.lab
        return [
            *(sys.executable, "-m", "pytest", "-q", f"--rootdir={directory}", str(directory)),
            *("-p", "no:cacheprovider", f"--out={directory / 'out'}", "--image=debian-12"),
            *(f"--libvirt={lab.uri}", f"--network={lab.network}", f"--pool={self.theirs.pool}"),
            *options,
        ]

    def start(
        self, name: str, *options: str, runtime: Path | None = None, guests: int = 1
    ) -> tuple[subprocess.Popen[str], list[str]]:
        """A run whose guests run: its process, and their names."""
        env = {**os.environ, **({"VIRTPROOF_RUNTIME": str(runtime)} if runtime else {})}
        text = HOLD.replace("range(1)", f"range({guests})")
        process = subprocess.Popen(
            self.command(name, text, *options), cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.processes.append(process)

        def up() -> bool:
            if process.poll() is not None:
                assert process.stdout
                raise AssertionError(process.stdout.read()[-3000:])
            return len(list((self._place / name).glob("*.up"))) == guests

        until(up, f"the guest of {name}")
        found = {file.read_text(): file for file in (self._place / name).glob("*.up")}
        self.pids.update({guest: int(file.stem) for guest, file in found.items()})
        return process, list(found)

    def finish(self, process: subprocess.Popen[str], name: str, *words: str) -> str:
        """Let a run end: what it said."""
        for word in (*words, "go"):
            (self._place / name / word).touch()
        return process.communicate(timeout=SOON_S)[0]

    def next(self, name: str = "next") -> str:
        """Another run, whole: what it said."""
        done = subprocess.run(
            self.command(name, LAB_ONLY), cwd=ROOT, stdin=subprocess.DEVNULL, timeout=SOON_S,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def runs(theirs: Theirs, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(theirs, tmp_path)
    yield runs
    for process in runs.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process runs no more, though its parent may not have asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "XZ"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def clean(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtproof", "clean", *options], cwd=ROOT, timeout=SOON_S,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def put_foreign(theirs: Theirs, ours: str, tmp_path: Path) -> None:
    """What is named as ours and is not: a domain, a copy of one of ours with its mark, volumes."""
    xml = theirs.virsh("dumpxml", "--inactive", ours)
    plain = re.sub("(?s)<metadata>.*</metadata>", "", xml)
    for name, like in (("virtproof-mine", plain), ("virtproof-0123456789", xml)):
        text = like.replace(f"<name>{ours}</name>", f"<name>{name}</name>")
        own = re.sub("<uuid>.*</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", text)
        (tmp_path / "theirs.xml").write_text(re.sub("<mac address=.*/>", "", own))
        theirs.virsh("define", str(tmp_path / "theirs.xml"))
    assert "urn:virtproof:guest" in theirs.virsh("dumpxml", "virtproof-0123456789")
    for name in ("virtproof-notes.qcow2", "virtproof-base-old.qcow2", "virtproof-0123456789.raw"):
        theirs.virsh("vol-create-as", theirs.pool, name, "1M")


def lines_of(theirs: Theirs, *guests: str) -> list[str]:
    """Those of ``owned`` that belong to guests."""
    return [line for line in theirs.owned() if any(guest in line for guest in guests)]


def bases(theirs: Theirs) -> list[str]:
    return [line for line in theirs.owned() if re.search(r"base-[0-9a-f]{8}-[0-9a-f]{16}", line)]


@pytest.mark.real
@pytest.mark.boots(1)
def test_the_next_run_sweeps_a_killed_one_and_touches_nothing_else(
    runs: Runs, theirs: Theirs, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    killed, (dead,) = runs.start("killed")
    put_foreign(theirs, dead, tmp_path)
    living, (here,) = runs.start("living")
    elsewhere, (there,) = runs.start("elsewhere-run", runtime=tmp_path / "elsewhere")
    kill(killed)
    left = lines_of(theirs, dead)
    assert len(left) == 3, left  # domain, overlay, data disk
    assert len(bases(theirs)) == 3
    before = [line for line in theirs.owned() if line not in left]
    said = runs.next()
    assert f"removed 1 guests and 3 volumes that earlier runs had left on {theirs.lab.uri}" in said
    assert there in said
    assert here not in said
    after = theirs.owned()
    assert lines_of(theirs, dead) == []
    assert len(set(before) - set(after)) == 1
    assert len(bases(theirs)) == 2
    for guest in (here, there):
        assert theirs.virsh("domstate", guest).strip() == "running"
    assert "1 passed" in runs.finish(living, "living")
    assert "1 passed" in runs.finish(elsewhere, "elsewhere-run")


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_killed_workers_guests_are_swept_while_its_run_lives(runs: Runs, theirs: Theirs) -> None:
    before = theirs.owned()
    process, (one, two) = runs.start("workers", "-n", "2", guests=2)
    os.kill(runs.pids[one], signal.SIGKILL)
    until(lambda: ended(runs.pids[one]), "the end of the worker")
    assert len(lines_of(theirs, one)) == 3
    assert "removed 1 guests and 3 volumes" in runs.next()
    assert lines_of(theirs, one) == []
    assert theirs.virsh("domstate", two).strip() == "running"
    said = runs.finish(process, "workers")
    assert "1 failed, 1 passed" in said, said[-3000:]
    assert theirs.owned() == before


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_kept_guest_is_clean_s_alone_and_a_killed_run_s_is_not_kept(
    runs: Runs, theirs: Theirs
) -> None:
    before = theirs.owned()
    process, (kept,) = runs.start("kept", "--keep-guest")
    said = runs.finish(process, "kept", "fail")
    command = f"./run clean --libvirt {shlex.quote(theirs.lab.uri)}"
    assert f"end it:  {command}\n" in said, said[-3000:]
    process, (killed,) = runs.start("killed", "--keep-guest")
    kill(process)
    assert theirs.virsh("domstate", killed).strip() == "running"  # it is not bound to its run
    assert "removed 1 guests and 3 volumes" in runs.next()
    assert lines_of(theirs, killed) == []
    assert theirs.virsh("domstate", kept).strip() == "running"
    living, (alive,) = runs.start("living")
    named = clean()
    assert f"on {theirs.lab.uri} runs have left guests: {command}\n" in named.stdout, named
    done = clean("--libvirt", theirs.lab.uri, "--pool", theirs.pool)
    assert done.stdout == (
        f"removed 1 guests and 3 volumes that earlier runs had left on {theirs.lab.uri}\n"
    ), done
    assert theirs.virsh("domstate", alive).strip() == "running"
    assert "1 passed" in runs.finish(living, "living")
    assert theirs.owned() == before
    again = clean("--libvirt", theirs.lab.uri)
    assert (again.returncode, again.stdout) == (
        0,
        f"nothing on {theirs.lab.uri} is known to be a dead run's\n",
    )


@pytest.mark.real
@pytest.mark.boots(1)
def test_guests_whose_note_is_lost_are_named_and_go_when_their_run_is_named(
    runs: Runs, theirs: Theirs, tmp_path: Path
) -> None:
    theirs.virsh("vol-create-as", theirs.pool, "virtproof-notes.qcow2", "1M")
    before, uri = theirs.owned(), theirs.lab.uri
    lost, (dead,) = runs.start("lost", runtime=tmp_path / "lost-notes")
    orphan, (gone,) = runs.start("orphan", runtime=tmp_path / "lost-notes")
    living, (alive,) = runs.start("living")
    run_of = {guest: run_named(theirs, guest) for guest in (dead, gone, alive)}
    kill(lost)
    kill(orphan)
    theirs.virsh("undefine", gone)
    there = theirs.owned()
    done = clean("--libvirt", uri, "--pool", theirs.pool)
    command = f"./run clean --libvirt {shlex.quote(uri)} --run"
    named, nothing, *volumes = done.stdout.splitlines()
    assert nothing == f"nothing on {uri} is known to be a dead run's"
    assert f"on {uri}: {dead}, of a run of " in named
    assert named.endswith(f"if it is dead: {command} {run_of[dead]}"), named
    assert len(volumes) == 3, volumes  # the other's are told by its guest
    assert all(gone in line or f"-{run_of[gone]}.qcow2" in line for line in volumes), volumes
    assert theirs.owned() == there
    # One that lives is not to be named dead.
    refused = clean("--libvirt", uri, "--run", run_of[alive])
    assert refused.returncode == 2
    assert refused.stderr == f"virtproof: error: run {run_of[alive]} lives (end it first)\n"
    done = clean("--libvirt", uri, "--run", run_of[dead])
    assert f"removed 1 guests and 3 volumes that earlier runs had left on {uri}" in done.stdout
    done = clean("--libvirt", uri, "--run", run_of[gone])
    assert done.returncode == 2  # nothing of it is left that names its pool
    done = clean("--libvirt", uri, "--run", run_of[gone], "--pool", theirs.pool)
    assert "removed 0 guests and 1 volumes" in done.stdout, done
    assert theirs.virsh("domstate", alive).strip() == "running"
    assert "1 passed" in runs.finish(living, "living")
    rest = set(theirs.owned()) - set(before)
    assert len(rest) == 2
    assert all(gone in line for line in rest)


def test_a_volume_that_a_living_run_has_noted_is_explained_and_goes_with_it(theirs: Theirs) -> None:
    name, uri = "virtproof-00000000aa.qcow2", theirs.lab.uri
    note = Note(uri)
    note.volume(theirs.pool, name)
    theirs.virsh("vol-create-as", theirs.pool, name, "1M")
    said = clean("--libvirt", uri, "--pool", theirs.pool).stdout
    assert said == f"nothing on {uri} is known to be a dead run's\n"
    note.release()
    said = clean("--libvirt", uri, "--pool", theirs.pool).stdout
    assert said == f"removed 0 guests and 1 volumes that earlier runs had left on {uri}\n"
    assert name not in theirs.owned()


def run_named(theirs: Theirs, guest: str) -> str:
    found = re.search("<virtproof:guest [^>]* run=.([0-9a-f]{16})", theirs.virsh("dumpxml", guest))
    assert found, guest
    return found[1]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--pool=there",), "--pool goes with --libvirt (a lab is removed whole)"),
        (("--run=00",), "--run goes with --libvirt (a lab is removed whole)"),
        (("--libvirt=", "--run=00"), "no run 00 on URI (./run clean --libvirt names those there)"),
        (
            ("--libvirt=", "--pool=none"),
            "libvirt has no storage pool 'none' (it has: virtproof-test; give --pool)",
        ),
        (
            ("--libvirt=qemu+unix:///system?socket=/nowhere/sock",),
            "libvirt at .* does not answer: ",
        ),
        (("--libvirt=nonsense:",), "libvirt at nonsense: does not answer: .*"),
    ],
)
def test_a_wrong_use_of_clean_is_one_line(
    theirs: Theirs, options: tuple[str, ...], fault: str
) -> None:
    uri = theirs.lab.uri
    done = clean(*(f"{option}{uri}" if option == "--libvirt=" else option for option in options))
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    pattern = fault if ".*" in fault else re.escape(fault.replace("URI", uri))
    assert re.match(f"virtproof: error: {pattern}", done.stderr), done.stderr

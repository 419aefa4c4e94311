"""Nothing of a lab stays, however it or its owner ends; as an ordinary user, too."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from lab_owner import (
    SOON_S,
    Machine,
    Start,
    alive,
    labs,
    members,
    nothing_left,
    processes_naming,
    until,
)
from virtproof import host
from virtproof.errors import LabError
from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab, network, open_lab
from virtproof.lab.cleanup import LINGERING, Cleaned, clean, sweep
from virtproof.lab.init import remove_lab

ROOT = Path(__file__).resolve().parents[1]


def test_closing_leaves_nothing(runtime: Path, tmp_path: Path) -> None:
    before = Machine.now()
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    known = labs(runtime)
    lab = open_lab(tmp_path, connect)
    (place,) = labs(runtime) - known
    pids = set(processes_naming(str(place)))
    assert len(pids) >= 3  # unshare, the lab's first process, libvirtd
    lab.storage.blank("left", 1)
    connections[0].close()
    lab.close()
    lab.close()
    assert alive(pids) == set()
    assert labs(runtime) == known
    assert list((tmp_path / "labs").iterdir()) == []
    assert Machine.now() == before
    with pytest.raises(LabError, match="the lab has gone"):
        lab.run("true")


def test_an_owner_that_ends_well_leaves_nothing(owner: Start) -> None:
    before = Machine.now()
    one = owner()
    pids = members(one.unshare)
    assert one.say("exec") == f"{network.GATEWAY}/24"
    assert one.end() == 0
    nothing_left(one, pids)
    assert Machine.now() == before


@pytest.mark.parametrize("how", ["kill -9", "os._exit"])
def test_an_owner_that_dies_leaves_nothing(owner: Start, how: str) -> None:
    before = Machine.now()
    one = owner()
    pids = members(one.unshare)
    assert len(pids) >= 4
    if how == "kill -9":
        one.process.kill()
    else:
        one.say("die")
    one.process.wait(SOON_S)
    nothing_left(one, pids)
    assert Machine.now() == before


@pytest.mark.parametrize("which", ["unshare", "init"])
def test_a_lab_whose_first_process_is_killed_has_gone_and_closes(
    runtime: Path, tmp_path: Path, which: str
) -> None:
    before = Machine.now()
    with open_lab(tmp_path, Connection) as lab:
        (place,) = (p for p in runtime.iterdir() if str(p) in lab.uri)
        pids = set(processes_naming(str(place)))
        (unshare,) = (p for p in pids if Path(f"/proc/{p}/comm").read_text() == "unshare\n")
        (init,) = members(unshare) & {
            int(pid) for pid in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        }
        os.kill(unshare if which == "unshare" else init, signal.SIGKILL)
        until(lambda: not alive(pids), "the end of the lab's processes")
        with pytest.raises(LabError, match="the lab has gone"):
            lab.run("true")
        with pytest.raises(LabError, match="the lab has gone"):
            lab.connect_tcp(network.GATEWAY, 22, 1.0)
    assert not place.exists()
    assert Machine.now() == before


def test_a_sweep_removes_dead_labs_and_no_living_one(owner: Start, runtime: Path) -> None:
    one, two = owner(), owner()
    assert sweep() == 0
    # The lab's processes first, so that none of them is left to clean up after its owner.
    pids = members(two.unshare)
    os.kill(two.unshare, signal.SIGKILL)
    until(lambda: not alive(pids), "the end of the second lab")
    assert sweep() == 0  # its owner lives
    two.process.kill()
    two.process.wait()
    assert two.directory.exists()
    assert sweep() == 1
    nothing_left(two, set())
    assert one.say("exec") == f"{network.GATEWAY}/24"
    assert one.directory in labs(runtime)


def test_a_dead_lab_is_removed_with_its_disks_when_the_next_one_starts(
    runtime: Path, tmp_path: Path
) -> None:
    place, disks = runtime / "lab-dead0000", tmp_path / "labs" / "lab-dead0000"
    place.mkdir()
    disks.mkdir(parents=True)
    (disks / "guest.qcow2").write_text("left")
    (place / "disks").symlink_to(disks)
    (place / "lock").touch()
    (runtime / "not-a-lab").mkdir()
    with PrivateLab(tmp_path / "other"):
        assert not place.exists()
        assert not disks.exists()
    assert (runtime / "not-a-lab").exists()


# Makes a lab, and dies as soon as it has made the directory of its disks.
DYING = """
import os, pathlib, sys
from virtproof.lab import PrivateLab
honest = pathlib.Path.mkdir
def mkdir(path, *words, **how):
    honest(path, *words, **how)
    if "/labs/lab-" in str(path):
        os._exit(7)
pathlib.Path.mkdir = mkdir
PrivateLab(pathlib.Path(sys.argv[1]))
"""


def test_a_maker_that_dies_early_leaves_nothing_that_a_sweep_does_not_find(
    runtime: Path, tmp_path: Path
) -> None:
    known = set(runtime.iterdir())
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert len(list((tmp_path / "labs").iterdir())) == 1
    assert sweep() == 1
    assert set(runtime.iterdir()) - known <= {runtime / "guests"}
    assert list((tmp_path / "labs").iterdir()) == []


def test_a_labs_lock_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed while a lab is removed leaves one that the next sweep knows to be dead."""
    for name in ("a", "state", "z"):
        (tmp_path / name).mkdir()
    for name in ("broker", "lock", "zero"):
        (tmp_path / name).touch()
    (tmp_path / "disks").symlink_to(tmp_path)
    there: list[bool] = []
    honest = shutil.rmtree

    def rmtree(path: Path, **how: Any) -> None:
        there.append((tmp_path / "lock").exists())
        honest(path, **how)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove_lab(tmp_path)
    assert there == [True] * 4
    assert not tmp_path.exists()


def test_a_lab_that_lingers_outlives_its_owner_until_clean(owner: Start, runtime: Path) -> None:
    one = owner()
    pids = members(one.unshare)
    words = one.say("linger").split()
    assert words[:2] == ["nsenter", "--target"]
    one.process.kill()
    one.process.wait()
    assert sweep() == 0
    time_enough = time.monotonic() + 0.3
    until(lambda: time.monotonic() > time_enough, "a moment")
    running = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in alive(members(one.unshare))}
    assert {"unshare", "libvirtd", "dnsmasq"} <= running
    if os.getuid() == 0:
        enter = [*words, "ip", "-o", "link"]
        said = subprocess.run(enter, capture_output=True, text=True, check=True).stdout
        assert network.BRIDGE in said
    assert (one.directory / LINGERING).exists()
    assert clean() == Cleaned(dead=0, kept=1)
    nothing_left(one, pids)
    assert clean() == Cleaned(dead=0, kept=0)
    assert [path for path in runtime.glob("lab-*") if path == one.directory] == []


def test_a_remnant_without_its_lock_is_swept_once_it_is_old(runtime: Path) -> None:
    """Killed while it was removed, a lab has no lock any more; one that is being made has none yet."""
    old, young = runtime / "lab-old", runtime / "lab-young"
    for lab in (old, young):
        (lab / "state").mkdir(parents=True)
    os.utime(old, (0, 0))
    assert sweep() == 1
    assert not old.exists()
    assert young.exists()


# --- as an ordinary user --------------------------------------------------------------------


def ordinary_user() -> pwd.struct_passwd:
    """A user of this machine who may have a user namespace of their own; skips where none is."""
    if os.getuid() != 0:
        pytest.skip("not root: every other test here has run as an ordinary user")
    missing = [name for name in ("newuidmap", "setpriv") if host.find_program(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for line in Path("/etc/subuid").read_text().splitlines():
        name, _, count = line.replace(":", " ", 1).partition(" ")
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid and int(count.rpartition(":")[2]) >= 65536:
            return user
    pytest.skip("no ordinary user has subordinate uids (/etc/subuid)")


def readable_python(become: tuple[str, ...]) -> str:
    """A Python that the user may run with our libraries: ours, or the distribution's of its age."""
    reason = ""
    for python in (sys.executable, "/usr/bin/python3"):
        ask = [*become, python, "-c", "import libvirt, lxml.etree, virtproof.lab"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return python
        reason = done.stderr.strip()[-200:]
    pytest.skip(f"the ordinary user has no Python with our libraries: {reason}")


@pytest.fixture
def user_place(runtime: Path) -> Iterator[tuple[pwd.struct_passwd, Path]]:  # noqa: ARG001
    """An ordinary user, and a directory of theirs."""
    user = ordinary_user()
    path = Path(tempfile.mkdtemp(prefix="vpu-", dir="/tmp"))
    os.chown(path, user.pw_uid, user.pw_gid)
    yield user, path
    shutil.rmtree(path, ignore_errors=True)


def test_an_ordinary_user_has_a_lab_that_leaves_nothing(
    owner: Start, user_place: tuple[pwd.struct_passwd, Path]
) -> None:
    user, place = user_place
    become = (
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *("env", f"HOME={place}", f"PYTHONPATH={ROOT / 'plugins'}:{get_path('purelib')}"),
    )
    python = readable_python(become)
    before = Machine.now()
    for how in ("end", "kill"):
        one = owner(*become, python=python, cache=place / "cache", runtime=place / "run")
        pids = members(one.unshare)
        assert Path(f"/proc/{one.unshare}").stat().st_uid == user.pw_uid
        assert one.say("exec") == f"{network.GATEWAY}/24"
        if how == "end":
            assert one.end() == 0
        else:
            one.process.kill()
            one.process.wait()
        nothing_left(one, pids)
    assert Machine.now() == before

"""A lab that dies while tests run: an error of the tests that it died under, and of no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Theirs

ROOT = Path(__file__).parent.parent
SOON_S = 120.0
KILLS = """
import os, socket, threading
from pathlib import Path
from virtproof.lab.private import _child_of
from virtproof.spec import DiskBus

def libvirtd(lab):
    lab.run("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
    until_gone(lab)

def first_process(lab):
    os.kill(_child_of(lab._process.pid), 9)
    until_gone(lab)

def unshare(lab):
    os.kill(lab._process.pid, 9)
    until_gone(lab)

def until_gone(lab):
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(lab._directory / "libvirt-sock"))
            except OSError:
                return

def qemu(lab, guest):
    lab.run("sh", "-c", f"kill -9 $(cat /run/libvirt/qemu/{guest.name}.pid)")

IDE = dict(disk=DiskBus.IDE, nic=None)
"""
DIES = """
def test_before(shared_guest_on):
    assert shared_guest_on(**IDE).runner.run("echo before").stdout == "before\\n"

def test_asks_libvirt(shared_guest_on, lab):
    guest = shared_guest_on(**IDE)
    KILL(lab)
    guest.domain.xml()

def test_shared_after(shared_guest_on):
    assert shared_guest_on(**IDE).runner.run("echo after").stdout == "after\\n"

def test_sees_something_else(guest_on, lab):
    guest = guest_on(**IDE)
    KILL(lab)
    assert guest.name == "another"

def test_own_after(guest_on, lab):
    assert guest_on(**IDE).runner.run("echo after").stdout == "after\\n"
    assert lab.run("true").status == 0

def test_boots(defined_guest, lab):
    guest = defined_guest(**IDE)
    threading.Timer(1.0, KILL, [lab]).start()
    guest.boot()

def test_after_a_boot(shared_guest_on):
    assert shared_guest_on(**IDE).runner.run("echo after").stdout == "after\\n"

def test_fails_by_itself(shared_guest_on):
    assert shared_guest_on(**IDE).name == "another"

def test_passes_and_leaves_none(shared_guest_on, lab):
    shared_guest_on(**IDE)
    KILL(lab)
"""
HIT = ("test_asks_libvirt", "test_sees_something_else", "test_boots")


def pytest_run(
    place: Path, text: str, *options: str, runtime: Path | None = None
) -> subprocess.Popen[str]:
    (place / "test_it.py").write_text(text)
    env = {**os.environ, **({"VIRTPROOF_RUNTIME": str(runtime)} if runtime else {})}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", f"--rootdir={place}", str(place)),
            *("-p", "no:cacheprovider", f"--out={place / 'out'}", "--image=debian-12", *options),
        ],
        cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def records(place: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason by the test's name."""
    lines = map(json.loads, (place / "out" / "results.jsonl").read_text().splitlines())
    name = re.compile(r"::(\w+)")
    return {
        name.findall(record["test"])[0]: (record["outcome"], record["reason"] or "")
        for record in lines
    }


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if text in line]


@pytest.mark.real
@pytest.mark.boots(3)
@pytest.mark.parametrize(
    ("kill", "said"),
    [
        ("libvirtd", "libvirtd of the lab has gone"),
        ("first_process", "the lab was killed"),
        ("unshare", "the lab was killed"),
    ],
)
def test_a_dead_lab_is_an_error_of_the_tests_it_hit_and_the_rest_get_another(
    runtime: Path, tmp_path: Path, kill: str, said: str
) -> None:
    own = runtime / kill[0]  # a lab's sockets need short paths
    process = pytest_run(tmp_path, KILLS + DIES.replace("KILL", kill), runtime=own)
    printed = process.communicate(timeout=600)[0]
    found = records(tmp_path)
    outcomes = {name: outcome for name, (outcome, _) in found.items()}
    assert outcomes == {
        **dict.fromkeys(found, "passed"),
        **dict.fromkeys(HIT, "error"),
        "test_fails_by_itself": "failed",
    }, printed[-5000:]
    assert len(found) == 9
    for name in HIT:
        assert found[name][1].startswith(f"{said} while the test ran, which saw: "), found[name]
    assert "another" in found["test_sees_something_else"][1]
    assert said not in found["test_fails_by_itself"][1]
    assert printed.count(f"{said}; the next guest gets a new lab") == 3, printed[-5000:]
    assert said in (tmp_path / "out" / "report.html").read_text()
    assert "Traceback" not in printed
    assert "INTERNALERROR" not in printed
    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert list(own.glob("lab-*")) == []
    assert processes_naming(f"{own}/lab-") == []


DHCP_DIES = """
def test_fails(defined_guest, lab):
    guest = defined_guest(**IDE)
    lab.run("sh", "-c", "WHO; kill -9 $P")
    assert guest.name == "another"

def test_passes(defined_guest, lab):
    defined_guest(**IDE)
    lab.run("sh", "-c", "WHO; kill -9 $P")

def test_after(guest_on):
    assert guest_on(disk=DiskBus.IDE).address()
"""
SERVER = "P=$(cat /run/libvirt/network/virtproof.pid)"


@pytest.mark.real
@pytest.mark.boots(1)
@pytest.mark.parametrize("who", [SERVER, f"{SERVER}; P=$(cat /proc/$P/task/$P/children)"])
def test_a_dead_dhcp_server_is_not_blamed_on_a_guest(
    runtime: Path, tmp_path: Path, who: str
) -> None:
    """Nor its helper, without which no lease is noted. The rest of the tests get another lab."""
    own = runtime / f"d{len(who)}"
    process = pytest_run(tmp_path, KILLS + DHCP_DIES.replace("WHO", who), runtime=own)
    printed = process.communicate(timeout=600)[0]
    said = "the DHCP server of the lab was killed"
    outcome, reason = records(tmp_path)["test_fails"]
    assert outcome == "error", printed[-5000:]
    assert reason.startswith(f"{said} while the test ran, which saw: "), reason
    assert records(tmp_path)["test_after"] == ("passed", ""), printed[-5000:]
    assert printed.count(f"{said}; the next guest gets a new lab") == 2, printed[-5000:]
    assert list(own.glob("lab-*")) == []


HANGS = """
import time
from virtproof.guest import daemon

daemon.ASK_S, daemon.UNANSWERED = 1, 3

def test_hit(defined_guest, lab):
    guest = defined_guest(nic=None)
    guest.begin(guest.domain.start)
    lab.run("sh", "-c", "kill -STOP $(cat /run/libvirtd.pid)")
    guest.domain.xml()

def test_opens_its_console(defined_guest, lab, monkeypatch):
    monkeypatch.setattr(daemon, "OPEN_S", 3)
    guest = defined_guest(nic=None)
    lab.run("sh", "-c", "kill -STOP $(cat /run/libvirtd.pid)")
    guest.domain.console("serial0")

def test_after(defined_guest):
    guest = defined_guest(nic=None)
    guest.begin(guest.domain.start)
    time.sleep(5)  # longer than a mute daemon is waited for: this one answers
    assert guest.state == "running"
"""


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_libvirtd_that_hangs_is_a_dead_lab_within_a_bounded_time(
    runtime: Path, tmp_path: Path
) -> None:
    """Nothing of libvirt's knows a time-out of its own: without being asked, it would be for ever."""
    process = pytest_run(tmp_path, HANGS, runtime=runtime / "h")
    printed = process.communicate(timeout=300)[0]
    found = records(tmp_path)
    said = "libvirtd of the lab hangs while the test ran, which saw: "
    assert found["test_hit"][0] == "error", printed[-5000:]
    assert found["test_hit"][1].startswith(f"{said}libvirtd has gone: ")
    assert "keepalive" in found["test_hit"][1]
    assert found["test_opens_its_console"][0] == "error", printed[-5000:]
    assert found["test_opens_its_console"][1].startswith(f"{said}libvirtd hangs: no answer within")
    assert found["test_after"] == ("passed", ""), printed[-5000:]
    assert "libvirtd of the lab hangs; the next guest gets a new lab" in printed
    assert "Traceback" not in printed
    assert list((runtime / "h").glob("lab-*")) == []
    assert processes_naming(f"{runtime}/h/lab-") == []


QEMU_DIES = """
def test_hit(shared_guest_on, lab):
    guest = shared_guest_on(**IDE)
    qemu(lab, guest)
    guest.runner.run("echo")

def test_after(shared_guest_on):
    assert shared_guest_on(**IDE).runner.run("echo after").stdout == "after\\n"
"""


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_shared_guest_whose_qemu_was_killed_is_made_anew_in_the_same_lab(
    runtime: Path, tmp_path: Path
) -> None:
    process = pytest_run(tmp_path, KILLS + QEMU_DIES, runtime=runtime / "q")
    printed = process.communicate(timeout=600)[0]
    found = records(tmp_path)
    assert found["test_after"] == ("passed", ""), printed[-5000:]
    assert found["test_hit"][0] == "failed"
    assert re.match(r"(in the guest|the guest)[^\n]* ", found["test_hit"][1]), found["test_hit"]
    assert "new lab" not in printed
    assert list((runtime / "q").glob("lab-*")) == []


THEIRS = """
import time
from pathlib import Path
HERE = Path(__file__).parent

def test_before(defined_guest):
    guest = defined_guest(nic=None)

def test_hit(defined_guest):
    guest = defined_guest(nic=None)
    guest.begin(guest.domain.start)
    (HERE / "up").touch()
    while not (HERE / "go").exists():
        time.sleep(0.02)
    guest.domain.xml()

def test_after(defined_guest):
    guest = defined_guest(nic=None)
    guest.begin(guest.domain.start)
    assert guest.state == "running"

def test_last(lab):
    assert lab.network
"""
# Nobody reaps the lab's first libvirtd, so that its locks on consoles would count; systemd would.
START = (
    "rm -f /run/lock/LCK.*; "
    "libvirtd --daemon --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirtd.pid"
)


def users_libvirtd_dies(theirs: Theirs, place: Path, *, starts_again: bool) -> tuple[int, str]:
    lab = theirs.lab
    process = pytest_run(
        place,
        THEIRS,
        *(f"--libvirt={lab.uri}", f"--network={lab.network}", f"--pool={theirs.pool}"),
    )
    until(lambda: (place / "up").exists() or process.poll() is not None, "the guest")
    lab.run("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
    if starts_again:
        started = lab.run("sh", "-c", START)
        assert started.status == 0, started
    (place / "go").touch()
    printed = process.communicate(timeout=SOON_S)[0]
    return process.returncode, printed


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_users_libvirtd_that_comes_back_is_used_and_swept(theirs: Theirs, tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    before = theirs.owned()
    status, printed = users_libvirtd_dies(theirs, place, starts_again=True)
    found = records(place)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_before": "passed",
        "test_hit": "error",
        "test_after": "passed",
        "test_last": "passed",
    }, printed[-5000:]
    assert found["test_hit"][1].startswith(f"libvirt at {theirs.lab.uri} has gone while the test")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "removed 1 guests and 2 volumes that earlier runs had left" in printed
    assert theirs.owned() == before


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_users_libvirtd_that_stays_away_is_one_line_and_clean_finds_what_is_left(
    theirs: Theirs, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    before = theirs.owned()
    status, printed = users_libvirtd_dies(theirs, place, starts_again=False)
    found = records(place)
    assert found["test_hit"][0] == "error", printed[-5000:]
    outcome, reason = found["test_after"]
    assert outcome in ("error", "failed")
    assert reason.startswith(f"libvirt at {theirs.lab.uri} does not answer: "), reason
    assert "test_last" not in found  # nothing could be told by it
    assert "Traceback" not in printed
    assert status != 0
    assert theirs.lab.run("sh", "-c", START).status == 0
    assert len(theirs.owned()) > len(before)
    done = subprocess.run(
        [sys.executable, "-m", "virtproof", "clean", "--libvirt", theirs.lab.uri],
        capture_output=True, text=True, check=False, timeout=SOON_S,
    )  # fmt: skip
    assert "removed 1 guests and 2 volumes" in done.stdout, done
    assert theirs.owned() == before

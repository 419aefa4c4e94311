"""Guests are let in by cores and memory over processes, and a dead process keeps nobody out."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtproof import cli
from virtproof.errors import LabError
from virtproof.lab.admission import Admission

# Claims memory or a turn in a process of its own, says so, and holds it until it is told to go.
HOLDER = """
import sys
from pathlib import Path
from virtproof.lab.admission import Admission
admission = Admission(Path(sys.argv[1]), cores=2, memory_mib=1000)
def hold():
    print("in", flush=True)
    sys.stdin.readline()
if sys.argv[2] == "turn":
    with admission.starting():
        hold()
else:
    admission.enter(sys.argv[2], int(sys.argv[3]), lambda _: None)
    hold()
    admission.leave(sys.argv[2])
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Start]:
    """Starts another process that holds a turn, or memory."""
    started: list[subprocess.Popen[str]] = []

    def start(*what: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", HOLDER, str(tmp_path), *what]
        started.append(
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "in\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    return Admission(tmp_path, cores=2, memory_mib=1000)


class Entering(threading.Thread):
    """Enters from a thread, so that a test sees whether it waits."""

    def __init__(self, enter: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._enter = enter
        self.start()

    def run(self) -> None:
        self._enter()

    @property
    def waits(self) -> bool:
        """Whether it is not in after a while."""
        self.join(0.5)
        return self.is_alive()

    @property
    def is_in(self) -> bool:
        """Whether it comes in, however slow the machine."""
        self.join(20)
        return not self.is_alive()


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=20)


def one_turn(admission: Admission) -> None:
    with admission.starting():
        pass


def test_as_many_start_at_once_as_there_are_cores(other: Start, admission: Admission) -> None:
    first, _ = other("turn"), other("turn")
    third = Entering(lambda: one_turn(admission))
    assert third.waits
    let_go(first)
    assert third.is_in


def test_memory_is_waited_for_and_told_once(other: Start, admission: Admission) -> None:
    first = other("a", "700")
    said: list[str] = []
    second = Entering(lambda: admission.enter("b", 400, said.append))
    assert second.waits
    assert said == ["waits for 400 MiB of memory"]
    let_go(first)
    assert second.is_in


def test_what_fits_beside_does_not_wait(other: Start, admission: Admission) -> None:
    other("a", "600")
    assert Entering(lambda: admission.enter("b", 400, print)).is_in


def test_who_has_a_guest_gets_another(other: Start, admission: Admission) -> None:
    admission.enter("mine", 300, print)
    other("a", "700")
    assert Entering(lambda: admission.enter("second", 700, print)).is_in


def test_the_only_guest_is_never_too_large(admission: Admission) -> None:
    assert Entering(lambda: admission.enter("large", 5000, print)).is_in


@pytest.mark.parametrize("what", [("turn",), ("a", "900")], ids=["turn", "memory"])
def test_a_killed_process_keeps_nobody_out(
    other: Start, admission: Admission, what: tuple[str, ...], tmp_path: Path
) -> None:
    holders = [other(*what), *([other("turn")] if what == ("turn",) else [])]
    waiting = Entering(
        (lambda: one_turn(admission))
        if what == ("turn",)
        else (lambda: admission.enter("b", 900, lambda _: None))
    )
    assert waiting.waits
    holders[0].kill()
    holders[0].wait()
    assert waiting.is_in
    assert not (tmp_path / "guests" / "memory-a").exists()


def test_leaving_twice_is_no_fault(admission: Admission, tmp_path: Path) -> None:
    admission.enter("a", 10, print)
    admission.leave("a")
    admission.leave("a")
    assert not list((tmp_path / "guests").glob("memory-*"))


def test_clean_removes_the_claims_of_the_dead_alone(
    other: Start,
    admission: Admission,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A killed build has no next guest to remove its claim."""
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path))
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path / "cache"))
    dead = other("dead", "100")
    other("alive", "100")
    admission.enter("ours", 100, print)
    dead.kill()
    dead.wait()
    assert (tmp_path / "guests" / "memory-dead").exists()
    assert cli.main(["clean"]) == 0
    claims = {path.name for path in (tmp_path / "guests").glob("memory-*")}
    assert claims == {"memory-alive", "memory-ours"}
    capsys.readouterr()


def test_nobody_waits_for_memory_for_ever(
    admission: Admission, other: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    other("theirs", "900")
    monkeypatch.setattr("virtproof.lab.admission.WAIT_S", 0.2)
    with pytest.raises(LabError, match="no 200 MiB of memory"):
        admission.enter("ours", 200, lambda _: None)

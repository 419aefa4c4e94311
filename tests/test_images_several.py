"""Images built at a time: how many, in which order, and what a failure and Ctrl-C leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from virtproof import host
from virtproof.deadline import Deadline, wait_for
from virtproof.images import several


@pytest.mark.parametrize(
    ("cpus", "memory_mib", "jobs"), [(2, 24000, 2), (16, 9000, 4), (4, 1000, 1)]
)
def test_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, cpus: int, memory_mib: int, jobs: int
) -> None:
    monkeypatch.setattr(host, "record", lambda: {"cpus": cpus, "memory_mib": memory_mib})
    assert several.jobs() == jobs


def test_one_of_each_suite_comes_first() -> None:
    """The others of it would wait for its root filesystem."""
    names = ["a1", "a2", "b1", "a3", "c1", "b2"]
    assert several.spread(names, lambda name: name[0]) == ["a1", "b1", "c1", "a2", "b2", "a3"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package "virtproof" whose build says its name, and keeps a file while it runs."""
    (tmp_path / "virtproof").mkdir()
    (tmp_path / "virtproof" / "__init__.py").touch()
    (tmp_path / "virtproof" / "__main__.py").write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time
            name = sys.argv[3]
            mark = pathlib.Path(__file__).parent.parent / f"running-{name}"
            mark.touch()
            try:
                seen = len(list(mark.parent.glob("running-*")))
                print(f"{name}: begins", sys.argv[4:], flush=True)
                while name == "slow": time.sleep(0.05)
                time.sleep(0.2)
                sys.exit(name == "bad")
            finally:
                mark.unlink()
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_failure_does_not_stop_the_others(fake: Path) -> None:
    said: list[str] = []
    failed = several.build(["one", "bad", "two"], ["--accel", "tcg"], said.append, 1)
    assert failed == ["bad"]
    assert said == [f"{name}: begins ['--accel', 'tcg']" for name in ("one", "bad", "two")]
    assert not list(fake.glob("running-*"))


def test_ctrl_c_ends_each_in_its_own_order(fake: Path, tmp_path: Path) -> None:
    """Each is interrupted, and not killed: what it has open it closes."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import signal, sys; sys.path[:] = [p for p in sys.path if p != {str(tmp_path)!r}]\n"
        "from virtproof.images import several\n"
        # A shell's background job inherits that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "several.build(['slow', 'slow2', 'slow'], [], print, 2)\n"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [sys.executable, "-P", str(script)], env=environment, stderr=subprocess.PIPE, text=True
    )
    mark = fake / "running-slow"
    assert wait_for(lambda: mark.exists() or None, Deadline.after(30), 0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert "KeyboardInterrupt" in said
    assert not list(fake.glob("running-*"))

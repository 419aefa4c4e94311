"""--libvirt and --keep-guest as a user gives them: a whole pytest run with a real guest each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Theirs

ROOT = Path(__file__).parent.parent
RED = """
from virtproof.spec import DiskBus

def test_red(guest_on):
    assert guest_on(disk=DiskBus.IDE).runner.run("echo left").stdout == "right"
"""
# A disk of each kind of work on a pool: volumes made, uploaded, measured, grown, hot-added.
ON_A_POOL = "discard_reaches or resize or hot_added_and_removed or round_trip or mac_is"
NOT_OURS = "mtu_is_usable and 576"


def run(
    *argv: str, runtime: Path | None = None, timeout_s: int = 900
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"VIRTPROOF_RUNTIME": str(runtime)} if runtime else {})}
    return subprocess.run(
        argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip


def records(out: Path) -> dict[str, dict[str, object]]:
    lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return {record["test"].split("::")[1]: record for record in lines}


@pytest.mark.real
@pytest.mark.boots(3)
def test_the_users_own_libvirt_runs_guests_and_is_left_as_it_was(
    theirs: Theirs, tmp_path: Path
) -> None:
    lab = theirs.lab
    # From where a user's guests would be reached.
    enter = ["nsenter", f"--net={network_of(lab.run('readlink', '/proc/self/ns/net').stdout)}"]
    out = tmp_path / "out"
    before = theirs.owned()
    done = run(
        *(*enter, sys.executable, "-m", "pytest", "-q", "suites/disk", "suites/network"),
        *(
            f"--libvirt={lab.uri}",
            f"--network={lab.network}",
            f"--pool={theirs.pool}",
            f"--out={out}",
        ),
        *("--image=debian-12", "-k", f"{ON_A_POOL} or {NOT_OURS}"),
    )
    found = records(out)
    assert done.returncode == 0, done.stdout[-4000:]
    skipped = {name for name, record in found.items() if record["outcome"] == "skipped"}
    assert [name for name in skipped if "mtu" in name], found
    assert len(found) - len(skipped) >= 6
    assert theirs.owned() == before


def network_of(namespace: str) -> str:
    """A /proc path of the network namespace that ``namespace`` names, as net:[4026532201]."""
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if os.readlink(link) == namespace.strip():
                return str(link)
        except OSError:  # a process that has gone, or is not ours
            continue
    raise AssertionError(f"no process in {namespace}")


@pytest.mark.real
@pytest.mark.boots(3)
def test_a_failed_tests_guest_is_kept_reached_as_printed_and_cleaned(
    runtime: Path, tmp_path: Path
) -> None:
    (tmp_path / "test_red.py").write_text(RED)
    done = run(
        *(sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", str(tmp_path)),
        *("-p", "no:cacheprovider", "--keep-guest", f"--out={tmp_path / 'out'}"),
        *("--image=debian-12",),
        runtime=runtime,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    printed = done.stdout + done.stderr
    ssh = re.search(r"^ *ssh: +(.*)$", printed, re.MULTILINE)
    console = re.search(r"^ *console: +(virsh -c '\S+') console (\S+)$", printed, re.MULTILINE)
    assert ssh, printed
    assert console, printed
    try:
        said = run("sh", "-c", f"{ssh[1]} cat /proc/1/comm")
        assert said.stdout == "systemd\n", said.stderr
        state = run("sh", "-c", f"{console[1]} domstate {console[2]}")
        assert state.stdout.strip() == "running", state.stderr
    finally:
        clean = run(sys.executable, "-m", "virtproof", "clean", runtime=runtime)
    assert "ended 1 kept" in clean.stdout, clean.stdout + clean.stderr
    assert list(runtime.glob("lab-*")) == []
    gone = run("sh", "-c", f"{console[1]} domstate {console[2]}")
    assert gone.returncode != 0

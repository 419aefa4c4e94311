"""Guests that say what they should not: garbage, escape sequences, floods, names that are paths or markup.

What a guest says is caught by its right name all the same, and harms neither terminal nor report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from seeding import unit

from virtproof.diagnose.evidence import Diagnosis
from virtproof.errors import GuestError
from virtproof.guest.guest import Guest

pytestmark = [pytest.mark.real, pytest.mark.boots(2)]
Fails = Callable[..., Diagnosis]


@pytest.mark.trial("hostile", "garbage and escape sequences on the console, then a panic")
def test_garbage(ide: Guest, fails_to_boot: Fails) -> None:
    noise = r"""
        head -c 20000 /dev/urandom >/dev/ttyS0
        printf '\033]0;owned\007\033[2J\033[31m\033[?1049h\033P$q\033\\\r\n' >/dev/ttyS0
        echo c >/proc/sysrq-trigger
    """
    unit(ide, "noise", noise, "sysinit.target")
    found = fails_to_boot("kernel-panic", ide.reboot)
    assert found.line.isprintable()


HOSTILE = r"""
import pytest
from virtproof.spec import DiskBus, NicModel

def test_names(guest_on):
    guest = guest_on(disk=DiskBus.IDE, nic=NicModel.VIRTIO)
    assert guest.address()
    name = guest.net.by_mac(guest.mac).name
    guest.runner.run(
        "printf 'ID=\"../../x\"\\nPRETTY_NAME=\"<script>alert(1)</script>\\033[31m../../../etc\"\\n' "
        ">/etc/os-release; mount --bind /bin/sh /bin/uname; hostname '<b>'"
    )
    guest.runner.run("ip link set %s down; ip link set %s name '<i>&;$(x)'", name, name, check=False)
    guest.reboot()
    print("\033[2Jsaid", guest.identity)
    assert guest.runner.run("printf '\\033[31m<script>'").stdout == "nothing"
"""


@pytest.mark.boots(3)
@pytest.mark.trial("hostile", "names that are markup, escape sequences and paths")
def test_names(tmp_path: Path, noted: dict[str, str]) -> None:
    """A whole run on such a guest: nothing outside ``out``, no markup in the report, a clean terminal."""
    (tmp_path / "test_hostile.py").write_text(HOSTILE)
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--image=debian-12"]
    argv += [f"--rootdir={tmp_path}", f"--out={out}", str(tmp_path / "test_hostile.py")]
    done = subprocess.run(
        argv, cwd=tmp_path, env=dict(os.environ), capture_output=True, check=False
    )
    noted.update(by="run", name="harmless", line="")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout.decode()
    [record] = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    noted["line"] = record["guest"]["distribution"]
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "\x1b" not in page + (out / "results.jsonl").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"test_hostile.py", "out"}


@pytest.mark.sample
@pytest.mark.boots(1)
@pytest.mark.trial("hostile", "a command that talks without end")
def test_endless_command(ide: Guest, noted: dict[str, str]) -> None:
    with pytest.raises(GuestError, match="said more than") as ended:
        ide.ssh.run("yes", timeout_s=120)
    noted.update(by="ssh", name="ended", line=str(ended.value))
    assert ide.ssh.run("echo still here").stdout == "still here\n"

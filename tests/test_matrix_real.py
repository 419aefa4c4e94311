"""The matrix on trial: kernels that lack a driver, have one that does not load, or were read wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# In the running guest, before it is given anything: e1000 is there and cannot be loaded (a rule of modprobe's
# alone did not keep udev from it), pcnet32 is not there,
# and of ne2k-pci nothing is to be read, though it is loaded.
SPOIL = r'''
from virtproof.plugin import run

honest = run.Run.boot
SCRIPT = r"""
d=/lib/modules/$(uname -r)
printf '%s\n' 'install e1000 /bin/false' 'blacklist e1000' >/etc/modprobe.d/virtproof.conf
find "$d" -name 'e1000.ko*' -exec sh -c ': >"$1"' _ {} \;
udevadm control --reload
modprobe ne2k-pci
find "$d" -name 'pcnet32.ko*' -delete
sed -i -e '/\/pcnet32\.ko/d' -e '/\/ne2k-pci\.ko/d' "$d/modules.dep"
"""


def boot(self, guest):
    honest(self, guest).runner.run(SCRIPT)
    return guest


run.Run.boot = boot
'''
VERDICTS = {
    "nic/e1000": ("failed", "broken", "the kernel has e1000, but it did not bind"),
    "nic/e1000e": ("passed", "works", ""),
    "nic/pcnet": ("skipped", "not-supported", "it has no pcnet32"),
    "nic/ne2k_pci": (
        "failed",
        "broken",
        "the kernel was read to have no ne2k_pci, yet ne2k-pci bound",
    ),
}


@pytest.mark.real
@pytest.mark.boots(2)
def test_a_kernel_that_lacks_and_one_that_fails_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "spoiled.py").write_text(SPOIL)
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "spoiled", f"--out={out}"]
    argv += ["--image=debian-12", "--nic=e1000,e1000e,pcnet,ne2k_pci", "suites/matrix"]
    done = subprocess.run(
        [*argv, "-k", "test_device"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    records = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    found = {record["compat"]["check"]: record for record in records}
    said = {
        check: (record["outcome"], record["compat"]["verdict"], record["compat"]["reason"])
        for check, record in found.items()
    }
    assert said == VERDICTS, done.stdout[-3000:]
    assert found["nic/pcnet"]["reason"] == "not supported by this kernel: it has no pcnet32"
    assert done.returncode == pytest.ExitCode.TESTS_FAILED

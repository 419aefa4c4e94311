"""A kernel under test as a user gives it: a whole pytest run, on an image whose boot loader boots it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtproof.images.store import ImageStore, default_cache
from virtproof.spec import Accel

ROOT = Path(__file__).parent.parent
IMAGE = "debian-12"
TESTS = """
from virtproof.kernel import expect
from virtproof.spec import DiskBus, NicModel

def test_it_runs(guest_on, image_name):
    guest = guest_on(disk=DiskBus.IDE)
    assert f"debian-12@{guest.kernel.release}" == image_name
    assert guest.initramfs.modules          # made by the guest's own tool, for this kernel
    assert guest.spec.kernel == ""          # and booted by its own boot loader
    assert not guest.support.has("8139cp")  # what is skipped below is not there

def test_what_it_lacks_is_a_skip(guest_on):
    guest_on(disk=DiskBus.IDE, nic=NicModel.RTL8139)
"""


@pytest.mark.real
@pytest.mark.boots(4)
def test_an_image_runs_a_kernel_from_a_package(tmp_path: Path) -> None:
    """The cloud kernel, which has no driver for RTL8139, in an image that was made with the generic one."""
    packages = ImageStore(default_cache(), Accel.TCG, print).packages(IMAGE)
    (package,) = packages.glob("linux-image-*-cloud-*.deb")
    release = package.name.split("_")[0].removeprefix("linux-image-")
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "test_it.py"),
            *(f"--image={IMAGE}", f"--kernel-deb={package}", f"--out={tmp_path / 'out'}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    lines = (tmp_path / "out/results.jsonl").read_text().splitlines()
    runs, lacks = (json.loads(line) for line in lines)
    assert (runs["outcome"], lacks["outcome"]) == ("passed", "skipped")
    assert runs["test"].endswith(f"test_it_runs[{IMAGE}@{release}]")
    assert runs["guest"]["kernel_under_test"] == runs["guest"]["kernel"] == release
    assert lacks["reason"].startswith(f"not supported by this kernel: {release} has no 8139cp or")

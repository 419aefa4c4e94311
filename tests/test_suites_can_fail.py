"""The suites on trial: given guests that are not what they were asked for, their tests go red."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Swaps every emulated device for its virtio counterpart and back, under the tests' feet. Has libvirt
# say that it is old, the guest nothing of itself, and the domain that it runs on the other accelerator.
# And has a second kernel come into a system whose initramfs no longer knows virtio_blk.
SWAP = """
import dataclasses, re
from virtproof.guest import connection, domain, guest
from virtproof.plugin import guests
from virtproof.spec import DiskBus, NicModel

NICS = {NicModel.RTL8139: NicModel.VIRTIO, NicModel.VIRTIO: NicModel.RTL8139}
BUSES = {
    DiskBus.VIRTIO: DiskBus.SATA,
    DiskBus.SATA: DiskBus.VIRTIO,
    DiskBus.VIRTIO_SCSI: DiskBus.SCSI,
    DiskBus.SCSI: DiskBus.VIRTIO_SCSI,
}
honest = guests._spec

def swapped(run, image_name, axes):
    disks = tuple(
        dataclasses.replace(disk, bus=BUSES.get(disk.bus, disk.bus), readonly=False)
        for disk in axes.get("data_disks", ())
    )
    nic = NICS[axes.get("nic", NicModel.RTL8139)]
    return honest(run, image_name, {**axes, "nic": nic, "data_disks": disks})

guests._spec = swapped
connection.Connection.versions = lambda self: {"libvirt": "8.9.99", "qemu": "7.2.0"}
honest_xml = domain.Domain.xml
OTHER = {"qemu": "kvm", "kvm": "qemu"}

def other_accelerator(self, **how):
    xml = honest_xml(self, **how)
    return re.sub("(?<=<domain type=')[a-z]+", lambda found: OTHER[found[0]], xml, count=1)

domain.Domain.xml = other_accelerator
guest.identity = lambda runner: (None, None)
honest_install = guest.Guest.install_packages

def install_without_driver(self, directory):
    self.runner.run("cd /etc/initramfs-tools && echo MODULES=list >conf.d/virtproof && "
        "printf 'virtio_pci\\next4\\n' >modules")
    return honest_install(self, directory)

guest.Guest.install_packages = install_without_driver
"""
SELECTED = (
    "needs_no_step or recent_enough or names_what_it_runs_on or is_the_one_that_was_said or "
    "shows_no_virtio or bound_to_virtio_net or every_virtio_function or bound_to_its_driver "
    "or round_trip or counters_move or read_only"
)
# By name: what a wrong guest must turn red, and what it cannot (a disk that was not swapped).
RED = {
    "test_installed_on_virtio_needs_no_step_nor_does_its_update[debian-12]",
    "test_libvirt_is_recent_enough[debian-12]",
    "test_run_names_what_it_runs_on[debian-12]",
    "test_accelerator_is_the_one_that_was_said[debian-12]",
    "test_emulated_guest_shows_no_virtio[debian-12]",
    "test_nic_is_bound_to_virtio_net[debian-12]",
    "test_disk_is_bound_to_its_driver[debian-12-sata]",
    "test_disk_is_bound_to_its_driver[debian-12-scsi]",
    "test_disk_is_bound_to_its_driver[debian-12-virtio]",
    "test_disk_is_bound_to_its_driver[debian-12-virtio-scsi]",
    "test_model_survives_the_round_trip[debian-12]",
    "test_counters_move_with_traffic[debian-12]",
    "test_read_only_disk_refuses_writes[debian-12]",
}
GREEN = {
    "test_disk_is_bound_to_its_driver[debian-12-ide]",
    "test_every_virtio_function_has_its_driver[debian-12]",
}


@pytest.mark.real
@pytest.mark.boots(12)
def test_wrong_guests_turn_the_suites_red(tmp_path: Path) -> None:
    (tmp_path / "swapped.py").write_text(SWAP)
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "swapped", f"--out={out}"]
    argv += ["--image=debian-12", "-k", SELECTED]
    argv += [
        str(ROOT / "suites" / name) for name in ("host", "drivers", "network", "disk", "transition")
    ]
    env_path = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **env_path}, capture_output=True, text=True, check=False
    )
    lines = (out / "results.jsonl").read_text().splitlines()
    outcomes = {record["test"].split("::")[1]: record for record in map(json.loads, lines)}
    assert set(outcomes) == RED | GREEN, done.stdout[-3000:]
    red = {name for name, record in outcomes.items() if record["outcome"] == "failed"}
    assert red == RED, {name: outcomes[name] for name in red ^ RED}
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    [updated] = (name for name in RED if "needs_no_step" in name)
    assert outcomes[updated]["diagnosis"]["name"] == "initramfs-lacks-virtio_blk"
    for name in RED:
        assert outcomes[name]["reason"]
        assert (out / outcomes[name]["evidence"] / "console.log").is_file()

"""What is wrong with a guest that is up: each rule on a healthy guest's vitals with one thing changed."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from virtproof.diagnose.checkup import FLAPS, RULES, SLOW_DISK, SLOW_PATH, Vitals, complaints
from virtproof.diagnose.explanations import EXPLANATIONS
from virtproof.errors import CommandError
from virtproof.guest.checkup import needed_functions
from virtproof.guest.shell import CommandResult
from virtproof.probe.exercise import ExerciseProbe, Path, WorkedDisk
from virtproof.probe.health import Driven, Function, HealthProbe, Link, Root

DISK = Function("0000:00:04.0", "1af4:1001", "disk", "virtio_blk")
NIC = Function("0000:00:03.0", "1af4:1000", "nic", "virtio_net")
LINK = Link("ens3", "52:54:00:00:00:01", carrier=True, changes=2, mtu=1500)
FAST = WorkedDisk("sda", written=False, failed=(), wrong_at=(), read_mib_s=120.0)
DATA = WorkedDisk("vda", written=True, failed=(), wrong_at=(), read_mib_s=90.0)
PATH = Path("198.18.0.1", 200, 0, 1500, (100, 1500), big_ms=3.3, loopback_ms=0.6)
ROOT = Root(read_only=False, options="rw,relatime", size_kib=4045536, free_kib=3035824)
HEALTHY = Vitals(
    needed={DISK.address: "disk", NIC.address: "nic"},
    functions=(DISK, NIC),
    disks=(FAST, DATA),
    root=ROOT,
    links=(LINK,),
    lease="198.18.0.20",
    answered_by=(LINK.mac,),
    path=PATH,
    virtio=(Driven("virtio0", "net", version_1=True),),
    clock_s=-1.3,
)
ILL: list[tuple[str, dict[str, Any], str]] = [
    ("disk-driver-missing", {"functions": (replace(DISK, driver=None), NIC)}, "no driver"),
    ("disk-driver-missing", {"functions": (NIC,)}, "0000:00:04.0"),
    ("nic-driver-missing", {"functions": (DISK, replace(NIC, driver=None))}, "1af4:1000"),
    ("disk-io-error", {"kernel_errors": ("I/O error, dev vda, sector 8",)}, "sector 8"),
    ("disk-io-error", {"disks": (FAST, replace(DATA, failed=("dd: error",)))}, "disk vda"),
    ("disk-data-wrong", {"disks": (FAST, replace(DATA, wrong_at=(65536,)))}, "65536"),
    ("flush-lost", {"flush_lost": "vda"}, "flushed"),
    ("root-read-only", {"root": replace(ROOT, read_only=True, options="ro")}, "(ro)"),
    ("root-full", {"root": replace(ROOT, free_kib=ROOT.size_kib // 201)}, "KiB left"),
    ("link-down", {"links": (replace(LINK, carrier=False),)}, "no carrier"),
    ("link-flaps", {"links": (replace(LINK, changes=FLAPS),)}, f"{FLAPS} times"),
    ("duplicate-address", {"answered_by": (LINK.mac, "02:00:00:00:00:01")}, "02:00"),
    ("no-address", {"lease": ""}, "no address"),
    ("no-address", {"lease": "", "links": (replace(LINK, carrier=None),)}, "brings ens3 up"),
    ("packet-loss", {"path": replace(PATH, lost=3)}, "3 of 200"),
    ("mtu-mismatch", {"path": replace(PATH, passes=(100,))}, "1500"),
    ("nic-slow", {"path": replace(PATH, big_ms=0.6 * SLOW_PATH + 1)}, "loopback"),
    ("disk-slow", {"disks": (FAST, replace(DATA, read_mib_s=119 * SLOW_DISK))}, "vda"),
    ("virtio-legacy", {"virtio": (Driven("virtio0", "net", version_1=False),)}, "VERSION_1"),
    ("clock-off", {"clock_s": -61.0}, "behind"),
    ("clock-off", {"clock_s": 61.0}, "ahead of"),
    ("unit-failed", {"failed_units": ("a.service",)}, "a.service"),
]


def test_a_healthy_guest_gives_no_complaint() -> None:
    assert complaints(HEALTHY) == ()
    assert complaints(Vitals()) == ()


@pytest.mark.parametrize(("name", "change", "said"), ILL)
def test_one_thing_wrong_has_its_name(name: str, change: dict[str, Any], said: str) -> None:
    [found] = complaints(replace(HEALTHY, **change))
    assert (found.name, found.source) == (name, "check-up")
    assert said in found.line


@pytest.mark.parametrize(
    "change",
    [
        {"path": replace(PATH, lost=2)},
        {"path": replace(PATH, big_ms=0.6 * SLOW_PATH - 1)},
        {"path": replace(PATH, big_ms=None, loopback_ms=None, passes=())},
        {"disks": (FAST, replace(DATA, read_mib_s=121 * SLOW_DISK))},
        {"disks": (replace(FAST, read_mib_s=None),)},
        {"links": (replace(LINK, changes=FLAPS - 1),)},
        {"root": replace(ROOT, free_kib=ROOT.size_kib // 199)},
        {"clock_s": 59.0},
    ],
)
def test_what_is_within_bounds_is_no_complaint(change: dict[str, Any]) -> None:
    assert complaints(replace(HEALTHY, **change)) == ()


def test_every_rule_has_a_case_and_an_explanation() -> None:
    assert {name for name, _ in RULES} == {name for name, _, _ in ILL}
    assert {name for name, _ in RULES} <= set(EXPLANATIONS)


def test_the_cause_comes_before_what_follows_from_it() -> None:
    found = complaints(
        replace(
            HEALTHY,
            root=replace(ROOT, read_only=True),
            kernel_errors=("I/O error, dev vda",),
            failed_units=("a.service",),
        )
    )
    assert [f.name for f in found] == ["disk-io-error", "root-read-only", "unit-failed"]


DOMAIN = """<domain><devices>
 <disk type='file' device='disk'><target dev='hda' bus='ide'/>
  <address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>
 <disk type='file' device='disk'><target dev='vda' bus='virtio'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/></disk>
 <disk type='file' device='disk'><target dev='vdb' bus='virtio'/>
  <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></disk>
 <disk type='file' device='cdrom'><target dev='sdc' bus='sata'/></disk>
 <disk type='file' device='disk'><target dev='sda' bus='scsi'/>
  <address type='drive' controller='1' bus='0' target='0' unit='0'/></disk>
 <controller type='ide' index='0'>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x1'/></controller>
 <controller type='sata' index='0'>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></controller>
 <controller type='scsi' index='1'>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x0'/></controller>
 <interface type='network'>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/></interface>
</devices></domain>"""


def test_functions_that_a_domain_needs() -> None:
    """Not those of a controller that nothing hangs on, nor those whose bus the guest numbers itself."""
    assert needed_functions(DOMAIN) == {
        "0000:00:01.1": "disk",
        "0000:00:07.0": "disk",
        "0000:00:1f.0": "disk",
        "0000:00:03.0": "nic",
    }


class Says:
    """A runner whose guest says one thing, whatever it is asked."""

    def __init__(self, said: str) -> None:
        self._said = said

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        del args, check, timeout_s
        return CommandResult(command, 0, self._said, "")

    def put(self, path: str, data: bytes) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    "said",
    [
        "@ disk vda\nns\t12x\n.\n",
        "@ disk vda\nwrong\t-1\n.\n",
        "@ disk vda\nns\tnan\n.\n",
        "@ disk vda\nns\t" + "9" * 400 + "\n.\n",
    ],
)
def test_numbers_that_are_none_are_one_line(said: str) -> None:
    with pytest.raises(CommandError, match="vda"):
        _ = ExerciseProbe(Says(said), "", 0).disks


@pytest.mark.parametrize("left_out", ["mtu", "1.1.1.1", "127.0.0.1"])
def test_a_record_that_is_missing_is_one_line(left_out: str) -> None:
    records = {"loss": "said\t\n", "mtu": "size\t1500\n", "1.1.1.1": "", "127.0.0.1": ""}
    said = "".join(f"@ ping {name}\n{body}" for name, body in records.items() if name != left_out)
    with pytest.raises(CommandError, match=f"no record 'ping {left_out}'"):
        _ = ExerciseProbe(Says(said + ".\n"), "1.1.1.1", 1500).path


def test_a_guest_without_ping_has_no_path() -> None:
    assert ExerciseProbe(Says("@ disk vda\n.\n"), "", 0).path is None


def test_a_ping_that_says_nothing_is_no_loss() -> None:
    said = "@ ping loss\nsaid\t\n@ ping mtu\nsize\t1500\n@ ping 1.1.1.1\n@ ping 127.0.0.1\n.\n"
    path = ExerciseProbe(Says(said), "1.1.1.1", 1500).path
    assert path is not None
    assert (path.sent, path.lost, path.big_ms) == (0, 0, None)


def test_of_two_mounts_on_root_the_last_one_shows() -> None:
    said = "@ root /\noptions\tro\nsuper\tro\noptions\trw\nsuper\trw\nsize\t10\nfree\t5\n.\n"
    assert not HealthProbe(Says(said)).root.read_only


@pytest.mark.parametrize(
    ("code", "kind"), [("0x010000", "disk"), ("0x0c0330", "disk"), ("0x020000", "nic")]
)
def test_a_usb_controller_is_a_disks_as_one_of_storage_is(code: str, kind: str) -> None:
    said = f"@ function 0000:00:05.0\nclass\t{code}\nvendor\t0x1b36\ndevice\t0x000d\n.\n"
    assert [one.kind for one in HealthProbe(Says(said)).functions] == [kind]


ILL_GUEST = """
from virtproof.spec import DiskBus

def test_red(guest_on):
    guest = guest_on(disk=DiskBus.IDE)
    guest.runner.run("systemd-run --unit=ill /bin/false; sleep 1")
    assert guest.runner.run("echo left").stdout == "right"

def test_stuck(guest_on):
    guest_on(disk=DiskBus.IDE).runner.run("sleep 99 | cat", timeout_s=0.2)

def test_hostile(guest_on):
    said = r"printf '\\033]0;owned\\007\\033[2Jred\\n' >&2; false"
    guest_on(disk=DiskBus.IDE).runner.run(said)
"""


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_failed_tests_guest_is_examined(tmp_path: pathlib.Path) -> None:
    """A whole run: what is wrong with the guest stands beside what the test saw."""
    (tmp_path / "test_ill.py").write_text(ILL_GUEST)
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--out={out}"]
    argv += [f"--rootdir={tmp_path}", "--image=debian-12", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    lines = (out / "results.jsonl").read_text().splitlines()
    record, stuck, _ = map(json.loads, lines)
    said = {"name": "unit-failed", "line": "ill.service failed", "source": "check-up"}
    assert record["diagnosis"] == said
    assert "left" in record["reason"]
    examined = json.loads((out / record["evidence"] / "check-up.json").read_text())
    assert examined["complaints"] == [said]
    assert "unit-failed" in done.stdout
    assert "left" in done.stdout.split("= virtproof =", 1)[1]
    # And of a command that does not end, each process with what it waits for in the guest's kernel.
    assert re.match(r"in the guest, 'sleep 99 \| cat' did not end within", stuck["reason"])
    at = r"\n(?:.*\n)*?\[<0>\] \w*"  # further down in its stack
    waits = rf"\d+ \(sleep\) S{at}nanosleep(?:.*\n)*?\d+ \(cat\) S{at}pipe_read"
    assert re.search(waits, done.stdout), done.stdout
    assert "exited with 1: red\n" in done.stdout
    assert not {"\x1b", "\x07"} & {*done.stdout}, "a guest must not write to the user's terminal"


IN_USE = """
import json
from virtproof.spec import DataDisk, DiskBus

SERIALS = ("free", "mounted", "formatted", "swap")

def test_in_use(guest_on, tmp_path):
    disks = tuple(DataDisk(DiskBus.VIRTIO, serial, 64) for serial in SERIALS)
    guest = guest_on(disk=DiskBus.IDE, data_disks=disks)
    name = {serial: guest.block.disk_by_serial(serial).name for serial in SERIALS}
    run = guest.runner.run
    run("yes kept | head -c 67108864 | dd of=/dev/%s bs=1M iflag=fullblock conv=fsync", name["free"])
    run("mkfs.ext4 -q /dev/%s && mkdir /data && mount /dev/%s /data", *[name["mounted"]] * 2)
    run("dd if=/dev/zero of=/dev/%s bs=64k count=32 conv=fsync", name["mounted"])  # no signature is left
    run("mkfs.ext4 -q /dev/%s", name["formatted"])
    run("mkswap -q /dev/%s && swapon /dev/%s", *[name["swap"]] * 2)
    sums = {serial: run("sha256sum </dev/%s", name[serial]).stdout for serial in SERIALS}
    worked = {disk.name: disk.written for disk in guest.check_up().vitals.disks}
    assert {serial: worked[name[serial]] for serial in SERIALS} == {
        "free": True, "mounted": False, "formatted": False, "swap": False,
    }
    run("echo 3 >/proc/sys/vm/drop_caches")
    for serial in ("free", "formatted", "swap"):
        assert run("sha256sum </dev/%s", name[serial]).stdout == sums[serial], serial
"""


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_disk_that_is_in_use_is_not_written_and_others_get_back_what_stood_there(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "test_in_use.py").write_text(IN_USE)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--image=debian-12"]
    argv += [f"--out={tmp_path / 'out'}", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

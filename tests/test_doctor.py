"""The doctor, the facts of the host and the command line around them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from virtproof import cli, doctor, host, packages
from virtproof.doctor import Check, State
from virtproof.errors import ImageError, UsageError

ROOT = Path(__file__).resolve().parents[1]

MEMINFO = "MemTotal:       24682368 kB\nMemFree: 1 kB\nMemAvailable:   12341184 kB\n"
CPUINFO = (
    "processor\t: 0\nmodel name\t: Some CPU @ 2.4GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"
)
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with the files that the facts are read from."""
    files = {
        "proc/meminfo": MEMINFO,
        "proc/cpuinfo": CPUINFO,
        "proc/sys/kernel/osrelease": "6.1.0-56-amd64\n",
        "proc/sys/kernel/random/boot_id": "f00\n",
        "etc/os-release": OS_RELEASE,
        "etc/subuid": "jo:100000:65536\nal:165536:10\n",
        "etc/subgid": "jo:100000:65536\n",
        "sys/module/kvm_amd/parameters/nested": "1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_facts_of_a_host(root: Path) -> None:
    facts = host.read_host(root)
    assert facts.kernel == "6.1.0-56-amd64"
    assert facts.distribution == "Debian GNU/Linux 12 (bookworm)"
    assert facts.cpu_model == "Some CPU @ 2.4GHz"
    assert (facts.memory_mib, facts.memory_available_mib) == (24103, 12051)
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert host.boot_id(root) == "f00"
    assert facts.nested == host.nested(root) == "on"


def test_a_host_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    facts = host.read_host(tmp_path)
    assert (facts.kernel, facts.distribution, facts.cpu_model) == ("unknown",) * 3
    assert (facts.memory_mib, host.boot_id(tmp_path), host.nested(tmp_path)) == (0, "", "not told")


def test_the_record_of_a_run_has_its_keys() -> None:
    assert set(host.record()) == {
        "kernel",
        "distribution",
        "cpus",
        "memory_mib",
        "cpu_model",
        "nested",
    }


@pytest.mark.parametrize(
    ("module", "text", "said", "state"),
    [
        ("kvm_intel", "Y\n", "on: a guest on kvm can", State.OK),
        ("kvm_amd", "1\n", "on: a guest on kvm can", State.OK),
        ("kvm_intel", "N\n", "off in the host's KVM; a guest on tcg can", State.WARN),
        ("kvm_amd", "0\n", "off in the host's KVM; a guest on tcg can", State.WARN),
        ("kvm", "Y\n", "the host does not tell; a guest on tcg can", State.OK),
    ],
)
def test_the_doctor_tells_whether_guests_can_have_kvm(
    tmp_path: Path, module: str, text: str, said: str, state: State
) -> None:
    file = tmp_path / "sys/module" / module / "parameters/nested"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    check = doctor._nested(host.nested(tmp_path))
    assert check.text.startswith(said)
    assert check.state is state
    assert bool(check.mend) is (state is State.WARN)


def test_subordinate_ids(root: Path) -> None:
    assert host.subordinate_ids(root, "jo").usable
    for other in ("al", "nobody-at-all"):
        answer = host.subordinate_ids(root, other)
        assert not answer.usable
        assert f"--add-subgids 100000-165535 {other}" in answer.why


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    assert host.device(tmp_path / "tun").why == f"no {tmp_path / 'tun'}"


@pytest.mark.parametrize(
    ("mode", "group", "way"),
    [(0o660, 12345, "add yourself to group 12345"), (0o600, 12345, "as root: chmod 0666")],
)
def test_a_device_that_may_not_be_opened_says_the_way_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group: int, way: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another group")
    node = tmp_path / "kvm"
    node.touch()
    node.chmod(mode)
    os.chown(node, 0, group)
    monkeypatch.setattr(os, "access", lambda *_: False)
    answer = host.device(node)
    assert not answer.usable
    assert answer.why.startswith(f"{node}: permission denied, {way}")


def test_a_refused_unshare_that_leaves_a_child_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "unshare"
    tool.write_text("#!/bin/sh\nsleep 60 &\necho 'unshare failed: not permitted' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    start = time.monotonic()
    assert host.user_namespaces() == host.Answer(False, "unshare failed: not permitted")
    assert time.monotonic() - start < 5


def test_a_program_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "some-qemu"
    tool.write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.program("some-qemu") == host.Program(tool, "7.2.22")
    assert host.program("no-such-program") is None
    tool.write_text("#!/bin/sh\nexit 3\n")
    assert host.program("some-qemu") == host.Program(tool, "")


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert host.disk_free_mib(tmp_path / "not" / "yet") == pytest.approx(
        host.disk_free_mib(tmp_path), rel=0.1
    )


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dpkg-query that says what stands in a file."""
    known = tmp_path / "installed"
    known.touch()
    tool = tmp_path / "dpkg-query"
    tool.write_text(f"#!/bin/sh\ncat {known}\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return known


def test_only_what_is_not_installed_is_missing(apt: Path) -> None:
    apt.write_text("installed gcc\nconfig-files fdisk\nnot-installed uidmap\n")
    assert packages.missing("apt", ["gcc", "fdisk", "uidmap"]) == ["fdisk", "uidmap"]


def test_one_command_mends_all_packages(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = packages.wanted("apt")
    apt.write_text(
        "".join(f"installed {name}\n" for name in wanted if name not in ("gcc", "uidmap"))
    )
    monkeypatch.setattr(packages, "manager", lambda: "apt")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (check,) = doctor._packages(None)
    assert check.state is State.MISSING
    assert check.mend == "sudo apt-get install --no-install-recommends gcc uidmap"
    apt.write_text("".join(f"installed {name}\n" for name in wanted))
    assert doctor._packages(None)[0].state is State.OK


@pytest.mark.parametrize("name", ["apt", "dnf", "zypper", "pacman"])
def test_every_manager_has_its_list_and_command(name: str) -> None:
    wanted = packages.wanted(name)
    assert len(wanted) == len(set(wanted)) > 10
    assert any("qemu" in package for package in wanted)
    assert packages.wanted(f"{name}-python")
    assert packages.install_command(name, ["x"]).endswith(" x")


def test_the_list_starts_no_service() -> None:
    assert "libvirt-daemon-system" not in packages.wanted("apt")


CHECKS = [
    Check("qemu", State.OK, "7.2"),
    Check("tun", State.WARN, "slow", "modprobe tun"),
]


def test_the_table_says_whether_a_run_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: CHECKS)
    out = io.StringIO()
    assert doctor.main(out=out) == 0
    assert "  ok       qemu  7.2\n  warn     tun   slow\n" in out.getvalue()
    assert "To mend it:\n  tun: modprobe tun\n" in out.getvalue()
    assert out.getvalue().endswith("A run is possible.\n")

    lacking = [*CHECKS, Check("libvirt", State.MISSING, "not found")]
    monkeypatch.setattr(doctor, "diagnose", lambda: lacking)
    assert doctor.main(out=out) == 1
    assert out.getvalue().endswith("A run is not possible yet.\n")


def test_the_json_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: CHECKS)
    out = io.StringIO()
    assert doctor.main(as_json=True, out=out) == 0
    said = json.loads(out.getvalue())
    assert said["possible"] is True
    assert said["checks"][1] == {
        "name": "tun",
        "state": "warn",
        "text": "slow",
        "mend": "modprobe tun",
    }


def test_the_doctor_works_where_no_library_is_installed() -> None:
    """-S hides what pip installed: this is the Python of a machine before ./run setup."""
    command = [sys.executable, "-S", "-m", "virtproof", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["images"]["text"] == "not known before ./run setup"
    assert checks["qemu"]["state"] in ("ok", "missing")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no x", hint="try y"), 2, "virtproof: error: no x (try y)\n"),
        (ImageError("no room"), 1, "virtproof: error: no room\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_fault_is_one_line(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "main", fail)
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().err == line


def test_a_wrong_command_is_a_wrong_use() -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["dcotor"])
    assert stopped.value.code == 2

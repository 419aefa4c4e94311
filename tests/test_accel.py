"""The accelerator probe: what opens but hangs is named and not used (HOST-1)."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from virtproof import doctor, host
from virtproof.errors import LabError, MissingToolError, UsageError
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import accel
from virtproof.plugin import run
from virtproof.plugin.options import Options
from virtproof.plugin.progress import Progress
from virtproof.spec import Accel

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
QUICK = {Accel.KVM: 0.4, Accel.TCG: 5.0}


class Fake:
    """A QEMU that does as it is told for each accelerator, and writes down that it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "qemu"
        self.device = directory / "kvm-device"
        self.device.touch()
        self.kernel = directory / "vmlinuz"
        self.kernel.write_bytes(b"a kernel")
        self.cache = directory / "cache"
        self.says(kvm=f"echo '{PANIC}'", tcg=f"echo '{PANIC}'")

    def says(self, *, kvm: str, tcg: str) -> None:
        self.program.write_text(
            f"#!/bin/sh\necho $$ >>{self.directory}/calls\n"
            f'case "$*" in *accel=kvm*) {kvm} ;; *) {tcg} ;; esac\n'
        )
        self.program.chmod(0o755)

    def probe(self, wanted: str = "auto") -> accel.AccelVerdict:
        return accel.probe(
            self.kernel,
            wanted,
            qemu=str(self.program),
            cache=self.cache,
            device=self.device,
            deadline_s=QUICK,
        )

    @property
    def pids(self) -> list[int]:
        calls = self.directory / "calls"
        return [int(pid) for pid in calls.read_text().split()] if calls.exists() else []


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to look does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_an_accelerator_that_answers_is_taken(fake: Fake) -> None:
    verdict = fake.probe()
    assert verdict.accel is Accel.KVM
    assert "booted a kernel" in verdict.why
    assert [attempt.accel for attempt in verdict.tried] == [Accel.KVM]


def test_an_accelerator_that_opens_but_hangs_is_named_and_not_used(fake: Fake) -> None:
    fake.says(kvm="echo 'Booting from ROM..'; sleep 60 & wait", tcg=f"echo '{PANIC}'")
    verdict = fake.probe()
    assert verdict.accel is Accel.TCG
    said = "kvm opened but the guest hung after 0.4 s: last line 'Booting from ROM..'"
    assert said in verdict.why
    assert [attempt.answered for attempt in verdict.tried] == [False, True]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What KVM does on some machine, and the words for it that a user reads."""

    does: str
    takes: Accel
    words: str


KINDS = {
    "hangs": Kind(
        "echo 'Booting from ROM..'; sleep 60 & wait",
        Accel.TCG,
        "kvm opened but the guest hung after 0.4 s: last line 'Booting from ROM..'",
    ),
    "aborts": Kind(
        "echo 'Assertion ret == nmsrs failed.' >&2; kill -ABRT $$",
        Accel.TCG,
        "kvm: QEMU died of signal 6 (Aborted): Assertion ret == nmsrs failed.",
    ),
    "works": Kind(f"echo '{PANIC}'", Accel.KVM, "kvm booted a kernel in "),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """A machine of each kind, which the whole house then runs on."""
    found = KINDS[request.param]
    fake.says(kvm=found.does, tcg=f"echo '{PANIC}'")
    on = {"qemu": str(fake.program), "device": fake.device, "deadline_s": QUICK}
    asked = functools.partial(accel.probe, **on)
    monkeypatch.setattr(accel, "probe", asked)
    monkeypatch.setattr(run, "probe", asked)
    monkeypatch.setattr(run, "DEADLINE_S", QUICK)
    monkeypatch.setattr(ImageStore, "probe_kernel", lambda _: fake.kernel)
    return found


def test_the_doctor_names_what_the_accelerator_did(kind: Kind, fake: Fake) -> None:
    checks = {check.name: check for check in doctor._accelerators(fake.cache)}
    assert checks["kvm"].text.startswith(kind.words)
    assert (checks["kvm"].state is doctor.State.OK) == (kind.takes is Accel.KVM)
    assert checks["--accel auto"].text == f"takes {kind.takes}"


def test_a_run_begins_with_what_the_accelerator_did(kind: Kind, fake: Fake) -> None:
    """And keeps it for the report."""
    said: list[str] = []
    progress = cast(Progress, SimpleNamespace(long=said.append, once=said.append))
    options = cast(
        Options, SimpleNamespace(cache=fake.cache, accel="auto", deadline_factor=1.0, kernels={})
    )
    verdict = run.Run(options, progress).accelerator
    assert verdict.accel is kind.takes
    assert said == [f"guests run on {kind.takes}: {verdict.why}"]
    assert verdict.why.startswith(kind.words)
    assert verdict.as_dict() == {"name": kind.takes, "why": verdict.why}


def test_of_several_workers_the_first_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**config: object) -> str:
        plugins = SimpleNamespace(getplugin=lambda _: None)
        stream = io.StringIO()
        monkeypatch.setattr(sys, "__stderr__", stream)
        made = SimpleNamespace(pluginmanager=plugins, **config)
        Progress(cast(pytest.Config, made)).once("guests run on tcg")
        return stream.getvalue()

    alone, first = said(), said(workerinput={"workerid": "gw0"})
    assert alone == first == "\nvirtproof: guests run on tcg\n"
    assert said(workerinput={"workerid": "gw1"}) == ""


def test_nothing_outlives_the_probe(fake: Fake) -> None:
    child = fake.directory / "child"
    fake.says(kvm=f"sleep 60 & echo $! >{child}; wait", tcg=f"echo '{PANIC}'; sleep 60")
    fake.probe()
    started = [*fake.pids, int(child.read_text())]
    assert len(started) == 3
    assert _soon(lambda: not any(alive(pid) for pid in started), within_s=2)


def test_the_line_ends_the_wait_though_qemu_goes_on(fake: Fake) -> None:
    fake.says(kvm="exit 1", tcg=f"echo '{PANIC}'; exec sleep 60")
    start = time.monotonic()
    assert fake.probe("tcg").accel is Accel.TCG
    assert time.monotonic() - start < 4


def test_a_panic_of_another_kind_is_no_answer(fake: Fake) -> None:
    fake.says(kvm="echo 'Kernel panic - not syncing: IO-APIC + timer'", tcg=f"echo '{PANIC}'")
    verdict = fake.probe()
    assert verdict.accel is Accel.TCG
    assert "kvm: QEMU gave up: Kernel panic - not syncing: IO-APIC + timer" in verdict.why


def test_what_qemu_says_is_the_reason_and_no_terminal_obeys_it(fake: Fake) -> None:
    said = r"printf 'failed to set \033[31mMSR\033[0m 0x48f\n\n' >&2; exit 1"
    fake.says(kvm=said, tcg=f"echo '{PANIC}'")
    assert "kvm: QEMU gave up: failed to set MSR 0x48f;" in fake.probe().why


def test_kvm_that_was_asked_for_and_does_not_work_is_an_error(fake: Fake) -> None:
    fake.says(kvm="exec sleep 60", tcg=f"echo '{PANIC}'")
    with pytest.raises(LabError, match=r"kvm opened but the guest hung .*it said nothing"):
        fake.probe("kvm")


def test_no_accelerator_at_all_is_an_error_with_both_reasons(fake: Fake) -> None:
    fake.says(kvm="echo bad-kvm >&2; exit 1", tcg="echo bad-tcg >&2; exit 1")
    with pytest.raises(LabError, match=r"bad-kvm.*bad-tcg"):
        fake.probe()


def test_a_device_that_is_not_there_is_not_tried(fake: Fake) -> None:
    fake.device.unlink()
    verdict = fake.probe()
    assert verdict.accel is Accel.TCG
    assert f"no {fake.device}" in verdict.why
    assert len(fake.pids) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every device")
def test_a_device_that_may_not_be_opened_is_not_tried(fake: Fake) -> None:
    fake.device.chmod(0)
    assert "permission denied, " in fake.probe().why


def test_the_answer_is_remembered(fake: Fake) -> None:
    fake.says(kvm="exit 1", tcg=f"echo '{PANIC}'")
    first = fake.probe()
    assert fake.probe() == first
    assert len(fake.pids) == 2


def test_a_remembered_no_is_asked_again_by_who_insists(fake: Fake) -> None:
    mended = fake.directory / "mended"
    fake.says(kvm=f"[ -e {mended} ] && echo '{PANIC}'", tcg=f"echo '{PANIC}'")
    fake.probe()
    mended.touch()
    assert fake.probe("auto").accel is Accel.TCG
    assert fake.probe("kvm").accel is Accel.KVM
    assert fake.probe("auto").accel is Accel.KVM


@pytest.mark.parametrize("change", ["qemu", "boot", "damage"])
def test_what_the_answer_depends_on_makes_it_forgotten(fake: Fake, change: str) -> None:
    fake.probe()
    file = fake.cache / "accel.json"
    if change == "qemu":
        os.utime(fake.program, (1, 1))
    elif change == "boot":
        file.write_text(json.dumps({**json.loads(file.read_text()), "boot": "another"}))
    else:
        file.write_text("{ half a fi")
    fake.probe()
    assert len(fake.pids) == 2


def test_another_kernel_is_no_reason_to_ask_again(fake: Fake) -> None:
    fake.probe()
    fake.kernel.write_bytes(b"another kernel")
    fake.probe()
    assert len(fake.pids) == 1


def test_of_two_at_once_one_boots_and_the_other_reads(fake: Fake) -> None:
    fake.says(kvm=f"sleep 0.2; echo '{PANIC}'", tcg="")
    with ThreadPoolExecutor() as pool:
        verdicts = list(pool.map(lambda _: fake.probe(), range(2)))
    assert {verdict.accel for verdict in verdicts} == {Accel.KVM}
    assert len(fake.pids) == 1


def test_without_a_kernel_nothing_is_probed(fake: Fake) -> None:
    def verdict(wanted: str) -> accel.AccelVerdict:
        return accel.probe(
            None, wanted, qemu=str(fake.program), cache=fake.cache, device=fake.device
        )

    assert verdict("auto") == accel.AccelVerdict(Accel.TCG, "not probed: no kernel")
    assert verdict("kvm").accel is Accel.KVM
    fake.device.unlink()
    with pytest.raises(LabError, match=r"no .*kvm-device"):
        verdict("kvm")
    assert fake.pids == []


def test_an_unknown_accelerator_is_refused_with_the_known_ones(fake: Fake) -> None:
    with pytest.raises(UsageError, match=r"no accelerator is called 'kmv' .*auto, kvm, tcg"):
        fake.probe("kmv")


def test_without_qemu_the_error_says_how_to_get_it(fake: Fake) -> None:
    with pytest.raises(MissingToolError, match=r"no program no-such-qemu .*doctor"):
        accel.probe(fake.kernel, "auto", qemu="no-such-qemu", cache=fake.cache)


def test_a_killed_probe_takes_qemu_with_it(fake: Fake) -> None:
    fake.says(kvm="exec sleep 60", tcg="exec sleep 60")
    code = (
        "from pathlib import Path; from virtproof.lab import accel; "
        f"accel.probe(Path({str(fake.kernel)!r}), 'tcg', qemu={str(fake.program)!r}, "
        f"cache=Path({str(fake.cache)!r}))"
    )
    prober = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert _soon(lambda: bool(fake.pids))
    finally:
        prober.kill()
        prober.wait()
    assert _soon(lambda: not alive(fake.pids[0]))


@pytest.fixture(scope="session")
def stock_kernel() -> Path:
    """The distribution's kernel that a run probes with; downloaded once a cache."""
    return ImageStore(default_cache(), Accel.TCG).fetch_probe_kernel()


@pytest.mark.real
def test_a_real_kernel_answers_under_software_emulation(stock_kernel: Path, tmp_path: Path) -> None:
    verdict = accel.probe(stock_kernel, "tcg", cache=tmp_path)
    assert verdict.accel is Accel.TCG
    assert 0 < verdict.tried[0].seconds < 60


@pytest.mark.real
def test_real_kvm_gives_its_answer_in_time(stock_kernel: Path, tmp_path: Path) -> None:
    """Whatever it is: this machine's KVM may work, hang, be refused or not be there."""
    start = time.monotonic()
    verdict = accel.probe(stock_kernel, "auto", cache=tmp_path)
    kvm = verdict.tried[0]
    assert kvm.accel is Accel.KVM
    assert kvm.seconds < 12
    assert (verdict.accel is Accel.KVM) == kvm.answered
    assert time.monotonic() - start < 75


def test_a_node_that_opens_is_not_called_usable_by_the_host_facts(tmp_path: Path) -> None:
    node = tmp_path / "kvm"
    node.touch()
    assert host.device(node).why == f"{node} may be opened"


def _soon(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether ``condition`` comes true in time, asked again every 20 ms."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False

"""Two sides held against each other: how they are written, what is refused, what is said, how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from virtproof.errors import UsageError
from virtproof.guest.domain_xml import Resources, domain_xml
from virtproof.measure.measurement import Comparison
from virtproof.measure.results import TestRecord
from virtproof.measure.statistics import Pair, against
from virtproof.plugin.throughput import Bench
from virtproof.report.compared import compared_lines, of_sides, sides_in_words
from virtproof.sides import Side, parse_side
from virtproof.spec import CacheMode, DiskBus, GuestSpec, IoMode, NicModel, VirtioMode
from virtproof.workload.fio import Fio
from virtproof.workload.iperf3 import Iperf3
from virtproof.workload.profiles import compared

SUITE = Path(__file__).parents[1] / "suites" / "compare"


# --- sides as text ------------------------------------------------------------------------------


def test_a_side_is_fields_of_a_guest_and_of_its_disk() -> None:
    text = (
        "nic=e1000, cpus=2,image=debian-12,data.bus=virtio-scsi,data.cache=none,data.iothread=yes"
    )
    assert parse_side(text) == (
        {"nic": NicModel.E1000, "cpus": 2, "image": "debian-12"},
        {"bus": DiskBus.VIRTIO_SCSI, "cache": CacheMode.NONE, "iothread": True},
    )
    assert parse_side("nic=none,data.io=threads") == ({"nic": None}, {"io": IoMode.THREADS})
    assert parse_side("same") == ({}, {})
    assert parse_side("disk=nvme,nic=virtio,virtio=modern,packed=yes,queues=2")[0] == {
        "disk": DiskBus.NVME,
        "nic": NicModel.VIRTIO,
        "virtio": VirtioMode.MODERN,
        "packed": True,
        "queues": 2,
    }


def test_files_are_made_absolute_and_qemu_is_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinuz").touch()
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "vmlinuz")
    assert parse_side("kernel=vmlinuz,qemu=vmlinuz")[0] == {"kernel": path, "emulator": path}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' of '' is no FIELD=VALUE (as nic=virtio)"),
        ("nic", "'nic' of 'nic' is no FIELD=VALUE"),
        ("nic=", "'nic=' of 'nic=' is no FIELD=VALUE"),
        ("nci=virtio", "a guest has no 'nci' (did you mean nic?)"),
        ("accel=kvm", "a guest has no 'accel'"),
        ("data.serial=x", "a guest has no 'serial'"),
        ("nic=virtoi", "no NicModel is called 'virtoi' (did you mean virtio?)"),
        ("virtio=moderne", "no VirtioMode is called 'moderne' (did you mean modern?)"),
        ("disk=none", "no DiskBus is called 'none'"),
        ("cpus=two", "cpus=two: no whole number"),
        ("cpus=-1", "cpus=-1: no whole number"),
        ("data.iothread=maybe", "iothread=maybe: yes or no"),
        ("cpus=1,cpus=2", "'cpus=1,cpus=2' has cpus twice"),
        ("qemu=/nowhere/qemu,emulator=/nowhere/qemu", "there is no such file"),
        ("kernel=/nowhere", "kernel=/nowhere: there is no such file"),
    ],
)
def test_what_a_side_cannot_be_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_side(text)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the guest of a side ------------------------------------------------------------------------


def test_kernel_and_emulator_reach_the_domain() -> None:
    spec = GuestSpec("i", emulator="/q", kernel="/k", initrd="/i", cmdline="root=UUID=1 ro")
    xml = domain_xml(spec, Resources("n", "u", "m", "net", "r", ()))
    for wanted in ("<emulator>/q<", "<kernel>/k<", "<initrd>/i<", "<cmdline>root=UUID=1 ro<"):
        assert wanted in xml
    plain = domain_xml(GuestSpec("i"), Resources("n", "u", "m", "net", "r", ()))
    assert not any(tag in plain for tag in ("emulator", "<kernel", "<initrd", "<cmdline"))


@pytest.mark.parametrize("fields", [{"initrd": "/i"}, {"cmdline": "ro"}], ids=str)
def test_an_initrd_is_of_a_kernel(fields: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="initrd and cmdline are of a kernel"):
        GuestSpec("i", **fields)  # type: ignore[arg-type]


# --- jobs ---------------------------------------------------------------------------------------


def test_jobs_are_chosen_by_name_once_each() -> None:
    assert [job.name for job in compared("randread-4k,tcp-to-guest,randread-4k")] == [
        "randread-4k",
        "tcp-to-guest",
    ]
    plain = compared(None)
    assert {type(job) for job in plain} == {Iperf3, Fio}
    assert all(job.parameters["seconds"] == 3 for job in plain)


def test_an_unknown_job_names_the_nearest() -> None:
    with pytest.raises(
        UsageError, match="no workload is called 'tcp-to-gest' .did you mean tcp-to-g"
    ):
        compared("tcp-to-gest")


# --- what is said -------------------------------------------------------------------------------


def found(**pairs: tuple[list[float], list[float]]) -> list[dict[str, object]]:
    made = {name: Pair(name, "B/s", "higher", tuple(a), tuple(b)) for name, (a, b) in pairs.items()}
    return [one.as_dict() for one in against(made, "A", "B")]


EVEN = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100.0]
SLOW = [0.88 * value for value in reversed(EVEN)]
WILD = [50.0, 150.0, 80.0, 120.0, 60.0, 140.0, 90.0, 110.0, 70.0, 130.0]


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ({"read": (EVEN, EVEN[::-1])}, "✓ B is as fast as A: no difference larger than "),
        ({"read": (EVEN, SLOW)}, "✗ B is slower than A in read (up to 12.0 %)"),
        ({"read": (SLOW, EVEN)}, "✓ B is faster than A in read (up to 13.6 %)"),
        ({"read": (EVEN, WILD)}, "\N{EN DASH} Inconclusive: B may differ from A in read"),
        ({"a": (EVEN, WILD), "b": (EVEN, SLOW)}, "✗ B is slower than A in b (up to 12.0 %)"),
        ({"a": (EVEN, WILD), "b": (SLOW, EVEN)}, "\N{EN DASH} Inconclusive: B may differ"),
    ],
)
def test_the_sentence_is_the_gravest_verdict(
    pairs: dict[str, tuple[list[float], list[float]]], sentence: str
) -> None:
    lines = compared_lines(found(**pairs))
    assert lines[0].startswith(sentence)
    for name in pairs:
        assert any(line.split()[:1] == [name] for line in lines[2:])


def test_a_noisy_cost_decides_nothing_but_a_clear_one_does() -> None:
    rate = found(read=(EVEN, EVEN[::-1]))
    costs = {"read.cpu": Pair("read.cpu", "s/B", "lower", tuple(EVEN), tuple(WILD))}
    noisy = [one.as_dict() for one in against(costs, "A", "B")]
    assert noisy[0]["verdict"] == "inconclusive"
    assert compared_lines(rate + noisy)[0].startswith("✓ B is as fast as A")
    costs = {"read.cpu": Pair("read.cpu", "s/B", "lower", tuple(SLOW), tuple(EVEN))}
    dear = [one.as_dict() for one in against(costs, "A", "B")]
    assert compared_lines(rate + dear)[0].startswith("✗ B is slower than A in read.cpu")


def test_the_sides_are_told_as_they_were_written() -> None:
    measured = [
        {"side": "A", "guest": {"given": "same"}},
        {"side": "B", "guest": {"given": "nic=e1000\x1b[31m"}},
    ]
    record = TestRecord("t", "passed", None, [], None, None, measured, 1.0, None)
    record = replace(record, comparisons=found(read=(EVEN, SLOW)))
    said = sides_in_words([record])
    assert said.startswith("B is nic=e1000")
    assert said.endswith("A is same")
    assert "\x1b" not in said
    assert compared_lines(of_sides([record]), said)[1] == f"  {said}"
    assert sides_in_words([replace(record, measurements=[])]) == "B is B, A is A"


def test_claims_are_not_taken_for_a_comparison() -> None:
    floor = Comparison("r", "B/s", "higher", "a", "b", 4, 2, 1.5, 3, 0.95, 0.01, 0.1, "faster", 1.0)
    record = TestRecord("t", "passed", None, [], None, None, [], 1.0, None, [floor.as_dict()])
    assert of_sides([record]) == []
    assert compared_lines([]) == []
    sides = replace(record, comparisons=found(read=(EVEN, SLOW)))
    assert len(of_sides([record, sides])) == 1


# --- the order of the sessions ------------------------------------------------------------------


class Guest:
    """Stands in for one that is up: what is shown is in which order they are asked for."""

    def close(self) -> None: ...


def test_pairs_go_there_and_back_and_equal_sides_have_guests_of_their_own(tmp_path: Path) -> None:
    turns: list[tuple[int, str]] = []
    made: list[Guest] = []

    def guest_on(**_: object) -> Guest:
        made.append(Guest())
        return made[-1]

    bench = Bench(guest_on, None, tmp_path, lambda _: None)  # type: ignore[arg-type]

    def turn(
        _guest: object, side: Side, _jobs: object, at: tuple[int, int], _tools: object
    ) -> None:
        turns.append((at[0], side.name))

    bench._turn = turn  # type: ignore[assignment,method-assign]
    sides = [Side("A", {"cpus": 1}, "work"), Side("B", {"cpus": 1}, "work")]
    for _ in range(4):
        bench.measure(sides, [], blocks=1, alternate=True)
    assert "".join(name for _, name in turns) == "ABBAABBA"
    assert [block for block, _ in turns] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(made) == 8


def test_of_guests_that_served_one_is_kept_for_evidence(tmp_path: Path) -> None:
    used: list[Guest] = []

    def guest_on(**_: object) -> Guest:
        used.append(Guest())
        return used[-1]

    bench = Bench(guest_on, None, tmp_path, lambda _: None)  # type: ignore[arg-type]
    bench.used = used  # type: ignore[assignment]
    bench._turn = lambda *_: None  # type: ignore[method-assign]
    bench.measure([Side("A", {"cpus": 1}), Side("B", {"cpus": 2})], [], blocks=2)
    assert len(used) == 1


# --- options and the exit status ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--a", "same"], "a comparison has two sides (give --a and --b"),
        (["--b", "same"], "a comparison has two sides"),
        (["--a", "same", "--b", "nic=x"], "--b nic=x: no NicModel is called 'x'"),
        (["--a", "same", "--b", "same", "--pairs", "2"], "--pairs 2: at least 3"),
        (["--a", "same", "--b", "same", "--pairs", "-5"], "--pairs -5: at least 3"),
        (["--a", "same", "--b", "same", "--workload", "fast"], "no workload is called 'fast'"),
        (["--a", "same", "--b", "same", "-n", "2"], "sides are compared alone"),
        (["--a", "same", "--b", "initrd=" + __file__], "initrd and cmdline are of a kernel"),
        (["--a", "same", "--b", "data.io=native,data.cache=writeback"], "io native does not go"),
        (["--a", "data.bus=ide,data.queues=2", "--b", "same"], "ide has no queues"),
        (["--a", "image=debain-12", "--b", "same"], "no image is called 'debain-12'"),
        (
            ["--a", "same", "--b", "image=./no.qcow2"],
            "--b image=./no.qcow2: image ./no.qcow2: there",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    pytester: pytest.Pytester, options: list[str], fault: str
) -> None:
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in result.stderr.lines if line.strip()]
    assert len(said) == 1, said
    assert fault in said[0]


FAKE = """
import pytest
from types import SimpleNamespace as Of
@pytest.fixture
def compare():
    return Of(run=lambda: [Of(name="read", unit="B/s", verdict=one) for one in {verdicts!r}])
"""


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["no difference", "improvement"], 0),
        (["regression", "inconclusive"], 1),
        (["no difference", "inconclusive"], 125),
    ],
)
def test_the_exit_status_tells_the_verdicts(
    pytester: pytest.Pytester, verdicts: list[str], status: int
) -> None:
    """125 is what ``git bisect run`` takes for "cannot tell"."""
    pytester.makeconftest(FAKE.format(verdicts=verdicts))
    test = (SUITE / "test_compare.py").read_text(encoding="utf-8")
    pytester.makepyfile(
        test.replace("mark.boots(20)", 'mark.claim("PERF-1")')
    )  # so that it is ours
    result = pytester.runpytest_subprocess("--a", "same", "--b", "same")
    assert result.ret == status
    assert json.loads(Path("out/run.json").read_text())["exit_status"] == status


def test_a_plain_run_does_not_collect_a_comparison(pytester: pytest.Pytester) -> None:
    pytester.mkdir("compare")
    for source in SUITE.glob("*.py"):
        (pytester.path / "compare" / source.name).write_text(source.read_text(encoding="utf-8"))
    assert pytester.runpytest_subprocess("--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    asked = pytester.runpytest_subprocess("--collect-only", "--a", "same", "--b", "same")
    asked.stdout.fnmatch_lines(["*test_b_holds_against_a*"])

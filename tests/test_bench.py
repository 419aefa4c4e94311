"""The fixture ``bench``, on guests that are none: who is measured when, what is kept, what is concluded.

What the jobs measure is made up here and known; real guests are those of test_throughput_real.py.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bench_fakes import Fleet, Known
from virtproof import host
from virtproof.errors import GuestError, LabError
from virtproof.lab.base import NoCommandsError
from virtproof.measure.measurement import MeasurementError
from virtproof.measure.statistics import StatisticsError
from virtproof.measure.store import load_schema
from virtproof.plugin.throughput import EACH, STAGES, Bench
from virtproof.sides import Side
from virtproof.workload.iperf3 import Iperf3
from virtproof.workload.profiles import Effort, profile
from virtproof.workload.sockperf import RoundTrips

IDE, VIRTIO = Side("ide", {"disk": 1}), Side("virtio", {"disk": 2})
CLAIMS = {"all": ["rate"]}


@dataclass
class Made:
    """A bench whose fleet is made up, and what it said."""

    directory: Path
    fleet: Fleet = field(default_factory=Fleet)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        kind = profile(Effort.QUICK)
        self.bench = Bench(self.fleet, kind, self.directory, self.said.append)  # type: ignore[arg-type]
        self.bench._random = random.Random(7)

    def sessions(self) -> list[tuple[int, int, str]]:
        return [(one.block, one.order, one.side) for one in self.bench.measured]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "out" / "evidence" / "test_x")


# --- who is measured when ---------------------------------------------------------------------


def test_each_block_gives_each_side_one_turn_in_an_order_of_its_own(made: Made) -> None:
    sides = [IDE, VIRTIO, Side("sata", {"disk": 3})]
    made.bench.measure(sides, [Known()], 12)
    blocks = [made.sessions()[at : at + 3] for at in range(0, 36, 3)]
    for number, block in enumerate(blocks):
        assert [one[:2] for one in block] == [(number, 0), (number, 1), (number, 2)]
        assert {one[2] for one in block} == {"ide", "virtio", "sata"}
    orders = {tuple(one[2] for one in block) for block in blocks}
    assert len(orders) >= 4, "one order for all blocks would favour a side"
    assert {order[0] for order in orders} == {"ide", "virtio", "sata"}


def test_there_and_back_where_asked(made: Made) -> None:
    made.bench.measure([IDE, VIRTIO], [Known()], 3, alternate=True)
    made.bench.measure([IDE, VIRTIO], [Known()], 1, alternate=True)
    order = "".join(name[0] for _, _, name in made.sessions())
    assert order == "ivviivvi"


def test_a_control_has_a_guest_of_its_own_beside_each_side(made: Made) -> None:
    """It is measured in each block, told apart by its role and image, and in no comparison."""
    made.bench.control = "frozen"
    made.bench.measure([IDE, VIRTIO], [Known()], 2)
    turns = [(one.block, one.side, one.role) for one in made.bench.measured]
    both = [("ide", "subject"), ("ide", "control"), ("virtio", "subject"), ("virtio", "control")]
    assert sorted(turns) == sorted((block, *one) for block in (0, 1) for one in both)
    assert len({one.raw for one in made.bench.measured}) == 8
    assert {one.n for one in made.bench.against("ide", "virtio")} == {2}


def test_blocks_count_on_and_default_to_the_profiles(made: Made) -> None:
    made.bench.measure([IDE], [Known()])
    made.bench.measure([IDE], [Known()], 1)
    assert [block for block, _, _ in made.sessions()] == [0, 1, 2, 3, 4]
    assert made.said[0] == "block 1 of 4: ide"
    assert made.said[-1] == "block 5 of 5: ide"


def test_disks_of_one_guest_share_it_and_networks_never_do(made: Made) -> None:
    disks = [Side(name, {"data_disks": (1, 2)}, name) for name in ("vda", "sda")]
    network = [Side("a", {"data_disks": (1, 2)}), Side("b", {"data_disks": (1, 2)})]
    other = Side("vdb", {"data_disks": (9,)}, "vdb")
    made.bench.measure([*disks, *network, other], [Known()], 1)
    served = sorted(sorted(guest.filled) for guest in made.fleet.guests)
    assert served == [[], [], ["/dev/sda", "/dev/vda"], ["/dev/vdb"]]
    assert len(made.sessions()) == 5


def test_the_same_disk_twice_is_two_guests(made: Made) -> None:
    """A side against itself: it would be written and measured again on a disk that was in use."""
    twice = [Side("a", {}, "vda"), Side("b", {}, "vda")]
    made.bench.measure(twice, [Known()], 1)
    assert [guest.filled for guest in made.fleet.guests] == [["/dev/vda"], ["/dev/vda"]]


def test_a_guest_is_closed_before_the_next_one_is_made(made: Made) -> None:
    made.bench.measure([IDE, VIRTIO], [Known()], 3)
    assert len(made.fleet.guests) == 6
    assert made.fleet.most_open == 1
    assert made.fleet.open == 0


@pytest.mark.parametrize("error", [GuestError("gone"), MeasurementError("none"), LabError("late")])
def test_a_fault_is_not_eaten_and_its_guest_is_left_up_for_the_evidence(
    made: Made, error: Exception
) -> None:
    def fault(_side: str) -> float:
        raise error

    with pytest.raises((type(error), pytest.skip.Exception)) as caught:
        made.bench.measure([IDE], [Known(rate=fault)])
    assert caught.type is type(error)
    assert made.fleet.open == 1, "the fixture that made it closes it"


def test_no_rate_at_all_is_a_fault_and_its_raw_answer_is_kept(made: Made) -> None:
    with pytest.raises(MeasurementError, match="rate on ide: 0 1/s: nothing was transferred"):
        made.bench.measure([IDE], [Known(rate=lambda _: 0.0)])
    assert (made.directory / "throughput" / "1-ide-rate.txt").read_text() == "raw"


# --- what is missing --------------------------------------------------------------------------


def test_a_tool_that_the_guest_lacks_skips_with_the_line_that_mends_it(made: Made) -> None:
    made.fleet.status = 127
    with pytest.raises(pytest.skip.Exception, match="no iperf3 .put the package iperf3 into the"):
        made.bench.measure([IDE], [Iperf3("x")])


def test_a_tool_that_the_host_lacks_skips_too(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_program", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match="host has no sockperf .*run setup"):
        made.bench.measure([IDE], [RoundTrips()])


def far(error: Exception) -> Callable[..., Any]:
    def run(*_argv: str, timeout_s: float) -> Any:
        del timeout_s
        raise error

    return run


def test_a_lab_that_runs_no_commands_skips(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_program", lambda name: f"/usr/bin/{name}")
    made.fleet.far = far(NoCommandsError("iperf3 is not run on the network of x"))
    with pytest.raises(pytest.skip.Exception, match="no network of our own to measure in: iperf3"):
        made.bench.measure([IDE], [Iperf3("x")])


def test_a_tool_that_hangs_in_the_lab_is_no_missing_one(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that answers no more must turn the test red, and not have it skipped."""
    monkeypatch.setattr(host, "find_program", lambda name: f"/usr/bin/{name}")
    made.fleet.far = far(LabError("in the lab, iperf3 did not run: timed out"))
    # A skip must not leave this test either: it would be skipped itself, and not red.
    with pytest.raises((LabError, pytest.skip.Exception), match="timed out") as caught:
        made.bench.measure([IDE], [Iperf3("x")])
    assert caught.type is LabError


# --- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc/x", "a\0b", "a\nb", "x" * 999, "ä ö", "", ".."]
)
def test_names_that_are_hostile_stay_in_the_directory(made: Made, name: str) -> None:
    made.bench.measure([Side(name, {})], [Known(name)], 1)
    (raw,) = [
        path for path in made.directory.parents[1].rglob("*") if path.is_file() and path.suffix
    ]
    assert raw.parent == made.directory / "throughput"
    (one,) = made.bench.measured
    assert made.directory.parents[1] / str(one.raw) == raw
    assert raw.read_text() == "raw"


def test_names_that_differ_by_odd_characters_only_do_not_share_a_file(made: Made) -> None:
    made.bench.measure([Side("a/b", {}), Side("a_b", {}), Side("a:b", {})], [Known()], 1)
    assert len({one.raw for one in made.bench.measured}) == 3


def test_json_is_kept_as_such(made: Made) -> None:
    made.bench.measure([IDE], [Known(raw=' {"a": 1}\ud800')], 1)
    (one,) = made.bench.measured
    assert one.raw == "evidence/test_x/throughput/1-ide-rate.json"


def test_a_measurement_says_all_of_its_session(made: Made) -> None:
    made.bench.measure([IDE], [Known()], 1)
    (one,) = made.bench.measured
    assert (one.name, one.unit, one.side, one.value) == ("rate", "1/s", "ide", 100.0)
    assert one.job == {"tool": "known", "depth": 3, "version": "known 1.0"}
    assert one.guest["image"] == "debian-12"
    assert (one.profile, one.role, one.samples) == ("quick", "subject", [1.0, 2.0])
    assert one.start.endswith("+00:00")


def test_fractions_and_what_one_side_lacks_have_no_ratio(made: Made) -> None:
    jobs = [Known(), Known("loss", unit="1")]
    made.bench.measure([IDE, VIRTIO], jobs, 2)
    made.bench.measure([IDE], [Known("alone")], 1)
    assert list(made.bench.pairs("ide", "virtio")) == ["rate"]


# --- what is concluded ------------------------------------------------------------------------


def rates(better: float, spread: float = 0.02) -> Callable[[str], float]:
    """Rates of a machine with some noise, on which virtio is ``better`` times as fast."""
    noise = random.Random(3)
    return lambda side: 100 * (better if side == "virtio" else 1) * noise.lognormvariate(0, spread)


def outrun(made: Made, better: float, spread: float = 0.02, name: str = "rate") -> list[str]:
    job = Known(rate=rates(better, spread))
    return made.bench.outrun([IDE, VIRTIO], [job], ("virtio", ["ide"]), {"all": [name]})


def test_a_side_that_is_faster_is_measured_once(made: Made) -> None:
    assert outrun(made, 2.0) == []
    assert {block for block, _, _ in made.sessions()} == {0, 1, 2, 3}
    claim, single = made.bench.comparisons
    assert (claim.name, claim.verdict, claim.n) == ("all", "faster", 4)
    assert claim.confidence == EACH
    assert (single.name, single.unit, single.a, single.b) == ("rate", "1/s", "ide", "virtio")
    assert claim.ratio == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("better", [1.0, 0.5])
def test_control_where_sides_are_equal_or_worse_the_claim_fails(made: Made, better: float) -> None:
    (line,) = outrun(made, better)
    assert line.startswith("all: virtio / ide ")
    assert line.endswith(": not shown")
    assert len(made.sessions()) == 2 * 4 * STAGES, "it was not measured again"
    claim = made.bench.comparisons[0]
    assert (claim.n, claim.verdict, claim.confidence) == (4 * STAGES, "not shown", EACH)


def test_looks_together_keep_95_percent() -> None:
    assert pytest.approx(0.05) == STAGES * (1 - EACH)


def test_what_one_look_does_not_show_a_later_one_may(made: Made) -> None:
    assert outrun(made, 1.25, 0.18) == []
    blocks = made.bench.comparisons[0].n
    assert 4 < blocks <= 4 * STAGES
    assert len(made.sessions()) == 2 * blocks


def test_false_successes_are_rare(tmp_path: Path) -> None:
    """Of two equal sides one is said to be faster in 2.5 % of runs: only one of the tails counts."""
    wrong = 0
    for number in range(200):
        made = Made(tmp_path / str(number) / "evidence" / "x")
        noise = random.Random(number)
        job = Known(rate=lambda _, noise=noise: noise.lognormvariate(0, 0.05))
        wrong += not made.bench.outrun([IDE, VIRTIO], [job], ("virtio", ["ide"]), CLAIMS)
    assert wrong <= 12


def test_a_machine_that_cannot_tell_skips_and_never_where_a_side_is_behind(tmp_path: Path) -> None:
    ends = {}
    for better in (1.3, 0.5):
        made = Made(tmp_path / str(better) / "evidence" / "x")
        try:
            ends[better] = "; ".join(outrun(made, better, 1.5))
        except pytest.skip.Exception as skipped:
            ends[better] = f"skipped: {skipped}"
        assert made.bench.comparisons[0].spread > 0.3  # type: ignore[operator]
    assert ends[1.3].startswith("skipped: this machine is too busy to tell: all: virtio / ide 1.")
    assert ends[0.5].startswith("all: virtio / ide 0.")


def test_every_rival_must_be_outrun(made: Made) -> None:
    rate = {"ide": 1.0, "sata": 5.0, "virtio": 3.0}
    noise = random.Random(5)
    job = Known(rate=lambda side: rate[side] * noise.lognormvariate(0, 0.02))
    sides = [IDE, VIRTIO, Side("sata", {"disk": 3})]
    (line,) = made.bench.outrun(sides, [job], ("virtio", ["ide", "sata"]), CLAIMS)
    assert line.startswith("all: virtio / sata 0.6")


def test_a_claim_of_several_figures_is_their_mean(made: Made) -> None:
    """One that loses can be outweighed, and is told: its own comparison stands in the record."""
    gains = {"a": 4.0, "b": 0.8}
    noise = random.Random(5)

    def job(name: str) -> Known:
        def rate(side: str) -> float:
            return (gains[name] if side == "virtio" else 1) * noise.lognormvariate(0, 0.01)

        return Known(name, rate=rate)

    match = "virtio", ["ide"]
    assert made.bench.outrun([IDE, VIRTIO], [job("a"), job("b")], match, {"x": ["a", "b"]}) == []
    verdicts = {one.name: one.verdict for one in made.bench.comparisons}
    assert verdicts == {"x": "faster", "a": "faster", "b": "not shown"}


def test_against_an_older_side(made: Made) -> None:
    made.bench.measure([IDE, VIRTIO], [Known(rate=rates(0.8, 0.005))], 10)
    (found,) = made.bench.against("ide", "virtio")
    assert (found.verdict, made.bench.comparisons) == ("regression", [found])


def test_sides_of_one_name_are_no_pair(made: Made) -> None:
    with pytest.raises(StatisticsError, match="ide was measured twice in block 0"):
        made.bench.outrun([IDE, IDE, VIRTIO], [Known()], ("virtio", ["ide"]), CLAIMS)


# --- in a run ---------------------------------------------------------------------------------

INNER = """
import random
import pytest
from bench_fakes import Fleet, Known
from virtproof.sides import Side

@pytest.fixture
def guest_on():
    return Fleet()

@pytest.mark.claim("PERF-1")
def test_one(bench):
    noise = random.Random(1)
    job = Known(rate=lambda side: (2 if side == "virtio" else 1) * noise.lognormvariate(0, 0.02))
    sides = [Side("ide", {{"disk": 1}}), Side("virtio", {{"disk": 2}})]
    assert bench.outrun(sides, [job], ("{best}", ["{rival}"]), {{"all": ["rate"]}}) == []
"""


@pytest.fixture
def apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: neither cache nor labs nor options of an outer pytest."""
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path_factory.mktemp("run")))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def inner(
    pytester: pytest.Pytester, *options: str, best: str = "virtio", rival: str = "ide"
) -> tuple[pytest.RunResult, list[dict[str, Any]]]:
    pytester.makepyfile(test_it=INNER.format(best=best, rival=rival))
    result = pytester.runpytest_inprocess(*options)
    file = pytester.path / "out" / "results.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    schema = jsonschema.Draft202012Validator(load_schema("results"))
    records = [json.loads(line) for line in lines]
    for record in records:
        schema.validate(record)
    return result, records


@pytest.mark.usefixtures("apart")
def test_a_record_has_measurements_and_comparisons(pytester: pytest.Pytester) -> None:
    _, (record,) = inner(pytester)
    assert record["outcome"] == "passed"
    assert len(record["measurements"]) == 2 * 4
    assert [one["verdict"] for one in record["comparisons"]] == ["faster", "faster"]
    for one in record["measurements"]:
        assert (pytester.path / "out" / one["raw"]).read_text() == "raw"
        assert one["raw"].startswith(record["evidence"] + "/throughput/")


@pytest.mark.usefixtures("apart")
def test_control_a_claim_that_does_not_hold_is_red_with_its_figures(
    pytester: pytest.Pytester,
) -> None:
    _, (record,) = inner(pytester, best="ide", rival="virtio")
    assert record["outcome"] == "failed"
    assert re.search(r"all: ide / virtio 0\.[45]\d* x \(.*\): not shown", record["reason"])
    assert len(record["measurements"]) == 2 * 4 * STAGES
    assert record["comparisons"][0]["verdict"] == "not shown"


MISSING = """
import pytest
from bench_fakes import Fleet
from virtproof.sides import Side

@pytest.fixture
def guest_on():
    return Fleet(status=127)

@pytest.mark.claim("PERF-2")
def test_one(bench):
    bench.measure([Side("virtio", {}, "vda")], bench.profile.disk)
"""


@pytest.mark.usefixtures("apart")
def test_a_missing_tool_is_a_skipped_test_with_the_line_in_its_record(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=MISSING)
    assert pytester.runpytest_inprocess().ret == pytest.ExitCode.OK
    record = json.loads((pytester.path / "out" / "results.jsonl").read_text())
    assert record["outcome"] == "skipped"
    assert record["reason"].endswith("no fio (put the package fio into the image)")
    assert record["measurements"] == []


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--throughput", "nightly", "-n", "2"),
            "--throughput nightly measures alone, and 2 workers would not be (give -n 0)",
        ),
        (("--throughput", "release", "-n", "1"), "--throughput release measures alone, and 1 "),
        (("--throughput", "nonsense"), "quick, nightly, release"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error_in_one_line(
    pytester: pytest.Pytester, options: tuple[str, ...], line: str
) -> None:
    result, records = inner(pytester, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = [*result.outlines, *result.errlines]
    (error,) = [one for one in text if "virtproof:" in one]
    assert error.startswith("ERROR: virtproof: ")
    assert line in error
    assert records == []


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("effort", ["quick", "nightly", "release"])
def test_the_effort_is_in_every_measurement(pytester: pytest.Pytester, effort: str) -> None:
    _, (record,) = inner(pytester, "--throughput", effort)
    assert {one["profile"] for one in record["measurements"]} == {effort}
    blocks = {"quick": 4, "nightly": 5, "release": 8}
    assert len(record["measurements"]) == 2 * blocks[effort]

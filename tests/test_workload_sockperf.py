"""sockperf: its command line, and what is read of its real answers (of sockperf 3.7, on a loopback)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from virtproof.errors import UsageError
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.sockperf import RoundTrips
from workload_fakes import Says, ends, text

JOB = RoundTrips()
GOOD = text("sockperf.txt")


@pytest.mark.parametrize(
    ("job", "tail"),
    [
        (RoundTrips(), "-m 64 -t 10"),
        (RoundTrips(size=1400), "-m 1400 -t 10"),
        (RoundTrips(seconds=1), "-m 64 -t 1"),
    ],
)
def test_command_line(job: RoundTrips, tail: str) -> None:
    said = " ".join(job.command("198.18.0.2", 20001))
    assert said == f"sockperf ping-pong --tcp -i 198.18.0.2 -p 20001 --full-rtt {tail}"


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"size": 13}, {"size": 65001}])
def test_what_cannot_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RoundTrips(**wrong)


def test_every_choice_is_a_parameter() -> None:
    told = {"tool": "sockperf", "protocol": "tcp", "name": "tcp-rr", "size": 64, "seconds": 10}
    assert JOB.parameters == told


def test_percentiles_are_read_through_its_colours() -> None:
    p50, p99 = JOB.figures(GOOD)
    assert "\x1b[" in GOOD
    assert (p50.name, p50.unit, p50.better) == ("tcp-rr.p50", "s", "lower")
    assert p50.value == pytest.approx(16.330e-6)
    assert (p99.name, p99.value) == ("tcp-rr.p99", pytest.approx(111.087e-6))


def test_the_99th_percentile_of_a_few_is_chance() -> None:
    said = text("sockperf-few.txt")
    assert "Total 220 observations" in said
    assert "percentile 99.000" in said
    assert [one.name for one in JOB.figures(said)] == ["tcp-rr.p50"]


@pytest.mark.parametrize(("total", "figures"), [(999, 1), (1000, 2)])
def test_where_a_few_end(total: int, figures: int) -> None:
    assert len(JOB.figures(GOOD.replace("Total 26724", f"Total {total}"))) == figures


def test_a_run_has_a_server_while_it_lasts() -> None:
    guest = Says()
    outcome = JOB.run(ends(guest, GOOD))
    assert (outcome.version, outcome.raw) == ("tool 1.0", GOOD)
    version, serve, end = guest.ran
    assert version == "sockperf --version 2>&1"
    assert "sockperf server --tcp -i 0.0.0.0 -p 2" in serve
    assert "kill" in end


@pytest.mark.parametrize(
    "said",
    [
        *("", text("sockperf-refused.txt"), GOOD[: len(GOOD) // 2], GOOD.replace("Total", "")),
        *(GOOD.replace("26724", "9" * 5000), GOOD.replace(" 16.330", "9" * 400 + ".0")),
        *(GOOD.replace("16.330", "nan"), GOOD.replace("16.330", "-1.0"), "x" * (10 << 20)),
        *("---> percentile " + "9" * (10 << 20), "---> percentile 50.000 =" + " " * (10 << 20)),
        "---> percentile " * 500_000,
    ],
    ids=lambda said: str(len(said)),
)
def test_a_broken_answer_is_one_line_and_soon(said: str) -> None:
    begin = time.monotonic()
    with pytest.raises(MeasurementError, match="^sockperf: no percentiles but ") as caught:
        JOB.run(ends(far=said))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - begin < 5


def test_a_refusal_is_told_in_its_words() -> None:
    with pytest.raises(MeasurementError, match="Can`t connect socket .errno=111"):
        JOB.run(ends(far=text("sockperf-refused.txt")))

"""fio: its command lines, and what is read of its real answers (of fio 3.33, in a guest and on a file)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from virtproof.errors import CommandError, UsageError
from virtproof.guest.shell import quote
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.fio import FILL, Fio, Pattern
from virtproof.workload.job import Figure
from workload_fakes import Says, answer, ends, packed, text

QD1 = Fio("qd1", "randread", depth=1)
READ = Fio("read", "read", 128 * 1024)
TWO = Fio("two", "randread", depth=4, jobs=2)
MIXED = Fio("mixed", "randrw", depth=4)
FEW = Fio("few", "write", depth=1, sync=True)
PLAIN = (
    "fio --name=x --filename=/dev/vda --ioengine=libaio --direct=1 --rw=read --bs=4096 --iodepth=16 "
    "--numjobs=1 --time_based=1 --runtime=30 --ramp_time=10 --randrepeat=0 --refill_buffers=1 "
    "--output-format=json --output=/run/virtproof-fio.json"
)


@pytest.mark.parametrize(
    ("chosen", "old", "new"),
    [
        ({}, "", ""),
        ({"pattern": "randrw"}, "--rw=read", "--rw=randrw"),
        ({"block": 131072}, "--bs=4096", "--bs=131072"),
        ({"depth": 1}, "--iodepth=16", "--iodepth=1"),
        ({"jobs": 3}, "--numjobs=1", "--numjobs=3"),
        ({"sync": True}, "virtproof-fio.json", "virtproof-fio.json --sync=dsync"),
        ({"seconds": 1}, "--runtime=30", "--runtime=1"),
        ({"ramp_s": 0}, "--ramp_time=10", "--ramp_time=0"),
    ],
)
def test_command_line(chosen: dict[str, Any], old: str, new: str) -> None:
    job = Fio("x", **{"pattern": "read", **chosen})
    assert " ".join(job.command("/dev/vda")) == PLAIN.replace(old, new)
    for name, value in chosen.items():
        assert job.parameters[name] == value


@pytest.mark.parametrize(
    "wrong",
    [
        *({"pattern": "trim"}, {"depth": 0}, {"jobs": 0}, {"seconds": 0}),
        *({"ramp_s": -1}, {"block": 100}),
    ],
)
def test_what_cannot_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Fio("x", **{"pattern": "read", **wrong})


# --- the traps of its JSON --------------------------------------------------------------------


def test_bytes_a_second_and_not_kib() -> None:
    found = answer("fio-read-128k.json")
    assert found["jobs"][0]["read"]["bw"] == 952335  # KiB
    (rate,) = READ.figures(found)
    assert (rate.unit, rate.better, rate.value) == ("B/s", "higher", 975191377)


def test_random_patterns_are_told_in_operations_of_a_real_guest() -> None:
    (rate,) = Fio("r", "randread").figures(answer("fio-randread-guest.json"))
    assert (rate.unit, rate.value) == ("1/s", 1535.464535)


def test_jobs_are_summed() -> None:
    """Each of --numjobs has an entry of its own."""
    (rate,) = TWO.figures(answer("fio-randread-2-jobs.json"))
    assert rate.value == pytest.approx(17195.804196 + 16925.074925)


@pytest.mark.parametrize("count", [1, 3])
def test_jobs_that_are_missing_or_more_are_no_figure(count: int) -> None:
    found = answer("fio-randread-2-jobs.json")
    found["jobs"] = (found["jobs"] * 2)[:count]
    with pytest.raises(MeasurementError, match="two has not the 2 jobs that it started"):
        TWO.figures(found)


def test_mixed_is_both_ways_together() -> None:
    (rate,) = MIXED.figures(answer("fio-randrw.json"))
    assert rate.value == pytest.approx(9551.448551 + 9792.207792)


@pytest.mark.parametrize(
    ("pattern", "rate"),
    [
        *(("read", 39130917), ("write", 40112975), ("rw", 39130917 + 40112975)),
        *(("randread", 9551.448551), ("randwrite", 9792.207792)),
    ],
)
def test_each_pattern_counts_its_own_ways(pattern: Pattern, rate: float) -> None:
    (figure,) = Fio("x", pattern).figures(answer("fio-randrw.json"))
    assert figure.value == pytest.approx(rate)


def test_latency_is_told_where_one_request_is_in_flight() -> None:
    rate, p50, p99 = QD1.figures(answer("fio-randread-qd1.json"))
    assert rate.value == 7932.067932
    assert (p50.name, p50.unit, p50.better) == ("qd1.p50", "s", "lower")
    assert (p50.value, p99.value) == pytest.approx((84480e-9, 205824e-9))
    assert p99.name == "qd1.p99"


@pytest.mark.parametrize("deep", [{"depth": 2}, {"depth": 1, "jobs": 2}])
def test_a_queue_has_no_latency(deep: dict[str, Any]) -> None:
    found = answer("fio-randread-qd1.json")
    found["jobs"] *= deep.get("jobs", 1)
    assert len(Fio("x", "randread", **deep).figures(found)) == 1


def test_the_99th_percentile_of_a_few_is_chance() -> None:
    found = answer("fio-syncwrite-few.json")
    assert found["jobs"][0]["write"]["total_ios"] == 300
    assert [one.name for one in FEW.figures(found)] == ["few", "few.p50"]


@pytest.mark.parametrize(("total", "names"), [(999, 2), (1000, 3)])
def test_where_a_few_end(total: int, names: int) -> None:
    found = answer("fio-syncwrite-few.json")
    found["jobs"][0]["write"]["total_ios"] = total
    assert len(FEW.figures(found)) == names


def test_a_missing_percentile_is_named() -> None:
    found = answer("fio-randread-qd1.json")
    del found["jobs"][0]["read"]["clat_ns"]["percentile"]["99.000000"]
    with pytest.raises(MeasurementError, match="has no read/clat_ns/percentile/99.000000"):
        QD1.figures(found)
    del found["jobs"][0]["read"]["clat_ns"]["percentile"]
    with pytest.raises(MeasurementError, match="has no read/clat_ns/percentile/50.000000"):
        QD1.figures(found)


def test_an_error_of_a_job_is_no_figure() -> None:
    """Of the real answer of a full disk; and in the second of two jobs."""
    job = Fio("err", "write", depth=1)
    with pytest.raises(MeasurementError, match="fio: err met an error of the disk"):
        job.figures(answer("fio-error.json"))
    found = answer("fio-randread-2-jobs.json")
    found["jobs"][1]["error"] = 5
    with pytest.raises(MeasurementError, match="two met an error"):
        TWO.figures(found)


# --- a whole run ------------------------------------------------------------------------------

STAT = "  100 0 {read} 5 200 0 {written} 9 0 5 14\n"
BEFORE, AFTER = STAT.format(read=1000, written=50), STAT.format(read=5000, written=150)


def guest(said: str) -> Says:
    """A guest in which fio's command prints ``said``."""
    return Says(lambda line: (0, "fio-3.33\n" if "--version" in line else said))


def test_a_run_has_figures_versions_and_the_raw_answer() -> None:
    raw = text("fio-read-128k.json")
    runner = guest(BEFORE + AFTER + packed(raw))
    outcome = READ.run(ends(runner))
    rate, cost = outcome.figures
    assert rate.value == 975191377
    moved = (4000 + 100) * 512
    assert cost == Figure("read.cpu", "s/B", "lower", pytest.approx(0.5 / moved))  # type: ignore[arg-type]
    assert (outcome.version, outcome.raw) == ("fio-3.33", raw)
    (line,) = [one for one in runner.ran if "--filename=/dev/vda" in one]
    assert line.startswith("cat /sys/block/vda/stat; fio --name=read ")


def test_a_disk_that_fails_fio_ends_with_the_guests_line() -> None:
    runner = Says(lambda line: (0, "fio-3.33\n") if "--version" in line else (1, "io_u error"))
    with pytest.raises(CommandError, match="exited with 1: io_u error"):
        READ.run(ends(runner))


WHOLE = packed(text("fio-read-128k.json"))
FOUND = answer("fio-read-128k.json")


def with_rate(value: object) -> str:
    found = json.loads(json.dumps(FOUND))
    found["jobs"][0]["read"]["bw_bytes"] = value
    return packed(json.dumps(found))


@pytest.mark.parametrize(
    "said",
    [
        *("", "\n", "\n\n\n", BEFORE, BEFORE + AFTER, BEFORE + AFTER + "no base64!"),
        *(BEFORE + AFTER + WHOLE[: len(WHOLE) // 2 // 4 * 4], BEFORE + AFTER + WHOLE[:-5]),
        *(BEFORE + AFTER + "é" + WHOLE, BEFORE + AFTER + packed("")),
        BEFORE + AFTER + packed(text("fio-read-128k.json")[:500]),
        *(BEFORE + AFTER + packed(one) for one in ("[]", "[" * 100_000, "null", "no", b"\xff\0")),
        *(BEFORE + AFTER + packed(json.dumps({"jobs": one})) for one in (None, {}, [], [1], ["x"])),
        *(BEFORE + AFTER + with_rate(one) for one in (None, "9", True, [], {}, -1, 10**400)),
        *(BEFORE + AFTER + with_rate(float(one)) for one in ("nan", "inf", "-inf")),
        *("x" * (10 << 20), BEFORE + AFTER + "x" * (10 << 20), "\n" * (10 << 20)),
        *("1 2 3\n" + AFTER + WHOLE, "² " * 11 + "\n" + AFTER + WHOLE),
        BEFORE + "9" * 5000 + " 1" * 10 + "\n" + WHOLE,
        BEFORE + AFTER + packed(bytes(100 << 20)),  # 100 MiB in 100 KiB
    ],
    ids=lambda said: str(len(said)),
)
def test_a_broken_answer_is_one_line_and_soon(said: str) -> None:
    begin = time.monotonic()
    with pytest.raises(MeasurementError) as caught:
        READ.run(ends(guest(said)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("moved", ["9" * 20, "0"])
def test_counters_that_cannot_be_or_stand_still_cost_the_cost_only(moved: str) -> None:
    after = STAT.format(read=moved, written=50)
    (rate,) = READ.run(ends(guest(STAT.format(read=0, written=50) + after + WHOLE))).figures
    assert rate.value == 975191377


def test_a_disk_is_filled_whole_or_it_is_no_disk_to_measure(tmp_path: Path) -> None:
    """On a loop-less stand-in: ``blockdev`` is made to tell a file's size, and a full device refuses."""
    programs = tmp_path / "bin"
    programs.mkdir()
    size = programs / "blockdev"
    size.write_text("#!/bin/sh\necho 3145728\n")
    size.chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    # tmpfs knows no direct I/O.
    fill = FILL.replace(" oflag=direct", "")

    def run(target: str) -> subprocess.CompletedProcess[bytes]:
        command = ["sh", "-c", quote(fill, (target,))]
        return subprocess.run(command, env=path, capture_output=True, check=False, timeout=60)

    disk = tmp_path / "disk"
    assert run(str(disk)).returncode == 0
    assert disk.stat().st_size == 3 << 20
    assert disk.read_bytes().startswith(b"virtproof\nvirtproof\n")
    full = run("/dev/full")
    assert full.returncode != 0
    assert b"No space left" in full.stdout

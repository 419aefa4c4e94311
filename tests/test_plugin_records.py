"""What a run leaves: a valid record a test, whole whatever dies, and the verdict on the terminal.

The tests inside need no guest: they only name claims. A guest is never faked.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from lxml import etree

from virtproof.errors import VirtproofError
from virtproof.measure.store import load_schema, read_results, read_run
from virtproof.plugin.controller import EVIDENCE_MARK
from virtproof.plugin.evidence import LONGEST, directory_name
from virtproof.plugin.options import Options
from virtproof.plugin.records import GROUP, Collector, _outcome
from virtproof.plugin.run import Run

SOON_S = 180  # what would hang, hangs for ever; a busy machine takes its time
OUTCOMES = """
import pytest
from virtproof.errors import GuestError

@pytest.fixture
def broken():
    raise RuntimeError("no set-up")

@pytest.fixture
def breaks():
    yield
    raise RuntimeError("no teardown")

@pytest.mark.claim("HOST-1", "HOST-2")
@pytest.mark.claim("HOST-1")
def test_passed(): pass

@pytest.mark.claim("NET-1")
def test_failed(): assert 1 == 2, "\\x1b[31mnot equal\\x1b[0m"

@pytest.mark.claim("NET-2")
def test_skipped(): pytest.skip("no such tool here")

@pytest.mark.claim("NET-3")
@pytest.mark.skip(reason="marked")
def test_marked(): pass

@pytest.mark.claim("NET-4")
def test_set_up(broken): pass

@pytest.mark.claim("NET-5")
def test_teardown(breaks): pass

@pytest.mark.claim("NET-6")
def test_failed_twice(breaks): assert False

@pytest.mark.claim("DISK-1")
@pytest.mark.xfail(reason="known", strict=True)
def test_expected(): assert False

@pytest.mark.claim("DISK-2")
def test_named():
    raise GuestError("guest x is gone", hint="look at y", detail="line 1\\nline 2")

def test_not_ours(): pass
"""
MANY = """
import pytest

@pytest.mark.claim("HOST-1")
@pytest.mark.parametrize("number", range(20))
def test_many(number): assert number != 13
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: neither cache nor labs nor options of an outer pytest."""
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path_factory.mktemp("run")))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=test)
    return pytester.runpytest_inprocess(*options)


def lines(out: Path = Path("out")) -> list[dict[str, Any]]:
    """The records, each checked against the schema here and not by the code under test."""
    schema = jsonschema.Draft202012Validator(load_schema("results"))
    found: list[dict[str, Any]] = []
    for line in (out / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        schema.validate(record)
        found.append(record)
    return found


def run_record(out: Path = Path("out")) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    jsonschema.Draft202012Validator(load_schema("run")).validate(record)
    return record


# --- one record a test ----------------------------------------------------------------------


def test_every_outcome_has_its_record(pytester: pytest.Pytester) -> None:
    result = run(pytester, OUTCOMES)
    assert result.ret == 1
    records = {record["test"].partition("::")[2]: record for record in lines()}
    assert {name: record["outcome"] for name, record in records.items()} == {
        "test_passed": "passed",
        "test_failed": "failed",
        "test_skipped": "skipped",
        "test_marked": "skipped",
        "test_set_up": "error",
        "test_teardown": "error",
        "test_failed_twice": "failed",
        "test_expected": "skipped",
        "test_named": "failed",
    }
    assert sorted(records["test_passed"]["claims"]) == ["HOST-1", "HOST-2"]
    reasons = {name: record["reason"] for name, record in records.items()}
    assert reasons["test_passed"] is None
    assert reasons["test_failed"].startswith("AssertionError: not equal assert 1 == 2")
    assert reasons["test_skipped"] == "no such tool here"
    assert reasons["test_marked"] == "marked"
    assert reasons["test_set_up"] == "RuntimeError: no set-up"
    assert reasons["test_teardown"] == "RuntimeError: no teardown"
    assert reasons["test_failed_twice"] == "assert False"
    assert reasons["test_named"].startswith("guest x is gone (look at y) [test_it.py:")
    for record in records.values():
        assert (record["guest"], record["diagnosis"], record["evidence"]) == (None, None, None)


def test_the_runs_record_counts_and_says_how_it_was_run(pytester: pytest.Pytester) -> None:
    run(pytester, OUTCOMES, "-q")
    record = run_record()
    assert record["counts"] == {"passed": 1, "failed": 3, "skipped": 3, "error": 2}
    assert record["exit_status"] == 1
    assert record["command_line"][0] == "pytest"
    assert "-q" in record["command_line"]
    assert record["accelerator"] == {"name": "none", "why": "no guest ran"}
    assert record["start"] <= record["end"]
    assert record["timings"]["total"] >= 0
    assert len(read_results(Path("out/results.jsonl"))) == 9
    assert read_run(Path("out/run.json")).counts["passed"] == 1
    assert "</html>" in Path("out/report.html").read_text()


def test_the_time_that_is_nobodys_is_the_harnesss(tmp_path: Path) -> None:
    collector = Collector(tmp_path, ["pytest"])
    collector._begin -= 20  # the run is 20 s old
    for worker, guests_s in (("gw0", 4.0), ("gw1", 9.0)):
        report = phase("teardown", "passed", name=f"test_x.py::test_{worker}")
        report.worker_id = worker  # type: ignore[attr-defined]  # as xdist does
        spent = {"guests": guests_s, "images": 1.0}
        report.virtproof = {**FACTS, "spent_s": spent}  # type: ignore[attr-defined]
        collector.add(report)
    run = collector.finish(0)
    assert run is not None
    found = run.timings
    assert (found["guests"], found["images"]) == (13.0, 2.0)
    assert found["harness"] == pytest.approx(2 * 20 - 13 - 2, abs=1)


def test_time_with_two_guests_counts_once(tmp_path: Path) -> None:
    made = Run(Options((), "tcg", None, "", "", tmp_path, False, tmp_path), None)  # type: ignore[arg-type]
    now = time.monotonic()
    spans = [(now - 100, now - 90), (now - 95, now - 80), (now - 10, math.inf), (0.0, 0.0)]
    made.guests = [SimpleNamespace(boots=[SimpleNamespace(span=span) for span in spans])]  # type: ignore[list-item]
    assert made.guests_s == pytest.approx(20 + 10, abs=1)


def test_a_control_a_schema_refuses_a_bent_record(pytester: pytest.Pytester) -> None:
    run(pytester, MANY, "-k", "3")
    path = Path("out/results.jsonl")
    path.write_text(path.read_text().replace('"failed"', '"fialed"'))
    with pytest.raises(jsonschema.ValidationError, match="fialed"):
        lines()


def test_a_fault_with_a_name_is_shown_without_a_traceback(pytester: pytest.Pytester) -> None:
    text = "\n".join(run(pytester, OUTCOMES, "-k", "test_named").outlines)
    assert "guest x is gone (look at y)\n[test_it.py:" in text
    assert "line 1\nline 2" in text
    assert "def test_named" not in text
    assert "Traceback" not in text
    # The control: a fault without a name is shown with its source.
    assert "def test_failed" in "\n".join(run(pytester, OUTCOMES, "-k", "test_failed").outlines)


def test_tests_that_are_not_ours_leave_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_plain(): pass\n\ndef test_bad(): assert False\n")
    result.assert_outcomes(passed=1, failed=1)
    assert not Path("out").exists()
    assert not any("virtproof" in line and "report" in line for line in result.outlines)


def test_out_is_where_it_was_asked_for(pytester: pytest.Pytester) -> None:
    result = run(pytester, MANY, "-k", "number1 or 3", "--out", "some/where else")
    assert not Path("out").exists()
    assert len(lines(Path("some/where else"))) == 2
    assert "report: some/where else/report.html" in result.outlines


def test_a_second_run_replaces_the_first(pytester: pytest.Pytester) -> None:
    run(pytester, MANY)
    assert len(lines()) == 20
    run(pytester, MANY, "-k", "13")
    assert [record["outcome"] for record in lines()] == ["failed"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_fault_that_has_a_name_is_the_reason_whoever_ran_the_test(
    pytester: pytest.Pytester, workers: str
) -> None:
    named = """
import pytest
from virtproof.errors import GuestError

@pytest.mark.claim("HOST-1")
def test_it(): raise GuestError("it is off")
"""
    run(pytester, named, "-n", workers)
    (record,) = lines()
    assert str(record["reason"]).startswith("it is off")


def test_an_out_that_cannot_be_written_is_one_line(pytester: pytest.Pytester) -> None:
    Path("out").write_text("a file is in the way")
    result = run(pytester, MANY)
    text = "\n".join([*result.outlines, *result.errlines])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: virtproof: --out" in text
    assert "is not a directory (give another one)" in text
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    assert Path("out").read_text() == "a file is in the way"


def test_results_that_cannot_be_written_are_one_line(pytester: pytest.Pytester) -> None:
    Path("out/results.jsonl").mkdir(parents=True)
    result = run(pytester, MANY)
    text = "\n".join([*result.outlines, *result.errlines])
    assert result.ret != 0
    assert "virtproof: cannot write" in text
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text


# --- on the terminal and in JUnit -----------------------------------------------------------


def test_the_verdict_closes_the_terminal(pytester: pytest.Pytester) -> None:
    result = run(pytester, OUTCOMES)
    start = next(n for n, line in enumerate(result.outlines) if line.strip("=") == " virtproof ")
    closing = result.outlines[start + 1 :]
    assert closing[0].startswith(("✗ ", "x "))
    assert any(line.split()[1:2] == ["HOST"] for line in closing)
    failures = [line for line in closing if line.startswith(("✗ test_", "x test_"))]
    assert [line.split()[1] for line in failures] == [
        *("test_failed", "test_set_up", "test_teardown", "test_failed_twice", "test_named"),
    ]
    assert "report: out/report.html" in closing


def test_a_clean_run_has_no_cross(pytester: pytest.Pytester) -> None:
    result = run(pytester, OUTCOMES, "-k", "test_passed")
    assert result.ret == 0
    closing = result.outlines[result.outlines.index("report: out/report.html") - 12 :]
    assert not any(line.lstrip().startswith(("✗", "x ")) for line in closing)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_junit_has_the_claims_as_properties(pytester: pytest.Pytester, workers: list[str]) -> None:
    run(pytester, OUTCOMES, "--junitxml=junit.xml", *workers)
    cases = etree.parse("junit.xml").iter("testcase")
    claims = {
        case.get("name"): [
            item.get("value") for item in case.iterfind("properties/property[@name='claim']")
        ]
        for case in cases
    }
    assert sorted(claims["test_passed"], key=str) == ["HOST-1", "HOST-2"]
    assert claims["test_failed"] == ["NET-1"]
    assert claims["test_set_up"] == ["NET-4"]
    assert claims["test_not_ours"] == []


# --- several workers, and what dies ---------------------------------------------------------


@pytest.mark.parametrize("dist", ["load", "loadgroup"])
def test_workers_make_one_complete_file(pytester: pytest.Pytester, dist: str) -> None:
    result = run(pytester, MANY, "-n", "2", "--dist", dist)
    result.assert_outcomes(passed=19, failed=1)
    records = lines()
    assert sorted(record["test"] for record in records) == sorted(
        f"test_it.py::test_many[{number}]" for number in range(20)
    )
    assert run_record()["counts"] == {"passed": 19, "failed": 1, "skipped": 0, "error": 0}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a/test_x.py::test_y@group", "a/test_x.py::test_y"),
        ("a/test_x.py::test_y[a@b]@suites/x", "a/test_x.py::test_y[a@b]@suites/x"),
        ("a/test_x.py::test_y[a@b]@one two", "a/test_x.py::test_y[a@b]"),
        ("a/test_x.py::test_y[a@b]", "a/test_x.py::test_y[a@b]"),
        ("a@b/test_x.py::test_y", "a@b/test_x.py::test_y"),
    ],
)
def test_only_a_group_at_the_end_is_cut(tmp_path: Path, name: str, plain: str) -> None:
    assert GROUP.sub("", name) == plain
    collector = Collector(tmp_path, ["pytest"])
    for when in ("setup", "call", "teardown"):
        report = phase(when, "passed", name=name)
        report.virtproof = {**FACTS, "claims": ["HOST-1"]}  # type: ignore[attr-defined]  # as hooks do
        collector.add(report)
    collector.finish(0)
    (record,) = lines(tmp_path)
    assert (record["test"], record["claims"]) == (plain, ["HOST-1"])


def test_a_worker_that_dies_is_an_error_of_its_test(pytester: pytest.Pytester) -> None:
    test = MANY.replace("assert number != 13", "number == 13 and __import__('os')._exit(9)")
    pytester.makepyfile(test_it=test)
    result = pytester.runpytest_subprocess(
        "-n", "2", timeout=SOON_S
    )  # a scheduler may wait for ever
    assert result.ret != 0
    records = {record["test"]: record for record in lines()}
    assert len(records) == 20
    died = records["test_it.py::test_many[13]"]
    assert died["outcome"] == "error"
    assert "crashed" in died["reason"]
    assert [r["outcome"] for r in records.values()].count("passed") == 19
    assert run_record()["counts"]["error"] == 1


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_what_was_written_survives_a_kill(pytester: pytest.Pytester, workers: list[str]) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, time
        pytestmark = pytest.mark.claim("HOST-1")
        def test_one(): pass
        def test_two(): assert False
        def test_three(): time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *workers],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        results, end = Path("out/results.jsonl"), time.monotonic() + SOON_S
        while not results.exists() or results.read_text().count("\n") < 2:
            assert time.monotonic() < end, "two records never came"
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait(SOON_S)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if group_lives(process.pid) else None
    assert [record["outcome"] for record in lines()] == ["passed", "failed"]
    assert not Path("out/run.json").exists()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "stays"), [(False, True), (True, False)])
def test_old_evidence_goes_only_if_it_is_ours(
    pytester: pytest.Pytester, mark: bool, stays: bool
) -> None:
    old = Path("out/evidence/test_old")
    old.mkdir(parents=True)
    (old / "console.log").write_text("old")
    Path("out/notes.txt").write_text("mine")
    if mark:
        (old.parent / EVIDENCE_MARK).touch()
    run(pytester, MANY, "--collect-only")
    assert old.exists()
    run(pytester, MANY, "--image", "no-such-image")
    assert old.exists()
    run(pytester, MANY, "-k", "13")
    assert old.exists() is stays
    assert Path("out/notes.txt").read_text() == "mine"


def test_workers_do_not_remove_each_others_evidence(pytester: pytest.Pytester) -> None:
    """Only the controller looks at old evidence, before a worker is there."""
    test = """
        import pathlib, pytest
        @pytest.mark.claim("HOST-1")
        @pytest.mark.parametrize("n", range(6))
        def test_evidence(n):
            place = pathlib.Path("out/evidence")
            place.mkdir(parents=True, exist_ok=True)
            (place / ".virtproof").touch()
            (place / str(n)).touch()
    """
    run(pytester, test, "-n", "2").assert_outcomes(passed=6)
    assert sorted(path.name for path in Path("out/evidence").iterdir()) == [
        *(".virtproof", "0", "1", "2", "3", "4", "5")
    ]


NASTY = [
    "suites/disk/test_disk.py::test_boot[debian-12]",
    "../../etc/passwd",
    "..",
    "",
    "/",
    "a\x00b",
    "a\nb\x1b[31m",
    "<script>alert(1)</script>",
    "quote\"'`$(id)`",
    "größe",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    ".hidden",
    "-rf",
    "x" * 5000,
]


@pytest.mark.parametrize("test", NASTY, ids=lambda test: ascii(test)[:30])
def test_an_evidence_directory_has_a_harmless_name(tmp_path: Path, test: str) -> None:
    name = directory_name(test)
    assert name
    assert len(name) <= LONGEST + 9
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
    assert not name.startswith((".", "-"))
    place = tmp_path / name
    place.mkdir()
    assert place.resolve().parent == tmp_path.resolve()


def test_no_two_tests_share_an_evidence_directory() -> None:
    tests = [*NASTY, "a/b", "a_b", "a b", "a::b", "x" * 5001, "A/b", "test"]
    names = [directory_name(test) for test in tests]
    assert len(set(names)) == len(tests)
    assert directory_name("plain-name_1.0+x") == "plain-name_1.0+x"


# --- outcomes of phases ---------------------------------------------------------------------


FACTS: dict[str, Any] = {
    "claims": [],
    "guest": None,
    "diagnosis": None,
    "measurements": [],
    "comparisons": [],
    "remark": None,
    "evidence": None,
    "environment": {},
    "spent_s": {"guests": 3.0, "images": 0.5},
}


def phase(
    when: str, outcome: str, said: Any = None, name: str = "test_x.py::test_y"
) -> pytest.TestReport:
    return pytest.TestReport(
        name,
        ("test_x.py", 0, "test_y"),
        {},
        outcome,  # type: ignore[arg-type]
        said,
        when,  # type: ignore[arg-type]
    )


SKIP = ("test_x.py", 3, "Skipped: no such tool")


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], ("passed", None)),
        (
            [("setup", "passed"), ("call", "failed", "boom"), ("teardown", "passed")],
            ("failed", "boom"),
        ),
        ([("setup", "failed", "boom"), ("teardown", "passed")], ("error", "boom")),
        (
            [("setup", "passed"), ("call", "passed"), ("teardown", "failed", "late")],
            ("error", "late"),
        ),
        (
            [("setup", "passed"), ("call", "failed", "first"), ("teardown", "failed", "late")],
            ("failed", "first"),
        ),
        ([("setup", "skipped", SKIP), ("teardown", "passed")], ("skipped", "no such tool")),
        (
            [("setup", "passed"), ("call", "skipped", SKIP), ("teardown", "failed", "late")],
            ("error", "late"),
        ),
        ([("setup", "failed", "\x1b[31mred\x1b[0m\n two"), ("teardown", "passed")], ("error", "red two")),
        ([("setup", "failed", ""), ("teardown", "passed")], ("error", "no reason given")),
        ([("setup", "failed", "x" * 9999), ("teardown", "passed")], ("error", "x" * 500)),
    ],
)  # fmt: skip
def test_phases_make_an_outcome(
    phases: list[tuple[Any, ...]], outcome: tuple[str, str | None]
) -> None:
    assert _outcome([phase(*one) for one in phases]) == outcome


def test_a_run_without_tests_of_ours_has_no_record(tmp_path: Path) -> None:
    assert Collector(tmp_path / "out", ["pytest"]).finish(0) is None
    assert not (tmp_path / "out").exists()


def test_a_crash_is_recorded_with_its_reason(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "out", ["pytest"])
    collector.add(phase("setup", "passed"))
    collector.crashed("test_x.py::test_y@group", "worker 'gw0' crashed")
    collector.finish(1)
    (record,) = lines(tmp_path / "out")
    assert (record["test"], record["outcome"]) == ("test_x.py::test_y", "error")
    assert record["reason"] == "worker 'gw0' crashed"


def test_a_run_record_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    collector = Collector(tmp_path, ["pytest"])
    collector.crashed("test_x.py::test_y", "first")
    (tmp_path / "run.json").mkdir()
    with pytest.raises(VirtproofError, match="cannot write .*run.json"):
        collector.finish(1)

"""docs/trials.md is of the trials that there are, and tells of every one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trials.table import PAGE, merged, page

ROOT = Path(__file__).parents[1]
ROW = {"layer": "disk", "by": "boot", "line": "", "seconds": 7.4, "outcome": "passed"}
HEALTHY = {**ROW, "layer": "healthy", "defect": "none", "name": "nothing"}


def test_what_was_missed_stands_out_and_is_counted() -> None:
    rows = [
        {**ROW, "defect": "a | b", "name": "boot-hang"},
        {**ROW, "defect": "c", "name": "nothing", "outcome": "failed"},
        HEALTHY,
        {**HEALTHY, "outcome": "failed", "name": "disk-slow"},
    ]
    text = page(rows)
    assert "1 of 2 defects" in text
    assert "1 alarms on 2 healthy" in text
    assert "| disk | a \\| b | boot | `boot-hang` | 7 |" in text
    assert "| disk | c | boot | **nothing** | 7 |" in text


def test_a_trial_that_was_repeated_has_its_last_row() -> None:
    first = [{**ROW, "defect": "a", "outcome": "failed"}, {**ROW, "defect": "b"}]
    [a, b] = merged([first, [{**ROW, "defect": "a"}]])
    assert (a["outcome"], b["defect"]) == ("passed", "b")


def collected(*options: str) -> list[str]:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*argv, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("tests/trials/")]


@pytest.fixture(scope="module")
def trials() -> list[str]:
    return [test for test in collected("tests/trials") if "test_healthy" not in test]


def test_the_table_has_a_row_for_every_trial(trials: list[str]) -> None:
    rows = re.findall(r"^\| (?!layer|---)", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(trials) >= 40


def test_a_sample_runs_with_the_other_tests(trials: list[str]) -> None:
    sample = collected("tests")
    assert 5 <= len([test for test in sample if "test_healthy" not in test]) < len(trials)

"""`history check`: what must alert does, once, with all that somebody needs; what must not does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from history_data import history
from virtproof import cli


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit status of `virtproof history ...`, and what it printed, errors too."""
    status = cli.main(["history", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def filled(db: Path, *directories: Path) -> None:
    assert cli.main(["history", "add", "--db", str(db), *map(str, directories)]) == 0


def step(n: int, at: int, change: float) -> list[float]:
    return [1.0] * at + [1 + change] * (n - at)


def test_a_step_down_alerts_once_with_all_that_is_needed(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(db, *history(tmp_path, step(40, 35, -0.15), kernels={35: "6.1.0-29"}))
    capsys.readouterr()
    status, text = said(capsys, "check", "--db", db)
    assert status == 1
    assert "A/A check passed" in text
    alert = next(line for line in text.splitlines() if line.startswith("alert 1: "))
    assert re.search(
        r"tcp-to-guest virtio debian-12 tcg QEMU 7.2 has changed: 1\d\.\d% less", alert
    )
    low, high = re.search(r"\((-[\d.]+)% to (-[\d.]+)% at 95 %", alert).groups()  # type: ignore[union-attr]
    assert float(low) < -15 < float(high)
    assert "since:   run 36 of 2025-02-05T00:00, kernel 6.1.0-29" in text
    assert "before:  run 35 of 2025-02-04T00:00, kernel 6.1.0-28" in text
    assert "changed: kernel 6.1.0-28 -> 6.1.0-29\n" in text
    assert "again:   ./run conformance suites/throughput/test_throughput.py::test_" in text
    assert "--throughput nightly --image debian-12 --accel tcg" in text
    status, text = said(capsys, "check", "--db", db)
    assert (status, "known, alert 1" in text) == (0, True)
    assert said(capsys, "acknowledge", 1, "--why", "bug 77", "--db", db)[0] == 0
    status, text = said(capsys, "check", "--db", db)
    assert (status, "alert" in text, "no new regression" in text) == (0, False, True)
    assert "acknowledged: bug 77" in said(capsys, "show", "--db", db)[1]


@pytest.mark.parametrize(
    ("levels", "figure"),
    [
        (step(40, 35, 0.0), {}),
        (step(40, 35, 0.15), {}),  # better
        (step(40, 35, -0.15), {"unit": "s", "better": "lower"}),
        (step(22, 19, -0.30), {}),  # too little history before it
        (step(40, 38, -0.30), {}),  # two points after it
        (step(40, 25, -0.02), {}),  # smaller than what is told
        (step(40, 20, -0.2)[:30] + [1.0] * 10, {}),  # recovered
    ],
)
def test_what_is_no_regression_does_not_alert(
    tmp_path: Path,
    db: Path,
    capsys: pytest.CaptureFixture[str],
    levels: list[float],
    figure: dict[str, str],
) -> None:
    filled(db, *history(tmp_path, levels, figure=figure))
    capsys.readouterr()
    status, text = said(capsys, "check", "--db", db)
    assert (status, "report only:" in text, "alert" in text) == (0, False, False)


def test_more_is_worse_where_lower_is_better(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = {"unit": "s", "better": "lower"}
    filled(db, *history(tmp_path, step(40, 35, 0.15), figure=figure))
    capsys.readouterr()
    status, text = said(capsys, "check", "--db", db)
    assert (status, "% more (" in text) == (1, True)


def test_a_host_that_slows_down_is_no_regression_of_a_controlled_series(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(db, *history(tmp_path, [1.0] * 40, host_level=step(40, 30, -0.3)))
    capsys.readouterr()
    status, text = said(capsys, "check", "--db", db)
    assert (status, "has changed" in text) == (0, False)


def test_the_same_without_a_control_is_one_and_says_beware(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: what the control guest is for."""
    host = step(40, 30, -0.3)
    filled(db, *history(tmp_path, [1.0] * 40, host_level=host, controlled=False))
    capsys.readouterr()
    _, text = said(capsys, "check", "--db", db)
    assert "has changed: 3" in text
    assert "beware:  uncontrolled" in text
    assert "1 series are uncontrolled" in text


def wandering(n: int, seed: int = 3) -> list[float]:
    """A host that drifts by an AR(0.9) of 8 %."""
    rng, level = np.random.default_rng(seed), [0.0]
    for _ in range(n - 1):
        level.append(0.9 * level[-1] + float(rng.normal(0, 0.08 * np.sqrt(1 - 0.81))))
    return [float(np.exp(one)) for one in level]


def test_a_host_that_differs_from_itself_is_report_only(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: the A/A check can fail."""
    levels = np.array(wandering(60)) * np.array(step(60, 50, -0.4))
    filled(db, *history(tmp_path, levels, controlled=False))
    capsys.readouterr()
    status, text = said(capsys, "check", "--db", db)
    assert (status, "A/A check FAILED" in text) == (0, True)
    assert re.search(r"^report only: .* has changed", text, re.MULTILINE)
    assert "again:   ./run" in text
    assert "report only:" in said(capsys, "check", "--db", db)[1]  # each time: nothing is stored


def test_a_slow_drift_is_told_against_the_pinned_baseline(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = [1 - 0.0025 * max(0, day - 20) for day in range(60)]
    filled(db, *history(tmp_path, levels))
    capsys.readouterr()
    series = said(capsys, "show", "--db", db)[1].splitlines()[1].split()[0]
    assert "drifted" not in said(capsys, "check", "--db", db)[1]
    assert said(capsys, "pin", series[:6], "--at", 15, "--db", db)[0] == 0
    _, text = said(capsys, "check", "--db", db)
    assert "has drifted from its pinned baseline: " in text


def test_without_a_drift_a_pin_alerts_nobody(
    tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(db, *history(tmp_path, [1.0] * 60))
    capsys.readouterr()
    series = said(capsys, "show", "--db", db)[1].splitlines()[1].split()[0]
    assert said(capsys, "pin", series, "--at", 15, "--db", db)[0] == 0
    assert said(capsys, "check", "--db", db)[0] == 0

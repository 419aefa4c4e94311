"""`history report`: a page that answers what a regression's reader asks, and says no more than was found."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree, html

from history_data import GUEST, figures, history, run_at, write
from test_history_check import filled, said, step, wandering
from virtproof import cli
from virtproof.history import again, reporting
from virtproof.history.database import Database
from virtproof.history.detectors import detector
from virtproof.history.points import series_of
from virtproof.history.store import Store
from virtproof.sides import parse_side
from virtproof.workload.profiles import compared

BAD = step(40, 35, -0.15)


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history in which a kernel cost 15 % at its thirty-sixth run; of a good host."""
    where = tmp_path_factory.mktemp("worse")
    filled(where / "db", *history(where, BAD, kernels={35: "6.1.0-29"}))
    return where / "db"


@pytest.fixture
def db(worse: Path, tmp_path: Path) -> Path:
    """A copy of it to write into."""
    copy = tmp_path / "db"
    copy.write_bytes(worse.read_bytes())
    return copy


def page(db: Path, *options: str) -> Any:
    """The page that the command writes, parsed."""
    path = db.with_name("page.html")
    assert cli.main(["history", "report", "--db", str(db), "-o", str(path), *options]) == 0
    return html.document_fromstring(path.read_text(encoding="utf-8"))


def fresh(tmp_path: Path, levels: Any, **of: Any) -> Path:
    filled(tmp_path / "db", *history(tmp_path / "runs", levels, **of))
    return tmp_path / "db"


def series_id(db: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    return said(capsys, "show", "--db", db)[1].splitlines()[1].split()[0]


def head_of(tree: Any) -> tuple[str, str]:
    """The verdict, and the badge beside it."""
    (header,) = tree.xpath("//header")
    (title,), (badge,) = header.xpath("./h1"), header.xpath(".//span[contains(@class, 'badge')]")
    return title.text_content(), badge.text_content()


def sections(tree: Any) -> list[Any]:
    found: list[Any] = tree.xpath("//section[@id='regressions']/article")
    return found


def answers(section: Any) -> dict[str, str]:
    return {
        one.find("dt").text_content(): " ".join(one.find("dd").text_content().split())
        for one in section.xpath(".//dl/div")
    }


def test_a_regression_is_told_with_all_that_is_asked_of_it(worse: Path) -> None:
    tree = page(worse)
    assert head_of(tree) == ("1 series has got worse", "regression")
    (section,) = sections(tree)
    told = answers(section)
    for name in ("tcp-to-guest", "virtio", "debian-12", "6.1.0-29", "7.2", "iperf3", "tcg"):
        assert name in told["What"]
    much = re.fullmatch(
        r"1[3-7] % less \(\N{MINUS SIGN}(\d+) % to \N{MINUS SIGN}(\d+) %, at 95 %\); more is better",
        told["How much"],
    )
    assert much is not None
    assert int(much[2]) < 15.5 < int(much[1]) + 1
    assert re.fullmatch(r"p = \de-\d+; 35 points before, 5 after", told["How sure"])
    assert told["Since"] == "run 36 of 2025-02-05 00:00last good: run 35 of 2025-02-04 00:00"
    assert told["Changed"] == "kernel 6.1.0-28 → 6.1.0-29"
    assert "A/A check passed" in tree.xpath("//header")[0].text_content()
    commands = [pre.text_content() for pre in section.xpath(".//dl//pre")]
    assert commands[0].startswith("./run conformance suites/throughput/test_throughput.py::test_")
    assert commands[1].startswith("./run compare --a kernel=6.1.0-28/vmlinuz,")


def test_without_the_step_the_section_is_not_there(tmp_path: Path) -> None:
    """Control: the page above says what it says because of the step."""
    tree = page(fresh(tmp_path, [1.0] * 40, kernels={35: "6.1.0-29"}))
    assert head_of(tree) == ("Nothing has got worse", "no regression")
    assert sections(tree) == []
    assert tree.xpath("//a[@href='#regressions']") == []
    assert [one.text_content() for one in tree.xpath("//td/span")] == ["steady"]


def test_the_page_needs_nothing_but_itself(worse: Path) -> None:
    tree = page(worse)
    assert tree.xpath("//script | //link | //iframe | //img | //object | //@onclick") == []
    assert all(href.startswith("#") for href in tree.xpath("//@href"))
    assert tree.xpath("//@src") == []
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in tree.xpath("//@href")} <= set(ids)


def test_each_chart_is_whole_and_has_its_table(worse: Path) -> None:
    page(worse)
    text = worse.with_name("page.html").read_text(encoding="utf-8")
    charts = re.findall(r'<svg class="chart".*?</svg>(?=<table)', text, re.DOTALL)
    assert len(charts) == 2
    for one in charts:
        root = etree.fromstring(one)
        assert set(root.get("aria-labelledby", "").split()) == set(root.xpath("//@id"))
        assert [child.tag for child in root[:2]] == ["title", "desc"]
    runs, lies = (etree.fromstring(one) for one in charts)
    assert len(runs.xpath("//circle[@class='frozen']")) == 40  # the control guest
    assert len(runs.xpath("//circle[@class='point']")) == 80
    assert "A: kernel 6.1.0-29" in runs.xpath("//text/text()")
    assert len(runs.xpath("//line[@class='change failed']")) == 1
    assert "after: 25 sessions of 5 runs" in lies.xpath("//text/text()")
    (levels, lying) = html.fromstring(text).xpath("//figure/table")
    assert "kernel 6.1.0-28 → 6.1.0-29" in levels.text_content()
    assert "25 of 5 runs" in lying.text_content()


def test_bars_are_as_many_as_there_are_sessions(worse: Path) -> None:
    store = Store(Database(str(worse), make=False))
    found = reporting.history(store.contents(), "db", "kernel", detector("ruptures"), [])
    (one,) = found.regressions
    before, after = one.trend.sessions
    assert (len(before.values), len(after.values)) == (175, 25)
    # Each is over its own run's control, so that their level is the one that was made.
    assert sorted(after.values)[12] / sorted(before.values)[87] == pytest.approx(0.85, abs=0.03)


def test_the_report_only_reads_and_tells_what_became_of_an_alert(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = db.read_bytes()
    assert "not told yet" in sections(page(db))[0].text_content()
    assert db.read_bytes() == before
    assert said(capsys, "check", "--db", db)[0] == 1
    tree = page(db)
    assert head_of(tree)[1] == "regression"
    assert re.search(r"open\s*alert 1 of \d{4}-", sections(tree)[0].text_content())
    assert said(capsys, "acknowledge", 1, "--why", "bug <77>", "--db", db)[0] == 0
    tree = page(db)
    assert head_of(tree) == ("Nothing else has got worse", "no regression")
    assert "acknowledged: bug <77>" in sections(tree)[0].text_content()


def test_a_host_that_differs_from_itself_makes_no_verdict(tmp_path: Path) -> None:
    levels = [a * b for a, b in zip(wandering(60), step(60, 50, -0.4), strict=True)]
    tree = page(fresh(tmp_path, levels, controlled=False))
    assert head_of(tree) == ("1 series may have got worse", "report only")
    text = tree.text_content()
    assert "A/A check FAILED" in text
    assert "it may be the host that changed" in text
    assert tree.xpath("//circle[@class='frozen']") == []


@pytest.mark.parametrize(("points", "note"), [(1, "1 of 1 series have one point"), (12, "too few")])
def test_what_cannot_be_judged_is_not_called_well(tmp_path: Path, points: int, note: str) -> None:
    tree = page(fresh(tmp_path, step(12, 6, -0.5)[:points]))
    assert head_of(tree) == ("Nothing can be said yet", "no verdict")
    assert note in tree.xpath("//header")[0].text_content()
    assert sections(tree) == []


def test_a_series_that_is_well_is_shown_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = fresh(tmp_path, [1.0] * 25)
    name = series_id(db, capsys)
    assert page(db).xpath("//section[@id='shown']") == []
    (shown,) = page(db, "--series", name[:5]).xpath("//section[@id='shown']/article")
    assert len(shown.xpath(".//svg[@class='chart']")) == 2
    assert len(shown.xpath(".//details//tbody/tr")) == 25


def test_what_is_asked_for_and_not_there_is_one_line(
    worse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    status, text = said(capsys, "report", "--db", worse, "-o", path, "--series", "zzz")
    assert (status, path.exists()) == (2, False)
    assert text.startswith("virtproof: error: no series is called 'zzz'")
    status, text = said(capsys, "report", "--db", worse, "-o", tmp_path)
    assert (status, "cannot write" in text, len(text.splitlines())) == (1, True, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_pinned_baseline_and_a_drift_from_it_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = fresh(tmp_path, [1 - 0.0025 * max(0, day - 20) for day in range(60)])
    name = series_id(db, capsys)
    assert page(db, "--series", name).xpath("//line[@class='floor']") == []
    assert said(capsys, "pin", name, "--at", 15, "--db", db)[0] == 0
    tree = page(db)
    titles = [one.find("h3").text_content() for one in sections(tree)]
    (at,) = (n for n, title in enumerate(titles) if "has drifted from its baseline" in title)
    section = sections(tree)[at]
    # Its slope is a step to the detector, too: two sections of one series, with two names.
    assert len({one.get("id") for one in sections(tree)}) == len(titles) == 2
    assert len(section.xpath(".//svg//line[@class='floor']")) == 1
    assert "up to run 15" in section.xpath(".//table")[0].text_content()
    told = answers(section)
    assert "10 points before, 10 after" in told["How sure"]
    assert told["Since"].startswith("some time after run 15 of 2025-01-15")
    assert "newest: run 60 of" in told["Since"]
    assert told["Changed"].startswith("nothing that a run records")


def test_an_alert_that_holds_no_more_is_told_as_past(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = history(tmp_path / "runs", [*BAD, *[1.0] * 12])
    db = tmp_path / "db"
    filled(db, *runs[:40])
    assert said(capsys, "check", "--db", db)[0] == 1
    assert page(db).xpath("//section[@id='past']") == []
    filled(db, *runs[40:])
    tree = page(db)
    assert sections(tree) == []
    (past,) = tree.xpath("//section[@id='past']")
    assert "alert 1 of" in past.text_content()


def test_series_of_one_title_are_told_apart(tmp_path: Path) -> None:
    jobs: list[dict[str, Any]] = [{"tool": "fio", "version": "3", "depth": n} for n in (1, 8)]
    rows = [figures(0, [1e9] * 5, name="read", job=job) for job in jobs]
    runs = write(tmp_path / "a", run_at(0), [*rows[0], *rows[1], *figures(0, [1e9] * 5)])
    filled(tmp_path / "db", runs)
    titles = [
        one.text_content()
        for one in page(tmp_path / "db").xpath("//section[@id='series']//tbody//th")
    ]
    first, second, other = titles
    assert first != second
    assert " job " in first
    assert " job " in second
    assert " job " not in other


HOSTILE = "6.1</code><script>alert(1)</script>,qemu=/tmp/x\x1b[31m"


def test_what_a_guest_says_of_itself_stays_text(tmp_path: Path) -> None:
    name = "a\"'><img src=x onerror=alert(1)>"
    db = fresh(tmp_path, BAD, kernels={35: HOSTILE}, figure={"name": name})
    tree = page(db)
    assert tree.xpath("//script | //img | //@onerror") == []
    (section,) = sections(tree)
    assert "</code><script>alert(1)</script>,qemu=/tmp/x" in answers(section)["Changed"]
    assert name in section.find("h3").text_content()
    assert "\x1b" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "compare" not in answers(section)["Again"]  # a side would be something else


def test_more_sections_than_a_page_bears_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those of series that are named are there all the same."""
    monkeypatch.setattr(reporting, "SECTIONS", 2)
    runs = []
    for day, level in enumerate(step(30, 25, 1.0)):
        noise = np.exp(np.random.default_rng(day).normal(0, 0.01, (4, 5)))
        rows = [
            figures(day, 1e9 * noise[n] * (1 - 0.1 * (n + 1) * (level - 1)), name=f"figure-{n}")
            for n in range(4)
        ]
        runs.append(write(tmp_path / f"{day}", run_at(day), [one for row in rows for one in row]))
    db = tmp_path / "db"
    filled(db, *runs)
    tree = page(db)
    names = [one.find("h3").text_content().split()[0] for one in sections(tree)]
    assert names == ["figure-3", "figure-2"]  # the worst first
    assert head_of(tree)[0] == "4 series have got worse"
    assert "2 more stand in the list" in tree.text_content()
    contents = Store(Database(str(db), make=False)).contents()
    least, *_ = series_of(contents.configs, contents.sessions, "kernel")
    tree = page(db, "--series", least.id)
    names = [one.find("h3").text_content().split()[0] for one in sections(tree)]
    assert names == ["figure-3", "figure-2", "figure-0"]
    assert "1 more stand in the list" in tree.text_content()


CONFIG = {
    "name": "randread-4k.cpu",
    "device": "virtio-scsi",
    "tool": "fio",
    "accel": "tcg",
    "image": GUEST["image"],
    "test": "suites/throughput/test_throughput.py::test_disk",
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, ("data", "bus", "virtio-scsi")),
        ({"device": "virtio"}, None),
        (
            {"device": "rtl8139", "tool": "iperf3", "name": "tcp-to-guest"},
            ("spec", "nic", "rtl8139"),
        ),
        ({"device": "sata", "name": "randrw-4k.p99"}, ("data", "bus", "sata")),
    ],
)
def test_the_comparison_that_is_told_is_one_that_compare_takes(
    changes: dict[str, str], field: tuple[str, str, str] | None
) -> None:
    line = again.compared({**CONFIG, **changes}, "image", "debian-11", "debian-12")
    assert line is not None
    words = shlex.split(line)
    assert words[:2] == ["./run", "compare"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert [job.name for job in compared(given["--workload"])] == [given["--workload"]]
    for flag, image in (("--a", "debian-11"), ("--b", "debian-12")):
        spec, data = parse_side(given[flag])
        assert spec.pop("image") == image
        there = [("spec", *one) for one in spec.items()] + [("data", *one) for one in data.items()]
        assert there == ([field] if field else [])


@pytest.mark.parametrize(
    "changes",
    [{"device": "queues2"}, {"device": "virtio (same)", "tool": "iperf3"}, {"test": "t.py"}],
)
def test_what_compare_cannot_name_has_no_such_line(changes: dict[str, str]) -> None:
    assert again.compared({**CONFIG, **changes}, "image", "debian-11", "debian-12") is None
    assert again.compared(CONFIG, "image", "debian-12", "debian-12") is None

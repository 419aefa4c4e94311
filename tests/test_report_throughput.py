"""Throughput in the reports: charts that are whole and escaped, tables that say what the records say."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from lxml import etree, html

from test_report import record_of, sample
from virtproof.measure.measurement import Comparison
from virtproof.measure.results import TestRecord
from virtproof.measure.series import Series, centre_of, comparisons_of, is_claim, series_of
from virtproof.report import chart, forest, throughput
from virtproof.report.junit import properties
from virtproof.report.markup import Markup
from virtproof.report.terminal import summary_lines
from virtproof.report.units import percent, ratio, significant, told_in

KINDS = ("good", "bad", "hostile", "compare")
NARROW = "\N{NARROW NO-BREAK SPACE}"
FOUND = Comparison(
    "tcp-to-guest", "bit/s", "higher", "a", "b", 5, 2.0, 1.6, 2.5, 0.95, 0.001, 0.1, "faster"
)


def measured(kind: str) -> list[TestRecord]:
    return [record for record in sample.results(kind) if record.measurements]


def section(records: list[TestRecord]) -> Markup:
    made = throughput.section(records)
    assert made is not None
    return made


def tree_of(markup: str) -> Any:
    return html.fragment_fromstring(markup)


# The section


def test_a_run_without_figures_has_no_section() -> None:
    assert throughput.section([record_of("passed", "NET-1")]) is None
    assert throughput.section([]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_chart_is_well_formed_and_told_to_those_who_do_not_see_it(kind: str) -> None:
    text = section(measured(kind))
    charts = re.findall(r'<svg class="chart".*?</svg>(?=</figure>|</div>|<table)', text, re.DOTALL)
    assert len(charts) >= 7
    for one in charts:
        root = etree.fromstring(one)
        ids = {str(found) for found in root.xpath("//@id")}
        assert set(root.get("aria-labelledby", "").split()) == ids
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert all(child.text for child in root[:2])
        assert {"circle", "path"} & {child.tag for child in root.iter()}
        assert len(one) < 16_000
    assert len(text) < 60_000 * len(measured(kind))


def test_a_chart_that_is_cut_is_seen() -> None:
    made = chart.svg("c", "title", "desc", 20, chart.dot(1, 2, 3, "session"))
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(made.removesuffix("</svg>"))


def numbers_of(record: TestRecord) -> set[float]:
    """Every number that a table may tell of a record."""
    series = [end for one in series_of(record) for end in (one.centre, one.low, one.high)]
    compared = [end for one in comparisons_of(record) for end in (one.ratio, one.low, one.high)]
    values = [one["value"] for one in record.measurements]
    return {number for number in (*series, *compared, *values) if number is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_in_the_tables_is_the_records(kind: str) -> None:
    for record in measured(kind):
        tree = tree_of(section([record]))
        told = tree.xpath("//table//data")
        assert {float(one.get("value")) for one in told} == numbers_of(record)
        for one in told:
            exact, said = float(one.get("value")), one.text.replace(NARROW, "").split()[0]
            shown = float(said)
            scale = exact / shown
            # What is told is the number to three digits, by one of the factors of a unit.
            factors = (1, 1e3, 1e6, 1e9, 2**10, 2**20, 2**30, 2**-30, 1e-3, 1e-6, 1e-9, 0.01)
            assert min(abs(scale / factor - 1) for factor in factors) < 0.006, (exact, one.text)


def test_a_number_that_is_not_the_records_is_seen() -> None:
    (record, *_) = measured("good")
    first = {**record.measurements[0], "value": record.measurements[0]["value"] * 1.5}
    bent = replace(record, measurements=[first, *record.measurements[1:]])
    told = tree_of(section([bent])).xpath("//table//data")
    assert {float(one.get("value")) for one in told} != numbers_of(record)


def test_each_verdict_is_told_by_word_shape_and_colour() -> None:
    looks = set()
    for verdict in ("faster", "not shown", "regression", "no difference"):
        (figure,) = forest.forests([replace(FOUND, verdict=verdict)], "c")
        tree = tree_of(figure)
        (path,) = tree.xpath("//svg//path")
        (word,) = tree.xpath("//svg/text[contains(@class, 'said')]/text()")
        assert word == verdict
        assert verdict in tree.xpath("string(//table)")
        assert word in tree.xpath("string(//desc)")
        looks.add((path.get("d"), path.get("class")))
    assert len(looks) == 4


def test_what_is_better_low_has_a_plot_of_its_own_which_says_so() -> None:
    cost = replace(FOUND, name="tcp.cpu", unit="s/B", better="lower", ratio=0.5, low=0.4, high=0.6)
    figures = forest.forests([FOUND, cost], "c")
    said = [tree_of(one).xpath("string(figcaption)") for one in figures]
    assert ["right of 1" in said[0], "left of 1" in said[1]] == [True, True]
    assert "cheaper" in figures[1]


def test_the_claims_come_first_and_a_floor_is_marked() -> None:
    whole = replace(FOUND, name="into the guest", unit="1", floor=1.5)
    (figure,) = forest.forests([FOUND, whole], "c")
    tree = tree_of(figure)
    assert tree.xpath("//tbody/tr[1]/th/text()")[0].startswith("into the guest")
    assert len(tree.xpath("//svg/line[@class='floor']")) == 1
    assert "floor 1.5" in tree.xpath("string(//table)")


def test_two_blocks_reach_to_anywhere_and_the_plot_stays_of_use() -> None:
    wide = replace(FOUND, low=2e-9, high=5e12)
    (figure,) = forest.forests([FOUND, wide], "c")
    paths = tree_of(figure).xpath("//svg//path/@d")
    assert chart.SHAPES["left"] in paths
    assert chart.SHAPES["right"] in paths
    none = replace(FOUND, low=None, high=None, p=None, spread=None, n=1)
    (figure,) = forest.forests([none], "c")
    assert "too few blocks for an interval" in figure


def test_quick_figures_are_marked() -> None:
    assert "not for figures to quote" in section(measured("good"))
    assert "not for figures to quote" not in section(measured("bad"))
    profiles = tree_of(section(measured("good"))).xpath("//td[2]/small/text()")
    assert profiles
    assert set(profiles) == {"quick"}


def test_one_session_alone_has_a_place_too() -> None:
    (record, *_) = measured("good")
    alone = replace(record, measurements=record.measurements[:1], comparisons=[])
    assert "too few sessions for an interval" in section([alone])
    only = replace(record, measurements=[])
    assert "<svg" in section([only])


def test_a_fraction_may_be_zero() -> None:
    (record, *_) = measured("good")
    lost = {**record.measurements[0], "unit": "1", "better": "lower", "value": 0.0, "name": "loss"}
    found = replace(record, measurements=[lost, {**lost, "block": 1}], comparisons=[])
    assert "loss" in section([found])
    assert centre_of([0.0, 0.0], "1") == (0.0, 0.0, 0.0)


def test_nothing_in_a_chart_can_become_markup() -> None:
    text = section(measured("hostile"))
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("&lt;script&gt;") > 50
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


# The series


def test_the_ratio_of_two_centres_is_the_comparisons() -> None:
    for record in measured("good"):
        centres = {(one.name, one.side): one.centre for one in series_of(record)}
        singles = [one for one in comparisons_of(record) if not is_claim(one)]
        assert singles
        for one in singles:
            found = centres[one.name, one.b] / centres[one.name, one.a]
            assert found == pytest.approx(one.ratio)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance, held = random.Random(11), 0
    for _ in range(800):
        values = [100 * math.exp(chance.gauss(0, 0.1)) for _ in range(5)]
        _, low, high = centre_of(values, "bit/s")
        assert low is not None
        assert high is not None
        held += low <= 100 <= high
    assert 0.93 < held / 800 < 0.97


def test_a_control_is_a_series_of_its_own() -> None:
    (record, *_) = measured("good")
    frozen = [{**one, "role": "control"} for one in record.measurements]
    series = series_of(replace(record, measurements=[*record.measurements, *frozen]))
    assert len(series) == 2 * len(series_of(record))
    assert {one.whose for one in series if one.role == "control"} == {
        "rtl8139 (control)",
        "virtio (control)",
    }


# The chart's parts


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 42, [0, 10, 20, 30, 40]),
        (-4.05, 4.05, [-4, -2, 0, 2, 4]),
        (0.9, 1.1, [0.9, 0.95, 1, 1.05, 1.1]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_nice(low: float, high: float, ticks: list[float]) -> None:
    assert chart.nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.8, 9, [1, 2, 5]),
        (0.5, 2000, [1, 10, 100, 1000]),
        (0.93, 1.07, [0.95, 1, 1.05]),
        (0.09, 1.1, [0.1, 0.2, 0.5, 1]),
    ],
)
def test_ticks_of_a_logarithmic_scale_are_nice(low: float, high: float, ticks: list[float]) -> None:
    assert chart.log_ticks(low, high) == pytest.approx(ticks)


def test_there_are_always_some_ticks_and_never_too_many() -> None:
    chance = random.Random(5)
    for _ in range(500):
        low = 10 ** chance.uniform(-9, 9)
        high = low * 10 ** chance.uniform(0.01, 6)
        for ticks in (chart.nice_ticks(low, high), chart.log_ticks(low, high)):
            assert 2 <= len(ticks) <= 8
            assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)
        scale, ticks = chart.from_zero(high)
        assert scale.high >= high * 0.999
        assert 2 <= len(ticks) <= 7


def test_a_scale_goes_from_margin_to_margin_and_no_further() -> None:
    even, log = chart.Scale(0, 10), chart.Scale(0.1, 10, log=True)
    assert [even(0), even(5), even(10)] == pytest.approx([chart.MARGIN, 50, 100 - chart.MARGIN])
    assert log(1) == pytest.approx(50)
    assert [even(99), log(0)] == pytest.approx([100 - chart.MARGIN, chart.MARGIN])
    assert chart.Scale(3, 3)(3) == 50
    assert [even.holds(10), even.holds(11)] == [True, False]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (1.24e9, "bit/s", "1.24 Gbit/s"),
        (940_400_000, "bit/s", "940 Mbit/s"),
        (92.4 * 2**20, "B/s", "92.4 MiB/s"),
        (12_412, "1/s", f"12{NARROW}400 IOPS"),
        (9812, "1/s", "9810 IOPS"),
        (41e-6, "s", "41.0 \N{MICRO SIGN}s"),
        (8.2 / 2**30, "s/B", "8.20 s/GiB"),
        (0.0012, "1", "0.120 %"),
        (0, "1", "0 %"),
    ],
)
def test_units_are_humane(value: float, unit: str, said: str) -> None:
    assert told_in(unit, value)(value) == said


def test_numbers_have_the_digits_that_they_are_given() -> None:
    assert [significant(n) for n in (0.04123, 1, 9.999, 999.6, 2e12)] == [
        "0.0412",
        "1.00",
        "10.0",
        "1000",
        "2.00e+12",
    ]
    assert [ratio(n) for n in (0.996, 1.04, 5.24, 118.0)] == ["1.00", "1.04", "5.2", "120"]
    assert percent(0.0123) == "1.2 %"
    assert chart.tick_label(15000) == f"15{NARROW}000"


# The terminal, JUnit


def terminal(kind: str, width: int, encoding: str = "utf-8") -> list[str]:
    records = sample.results(kind)
    return summary_lines(sample.run(kind, records), records, width, encoding=encoding)


def test_the_terminal_tells_the_claims_ratios() -> None:
    lines = terminal("good", 96)
    (nic,) = [line for line in lines if line.startswith("  virtio / rtl8139: ")]
    assert re.fullmatch(
        r"  virtio / rtl8139: 5\.\d x into the guest \(5\.\d to 6\.\d\), "
        r"8\.\d x out of the guest \(7\.\d to [\d.]+\)",
        nic,
    )
    assert not any("tcp-to-guest" in line for line in lines)


def test_the_terminal_tells_what_was_not_shown() -> None:
    text = " ".join(" ".join(terminal("bad", 80)).split())
    assert re.search(r"x writing \([\d.]+ to [\d.]+, not shown\)", text)
    assert "virtio / rtl8139: " in text
    assert "virtio / e1000: " in text


def test_sides_that_were_compared_have_lines_of_their_own() -> None:
    lines = terminal("compare", 96)
    assert "slower than A in tcp-to-guest" in lines[0]
    assert not any("6.12.9 / 6.1" in line for line in lines[:8])


def test_the_page_of_a_comparison_is_headed_by_what_it_found(tmp_path: Path) -> None:
    text = sample.write(tmp_path, "compare").read_text(encoding="utf-8")
    tree = html.document_fromstring(text)
    said = tree.xpath("string(//h1)")
    assert said.startswith("B is slower than A in tcp-to-guest")
    assert said in tree.xpath("string(//title)")
    assert "B is 6.12.9, A is 6.1.0-28" in tree.xpath("string(//header)")
    assert tree.xpath("//header//span[@class='badge failed']/text()") == ["regression"]
    assert not tree.xpath("//section[@id='claims']")
    assert "conform" not in tree.xpath("string(//header)")


def test_sides_have_one_order_whatever_turn_they_had() -> None:
    (record, *_) = measured("bad")
    turned = replace(record, measurements=record.measurements[::-1])
    for one in (record, turned):
        assert [*dict.fromkeys(s.side for s in series_of(one))] == ["rtl8139", "e1000", "virtio"]


@pytest.mark.parametrize("width", [10, 20, 40, 80])
@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_terminal_wraps_the_ratios(kind: str, width: int) -> None:
    lines = terminal(kind, width, "ascii")
    assert all(line.isascii() for line in lines)
    assert all(len(line) <= width for line in lines if not line.startswith("x test_"))


def test_junit_has_each_figure_and_each_comparison() -> None:
    (record, *_) = measured("good")
    found = dict(properties(record))
    assert re.fullmatch(
        r"1\.0\d Gbit/s \(0\.\d+ to 1\.\d+\), 4 sessions, quick", found["tcp-to-guest virtio"]
    )
    said = found["tcp-to-guest virtio / rtl8139"]
    assert re.fullmatch(r"5\.\d\d x \(5\.\d\d to 6\.\d\d\), faster", said)
    assert "into the guest virtio / rtl8139" in found
    for name, value in properties(measured("hostile")[0]):
        etree.fromstring(f"<property name={quoteattr(name)} value={quoteattr(value)}/>")
        assert len(value) < 400


def test_the_sample_is_what_the_schema_wants(tmp_path: Path) -> None:
    sample.write(tmp_path, "bad")
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sum(bool(json.loads(line)["comparisons"]) for line in lines) == 2


def test_a_series_tells_its_variation() -> None:
    series: Series = series_of(measured("good")[0])[0]
    assert series.variation is not None
    assert 0 < series.variation < 0.2
    assert replace(series, values=(1.0,)).variation is None

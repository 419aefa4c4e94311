"""Exports: each is taken by its consumer's own schema or parser, and what is bent is refused."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import kcidb_io
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from test_report import record_of, sample
from virtproof import cli
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.series import comparisons_of, series_of
from virtproof.measure.store import ResultsWriter, write_run
from virtproof.report.export import otava
from virtproof.report.export.bencher import MEASURES, bencher
from virtproof.report.export.commands import FORMATS
from virtproof.report.export.github import github
from virtproof.report.export.kcidb import kcidb
from virtproof.report.export.named import named_comparisons, named_series
from virtproof.report.export.openmetrics import openmetrics

sys.path.append(str(Path(__file__).parent / "data" / "report"))
import sample_matrix as matrix  # it lies there

KINDS = ("good", "bad", "hostile", "compare")
# As bencher.dev publishes it.
BMF = {
    "$schema": "http://json-schema.org/draft-07/schema",
    "type": "object",
    "patternProperties": {
        ".+": {
            "type": "object",
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "properties": {
                        "value": {"type": "number"},
                        "lower_value": {"type": "number"},
                        "upper_value": {"type": "number"},
                    },
                    "required": ["value"],
                }
            },
        }
    },
}
# What github-action-benchmark reads of an entry; it throws where the array is empty.
GITHUB = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}


def records_of(kind: str) -> list[TestRecord]:
    records: list[TestRecord] = sample.results(kind)
    return records


def run_of(kind: str) -> RunRecord:
    run: RunRecord = sample.run(kind, records_of(kind))
    return run


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def strings_of(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [text for pair in found.items() for part in pair for text in strings_of(part)]
    if isinstance(found, list):
        return [text for part in found for text in strings_of(part)]
    return [found] if isinstance(found, str) else []


# Bencher


def test_bencher_takes_it(kind: str) -> None:
    found = json.loads(bencher(run_of(kind), records_of(kind)))
    jsonschema.Draft7Validator(BMF).validate(found)
    assert len(found) >= 8
    for name, measures in found.items():
        assert 0 < len(name) <= 1024
        for measure, metric in measures.items():
            assert re.fullmatch("[a-z][a-z-]{0,63}", measure)
            assert metric["lower_value"] <= metric["value"] <= metric["upper_value"]


def test_bencher_has_the_records_figures() -> None:
    records = records_of("good")
    found = json.loads(bencher(run_of("good"), records))
    for record in records:
        for one in series_of(record):
            metric = found[f"debian-12 {one.name} {one.side}"][MEASURES[one.unit]]
            assert metric == {"value": one.centre, "lower_value": one.low, "upper_value": one.high}
        for pair in comparisons_of(record):
            (metric,) = found[f"debian-12 {pair.name} {pair.b} / {pair.a}"].values()
            assert metric["value"] == pair.ratio


def test_a_bent_bencher_file_is_refused() -> None:
    found = json.loads(bencher(run_of("good"), records_of("good")))
    for metric in next(iter(found.values())).values():
        metric["value"] = "fast"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(BMF).validate(found)


# github-action-benchmark


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_github_takes_it(kind: str, better: Any) -> None:
    found = json.loads(github(records_of(kind), better))
    jsonschema.Draft7Validator(GITHUB).validate(found)
    names = [one["name"] for one in found]
    assert len(names) == len(set(names))
    assert all(".cpu" in name for name in names) is (better == "lower")


def test_each_figure_is_in_one_of_githubs_files() -> None:
    records = records_of("bad")
    names = [one["name"] for b in ("higher", "lower") for one in json.loads(github(records, b))]
    assert sorted(names) == sorted([*named_series(records), *named_comparisons(records)])


@pytest.mark.parametrize("bent", [[], [{"name": "a", "unit": "x"}], [{"name": "a", "value": 1}]])
def test_a_bent_github_file_is_refused(bent: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(GITHUB).validate(bent)


# KCIDB


def kcidb_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kcidb(run_of(kind), records_of(kind), "virtproof"))
    return found


def test_kcidb_takes_it(kind: str) -> None:
    found = kcidb_of(kind)
    kcidb_io.schema.V5_3.validate(found)
    assert kcidb_io.schema.V5_3.is_compatible_directly(found)
    for parents, children, key in (
        ("checkouts", "builds", "checkout_id"),
        ("builds", "tests", "build_id"),
    ):
        ids = [one["id"] for one in found[parents]]
        assert {one[key] for one in found[children]} <= set(ids)
        assert len(ids) == len(set(ids))
    ids = [one["id"] for one in found["tests"]]
    assert len(ids) == len(set(ids))


def test_kcidb_is_told_what_the_records_say() -> None:
    records = records_of("bad")
    tests = kcidb_of("bad")["tests"]
    whole = [one for one in tests if "number" not in one]
    figures = [one for one in tests if "number" in one]
    words = {"passed": "PASS", "failed": "FAIL", "error": "ERROR", "skipped": "SKIP"}
    assert [one["status"] for one in whole] == [words[record.outcome] for record in records]
    assert {one["status"] for one in figures} == {"DONE"}
    wanted = [s.centre for r in records for s in series_of(r)]
    wanted += [c.ratio for r in records for c in comparisons_of(r)]
    assert sorted(one["number"]["value"] for one in figures) == sorted(wanted)
    paths = [one["path"] for one in whole]
    assert "virtproof.network.test_mtu.test_payload_passes.576-to-guest" in paths


def test_kcidb_has_a_build_a_kernel_and_a_path_a_check() -> None:
    records = matrix.results()
    found = json.loads(kcidb(matrix.run(records), records, "virtproof"))
    kcidb_io.schema.V5_3.validate(found)
    builds = {one["id"]: one for one in found["builds"]}
    assert len(builds) == len(matrix.systems())  # cells without a guest are of their image's kernel
    assert {one["config_name"] for one in builds.values()} == {"default", "cloud", "rt"}
    tests = [one for one in found["tests"] if one["path"] == "virtproof.matrix.nic.rtl8139"]
    assert len(tests) == len(builds)
    for one in tests:
        cloud = builds[one["build_id"]]["config_name"] == "cloud"
        assert one["status"] == ("SKIP" if cloud else "PASS")
        assert one["misc"]["verdict"] == ("not-supported" if cloud else "works")
    switched = [
        one for one in found["tests"] if one["path"] == "virtproof.matrix.root.ide-to-virtio"
    ]
    assert [one["status"] for one in switched].count("FAIL") == 1
    assert switched[0]["misc"]["features"]["virtio_net"][0] == "NET_F_CSUM"
    assert len({one["id"] for one in found["tests"]}) == len(found["tests"])


def test_an_origin_and_a_run_make_ids_of_their_own() -> None:
    records, run = records_of("good"), run_of("good")
    later = replace(run, start="2025-01-16T09:12:04Z")
    made = [
        json.loads(kcidb(this, records, origin))["tests"][0]["id"]
        for this, origin in ((run, "a"), (run, "b"), (later, "a"))
    ]
    assert len(set(made)) == 3
    assert made[0].startswith("a:")


@pytest.mark.parametrize(
    "bend",
    [
        lambda found: found["tests"][0].update(status="passed"),
        lambda found: found["tests"][0].update(path="a b"),
        lambda found: found["builds"][0].pop("checkout_id"),
        lambda found: found["tests"][0].update(log_excerpt=None),
        lambda found: found.update(version={"major": 5, "minor": 9}),
    ],
)
def test_a_bent_kcidb_file_is_refused(bend: Callable[[dict[str, Any]], object]) -> None:
    found = copy.deepcopy(kcidb_of("good"))
    bend(found)
    with pytest.raises(jsonschema.ValidationError):
        kcidb_io.schema.V5_3.validate(found)


# OpenMetrics


def families_of(text: str) -> dict[str, Any]:
    return {one.name: one for one in text_string_to_metric_families(text)}


def test_openmetrics_takes_it(kind: str) -> None:
    found = families_of(openmetrics(run_of(kind), records_of(kind)))
    assert found["virtproof_cpu_seconds_per_byte"].unit == "seconds_per_byte"
    assert found["virtproof_comparison_ratio"].samples
    said = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in found.values()
        for sample in family.samples
    ]
    assert len(said) == len(set(said))


def test_openmetrics_has_the_records_figures() -> None:
    records = records_of("good")
    found = families_of(openmetrics(run_of("good"), records))
    rates = {
        (one.labels["figure"], one.labels["side"], one.labels["bound"]): one.value
        for one in found["virtproof_rate_bits_per_second"].samples
    }
    flows = [one for record in records for one in series_of(record) if one.unit == "bit/s"]
    assert len(rates) == 3 * len(flows)
    for one in flows:
        assert rates[one.name, one.side, "centre"] == one.centre
        assert rates[one.name, one.side, "lower"] == one.low
    outcomes = {one.labels["outcome"]: one.value for one in found["virtproof_tests"].samples}
    assert outcomes == run_of("good").counts


def test_labels_survive_whatever_is_in_them() -> None:
    nasty = 'a"b\\nc\nd,e="f"}\\'
    (record, *_) = [one for one in records_of("good") if one.measurements]
    bent = replace(record, measurements=[{**record.measurements[0], "side": nasty}], comparisons=[])
    found = families_of(openmetrics(run_of("good"), [bent]))
    sides = {one.labels["side"] for one in found["virtproof_rate_bits_per_second"].samples}
    assert sides == {'a"b\\nc d,e="f"}\\'}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("# EOF\n", ""),
        ('"virtio"', '"virtio'),
        (
            "UNIT virtproof_rate_bits_per_second bits_per_second",
            "UNIT virtproof_rate_bits_per_second s",
        ),
        ("# TYPE virtproof_sessions gauge", "# TYPE virtproof_sessions meter"),
    ],
)
def test_bent_openmetrics_is_refused(right: str, wrong: str) -> None:
    text = openmetrics(run_of("good"), records_of("good"))
    assert right in text
    with pytest.raises(ValueError):  # noqa: PT011 # the parser's messages are its own
        families_of(text.replace(right, wrong, 1))


# Otava


def imported(text: str, metrics: list[str], attributes: list[str]) -> dict[str, list[Any]]:
    """As Otava's csv importer reads a file: columns by the header, ISO time, a number in every row."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=",", quotechar='"')
    headers = next(rows)
    columns = {name: headers.index(name) for name in ("time", *metrics, *attributes)}
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        if len(row) < len(headers):
            raise ValueError(f"too few values: {row}")
        for name, place in columns.items():
            convert = datetime.fromisoformat if name == "time" else float
            found[name].append(row[place] if name in attributes else convert(row[place]))
    return found


def otava_of(*kinds: str) -> str:
    return otava.otava([(run_of(kind), records_of(kind)) for kind in kinds])


def test_otava_takes_it(kind: str) -> None:
    records = records_of(kind)
    metrics = [*named_series(records), *named_comparisons(records)]
    found = imported(otava_of(kind), metrics, ["qemu", "accelerator", "guest_kernel"])
    assert all(len(column) == 1 for column in found.values())
    assert found["qemu"] == ["7.2.15"]
    assert found["time"][0].tzinfo is not None
    for name, one in named_series(records).items():
        assert found[name] == [one.centre]


def test_runs_are_rows_by_their_time_with_what_all_of_them_have() -> None:
    early, late = run_of("good"), replace(run_of("bad"), start="2025-03-01T00:00:00+01:00")
    runs = [(late, records_of("bad")), (early, records_of("good"))]
    found = imported(otava.otava(runs), ["debian-12 tcp-to-guest virtio"], [])
    assert found["time"] == sorted(found["time"])
    assert len(found["debian-12 tcp-to-guest virtio"]) == 2
    assert otava.left_out(runs)
    assert all("e1000" in name for name in otava.left_out(runs))


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [("time,", "when,", "when|time"), ("2025-01-15T", "15.1.2025 ", "isoformat|format")],
)
def test_a_bent_otava_file_is_refused(right: str, wrong: str, error: str) -> None:
    text = otava_of("good")
    with pytest.raises(ValueError, match=error):
        imported(text.replace(right, wrong, 1), ["debian-12 tcp-to-guest virtio"], [])
    with pytest.raises(ValueError, match="too few"):
        imported(text.rsplit(",", 1)[0] + "\n", ["debian-12 tcp-to-guest virtio"], [])


# Names


def test_names_are_unique_whatever_measured() -> None:
    (record, *_) = [one for one in records_of("good") if one.measurements]
    twice = [record, record, replace(record, test="suites/other.py::test_other")]
    names = named_series(twice)
    assert len(names) == 3 * len(series_of(record))
    assert "debian-12 tcp-to-guest virtio (test_other)" in names


def test_nothing_that_a_guest_said_is_a_control_character() -> None:
    records, run = records_of("hostile"), run_of("hostile")
    texts = [openmetrics(run, records), otava.otava([(run, records)])]
    for made in (bencher(run, records), github(records, "higher"), kcidb(run, records, "v")):
        texts += strings_of(json.loads(made))
    assert not any(re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text) for text in texts)


# The command


@pytest.fixture
def out(tmp_path: Path) -> Path:
    records = records_of("good")
    with ResultsWriter(tmp_path / "out" / "results.jsonl") as writer:
        for record in records:
            writer.write(record)
    write_run(tmp_path / "out" / "run.json", run_of("good"))
    return tmp_path / "out"


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "github-action-benchmark"])
def test_an_export_goes_to_the_terminal_or_a_file(
    name: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", name, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert cli.main(["export", name, "--out", str(out), "-o", str(out / "new" / "file")]) == 0
    assert (out / "new" / "file").read_text(encoding="utf-8") == said
    assert len(said) > 1000


def test_the_default_is_the_directory_that_a_run_takes(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(out.parent)
    assert cli.main(["export", "bencher"]) == 0
    assert "tcp-to-guest" in capsys.readouterr().out


def test_github_gets_two_files(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "github-action-benchmark", "--out", str(out), "-o", str(out / "g.json")]
    assert cli.main(command) == 0
    for word in ("bigger", "smaller"):
        jsonschema.validate(json.loads((out / f"g-{word}.json").read_text()), GITHUB)
    assert "g-bigger.json: tool customBiggerIsBetter" in capsys.readouterr().out


def test_of_several_runs_otava_has_a_row_each(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "otava", "--out", str(out), "--out", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["bensher"], 2, "no format is called 'bensher' (did you mean bencher?)"),
        (["xml"], 2, "one of: bencher, github-action-benchmark"),
        (["kcidb", "--origin", "My CI"], 2, "no origin"),
        (["bencher", "--out", "a", "--out", "b"], 2, "takes one run"),
        (["bencher", "--out", "nowhere"], 1, "nowhere has no results.jsonl"),
        (["bencher", "--out", "empty"], 1, "has no tests"),
        (["bencher", "--out", "idle"], 1, "nothing was measured in idle"),
        (["bencher", "--out", "torn"], 1, "cannot read torn/run.json"),
        (["bencher", "-o", "out/run.json/x"], 1, "cannot write out/run.json/x"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    status: int,
    said: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(out.parent)
    for name, records in (("empty", []), ("idle", [record_of("passed", "NET-1")]), ("torn", [])):
        with ResultsWriter(Path(name, "results.jsonl")) as writer:
            for record in records:
                writer.write(record)
        if name != "torn":
            write_run(Path(name, "run.json"), run_of("good"))
    assert cli.main(["export", *arguments]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_kcidb_takes_a_run_that_measured_nothing(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ResultsWriter(out / "results.jsonl") as writer:
        writer.write(record_of("passed", "NET-1"))
    assert cli.main(["export", "kcidb", "--out", str(out)]) == 0
    kcidb_io.schema.V5_3.validate(json.loads(capsys.readouterr().out))


def test_help_lists_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in FORMATS)


def test_the_command_line_is_made_without_what_an_export_needs() -> None:
    """The doctor has the same, and must run before anything is installed."""
    script = "import sys, virtproof.cli as c; c._parser(); print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"

"""The results store: what is written is read back alike, and nothing damaged is read at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from virtproof.diagnose.evidence import NAMES
from virtproof.errors import VirtproofError
from virtproof.measure.measurement import Comparison, Measurement
from virtproof.measure.results import CompatRecord, GuestRecord, RunRecord, TestRecord
from virtproof.measure.store import (
    ResultsWriter,
    clean_line,
    clean_text,
    load_schema,
    read_results,
    read_run,
    write_run,
)

GUEST = GuestRecord("debian-12", "Debian 12", "6.1", "pc", "bios", "ide", None, "tcg", 1, 768)
FIGURE = Measurement(
    "read-4k",
    "1/s",
    "higher",
    4155.5,
    [4000.0, 4311.0],
    "ide",
    0,
    1,
    "2025-01-15T09:12:04+00:00",
    {"tool": "fio", "version": "3.33", "bs": "4k"},
    {"image": "debian-12"},
).as_dict()
COMPARISON = Comparison(
    "read-4k", "1/s", "higher", "ide", "virtio", 5, 2.1, 1.9, 2.3, 0.95, 1e-4, 0.03, "faster", 1.0
).as_dict()
RECORD = TestRecord(
    "suites/test_a.py::test_b[ide]",
    "failed",
    "it broke\nthere",
    ["DISK-3", "DISK-5"],
    GUEST,
    {"name": "boot-hang", "line": "last line", "source": "console.log:7"},
    [FIGURE],
    1.25,
    "evidence/test_b",
    [COMPARISON],
    CompatRecord(
        "root/ide-to-virtio",
        "broken",
        "it broke there",
        {"virtio_blk": ["BLK_F_FLUSH", "F_VERSION_1"]},
    ),
)
RUN = RunRecord(
    {"virtproof": "0.1.0", "python": "3.11", "pytest": "8.3", "libvirt": "9.0", "qemu": "7.2"},
    {"name": "tcg", "why": "no /dev/kvm"},
    {"kernel": "6.1", "distribution": "Debian", "cpus": 2, "memory_mib": 4000, "cpu_model": "x"},
    ["pytest", "suites"],
    "2025-01-15T09:12:04Z",
    "2025-01-15T09:19:37.25+00:00",
    {"passed": 0, "failed": 1, "skipped": 0, "error": 0},
    1,
    {"guests": 2.5},
)


def written(path: Path, *records: TestRecord) -> Path:
    with ResultsWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    plain = TestRecord("t", "passed", None, [], None, None, [], 0, None)
    path = written(tmp_path / "new" / "results.jsonl", RECORD, plain)
    assert read_results(path) == [RECORD, plain]
    assert path.read_bytes().count(b"\n") == 2


def test_results_of_an_older_run_are_still_read(tmp_path: Path) -> None:
    """A line from before cells, and before a guest told its virtio mode."""
    path = tmp_path / "results.jsonl"
    record = RECORD.as_dict()
    del record["compat"]
    for name in ("virtio", "packed", "queues", "kernel_under_test"):
        del record["guest"][name]
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert read_results(path) == [replace(RECORD, compat=None)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"check": "nic"}, "compat/check: 'nic' does not match"),
        ({"check": "../x/y"}, "compat/check: '../x/y' does not match"),
        ({"verdict": "fine"}, "compat/verdict: 'fine' is not one of"),
        ({"features": {"virtio_net": "NET_F_MAC"}}, "compat/features/virtio_net: "),
    ],
)
def test_a_cell_that_nobody_could_place_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "results.jsonl"
    record = RECORD.as_dict()
    record["compat"] = {**record["compat"], **change}
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(VirtproofError, match="line 1") as caught:
        read_results(path)
    assert said in str(caught.value)


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    write_run(tmp_path / "run.json", RUN)
    assert read_run(tmp_path / "run.json") == RUN
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_new_run_replaces_the_results_of_the_last(tmp_path: Path) -> None:
    path = written(tmp_path / "results.jsonl", RECORD, RECORD)
    assert len(read_results(written(path, RECORD))) == 1


def test_no_tests_are_no_fault(tmp_path: Path) -> None:
    assert read_results(written(tmp_path / "results.jsonl")) == []


def test_each_line_is_on_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsWriter(path) as writer:
        writer.write(RECORD)
        assert read_results(path) == [RECORD]


def test_a_killed_run_loses_nothing_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from virtproof.measure.results import TestRecord\n"
        "from virtproof.measure.store import ResultsWriter\n"
        "with ResultsWriter(Path(sys.argv[1])) as writer:\n"
        "    for number in range(3):\n"
        "        record = TestRecord(f't{number}', 'passed', None, [], None, None, [], 0, None)\n"
        "        writer.write(record)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [record.test for record in read_results(path)] == ["t0", "t1", "t2"]


@contextmanager
def small_files() -> Iterator[None]:
    """A limit of 2000 bytes a file, as of a disk that is full.

    For a block, never for a whole test: pytest's own output may be a file and would meet it too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with small_files(), ResultsWriter(path) as writer:
        writer.write(RECORD)
        with pytest.raises(VirtproofError, match=rf"cannot write .*{os.strerror(errno.EFBIG)}"):
            writer.write(replace(RECORD, reason="x" * 4000))
        writer.write(RECORD)
    assert read_results(path) == [RECORD, RECORD]


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run(path, RUN)
    with small_files(), pytest.raises(VirtproofError, match="cannot write"):
        write_run(path, replace(RUN, command_line=["x" * 4000]))
    assert read_run(path) == RUN
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_written(tmp_path: Path, number: float) -> None:
    bad = replace(RECORD, measurements=[{**FIGURE, "value": number}])
    with pytest.raises(VirtproofError, match="cannot be stored"):
        written(tmp_path / "results.jsonl", bad)
    with pytest.raises(VirtproofError, match="cannot be stored"):
        write_run(tmp_path / "run.json", replace(RUN, timings={"guests": number}))
    assert not (tmp_path / "run.json").exists()


FAULTS: dict[str, dict[str, Any]] = {
    "outcome": {"outcome": "xpassed"},
    "no reason": {"outcome": "skipped", "reason": None},
    "claim": {"claims": ["net2"]},
    "diagnosis": {"diagnosis": {"name": "gremlins", "line": "", "source": ""}},
    "duration": {"duration_s": -1},
    "absolute evidence": {"evidence": "/etc"},
    "evidence above": {"evidence": "evidence/../../x"},
    "no unit": {"measurements": [{k: v for k, v in FIGURE.items() if k != "unit"}]},
    "other unit": {"measurements": [{**FIGURE, "unit": "MB/s"}]},
    "no value": {"measurements": [{**FIGURE, "value": -1}]},
    "verdict": {"comparisons": [{**COMPARISON, "verdict": "slower"}]},
    "interval": {"comparisons": [{**COMPARISON, "low": "1.9"}]},
}


@pytest.mark.parametrize("changes", FAULTS.values(), ids=FAULTS)
def test_a_record_against_the_schema_is_not_written(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(VirtproofError, match="the record of .* cannot be stored"):
        written(tmp_path / "results.jsonl", replace(RECORD, **changes))


def damaged(line: dict[str, Any]) -> dict[str, bytes]:
    whole = json.dumps(line).encode()
    newer = json.dumps({**line, "mood": "good"}).encode()
    missing = json.dumps(
        {k: v for k, v in line.items() if k not in ("evidence", "timings")}
    ).encode()
    return {
        "truncated": whole[:-20],
        "other version": newer,
        "older version": missing,
        "foreign": b'{"name": "something else"}',
        "list": b"[1, 2]",
        "NaN": whole.replace(b"1.25", b"NaN").replace(b"2.5", b"NaN"),
        "too large a number": whole.replace(b"1.25", b"1e999").replace(b"2.5", b"1e999"),
        "not UTF-8": b"\xff\xfe\x00",
        "too deep": b"[" * 100_000,
        "blank": b" ",
    }


@pytest.mark.parametrize("kind", damaged(RECORD.as_dict()))
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "results.jsonl", RECORD)
    path.write_bytes(path.read_bytes() + damaged(RECORD.as_dict())[kind])
    with pytest.raises(VirtproofError) as caught:
        read_results(path)
    assert f"{path}, line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", damaged(RUN.as_dict()))
def test_a_damaged_run_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(damaged(RUN.as_dict())[kind])
    with pytest.raises(VirtproofError) as caught:
        read_run(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_run_names_its_line(tmp_path: Path) -> None:
    write_run(tmp_path / "run.json", RUN)
    lines = (tmp_path / "run.json").read_text().splitlines()
    (tmp_path / "run.json").write_text("\n".join(lines[:5]))
    with pytest.raises(VirtproofError, match="line 5"):
        read_run(tmp_path / "run.json")


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(VirtproofError, match=r"cannot read .*results\.jsonl: No such file"):
        read_results(tmp_path / "results.jsonl")
    with pytest.raises(VirtproofError, match=r"cannot read .*run\.json"):
        read_run(tmp_path / "run.json")


def test_an_out_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(VirtproofError, match=r"cannot write .*--out"):
        written(tmp_path / "out" / "results.jsonl")


@pytest.mark.parametrize("name", ["results", "run"])
def test_the_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema(name))


# What came later, and what an older run need not have.
LATER: dict[type, tuple[str, ...]] = {
    TestRecord: ("compat",),
    RunRecord: ("shard", "shards"),
    GuestRecord: ("virtio", "packed", "queues", "kernel_under_test"),
    CompatRecord: ("image", "kernel"),
}


def test_the_schemas_have_the_records_fields_and_no_others() -> None:
    results, run = load_schema("results"), load_schema("run")
    guest, diagnosis = results["$defs"]["guest"], results["$defs"]["diagnosis"]
    figure, comparison = results["$defs"]["measurement"], results["$defs"]["comparison"]
    compat = results["$defs"]["compat"]
    throughput = ((figure, Measurement), (comparison, Comparison))
    records = ((results, TestRecord), (run, RunRecord), (guest, GuestRecord), *throughput)
    for schema, record in (*records, (compat, CompatRecord)):
        fields = [field.name for field in dataclasses.fields(record)]
        assert list(schema["properties"]) == fields
        assert schema["required"] == [name for name in fields if name not in LATER.get(record, ())]
        assert schema["additionalProperties"] is False
    assert tuple(diagnosis["properties"]["name"]["enum"]) == NAMES
    assert diagnosis["additionalProperties"] is False


HOSTILE = {
    "colour": ("\x1b[1;31mred\x1b[0m", "red"),
    "title": ("a\x1b]0;owned\x07b", "ab"),
    "link": ("\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"),
    "device control": ("a\x1bP+q544e\x1b\\b", "ab"),
    "reset": ("\x1bca", "a"),
    "eight bits": ("a\x9b31mb", "ab"),
    "unfinished": ("a\x1b[31", "a"),
    "escape only": ("a\x1b", "a"),
    "nul and bell": ("a\x00\x07b", "ab"),
    "surrogate": ("a\ud800b", "a\N{REPLACEMENT CHARACTER}b"),
    "bidi": ("a\u202eb\u2066c\u200fd", "abcd"),
    "line ends": ("a\r\r\nb\rc\u2028d", "a\nb\nc\nd"),
    "tab and newline": ("a\tb\nc", "a\tb\nc"),
    "other scripts": ("größe 日本 ✓", "größe 日本 ✓"),
    "no characters": ("a\uffff\ufeffb", "ab"),
}


@pytest.mark.parametrize(("text", "clean"), HOSTILE.values(), ids=HOSTILE)
def test_text_of_guests_is_cleaned(text: str, clean: str) -> None:
    assert clean_text(text) == clean
    assert clean_line(text) == " ".join(clean.split())


def test_cleaning_a_megabyte_of_escapes_is_quick() -> None:
    assert clean_text("\x1b]" * 500_000) == ""
    assert clean_text("\x1b[;" * 300_000) == ""


def test_what_guests_said_is_clean_in_the_files(tmp_path: Path) -> None:
    hostile = "\x1b[31m\ud800\x00\u202e"
    bad = replace(
        RECORD,
        reason=hostile,
        guest=replace(GUEST, kernel=hostile),
        measurements=[{**FIGURE, "job": {hostile: hostile}}],
    )
    path = written(tmp_path / "results.jsonl", bad)
    write_run(tmp_path / "run.json", replace(RUN, host={**RUN.host, "cpu_model": hostile}))
    text = path.read_text() + (tmp_path / "run.json").read_text()
    assert not any(sign in text for sign in ("\x1b", "\\u001b", "\x00", "\\u0000", "\u202e"))
    assert read_results(path)[0].reason == "\N{REPLACEMENT CHARACTER}"

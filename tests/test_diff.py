"""What ``./run diff`` says of two runs: each kind of difference, and none where there is none."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "data" / "report"))

import sample_matrix as sample

from virtproof.cli import main
from virtproof.measure.results import TestRecord
from virtproof.measure.store import ResultsWriter
from virtproof.report.diff import diff_lines
from virtproof.report.difference import Difference, differences

WORKS = sample.record("debian-12", "6.1.0-55-amd64", "nic/virtio")
BROKEN = sample.broken(WORKS, "the NIC got no address", sample.DIAGNOSIS)
assert WORKS.compat
UNSUPPORTED = replace(
    WORKS,
    outcome="skipped",
    reason="not supported by this kernel: virtio_net is not there",
    compat=replace(WORKS.compat, verdict="not-supported", reason="virtio_net is not there"),
)
PLAIN = replace(WORKS, compat=None)
FAILED = replace(PLAIN, outcome="failed", reason="assert 1 == 2")
ERROR = replace(PLAIN, outcome="error", reason="no set-up")
SKIPPED = replace(PLAIN, outcome="skipped", reason="no tool")


def features(*names: str) -> TestRecord:
    assert WORKS.compat
    return replace(WORKS, compat=replace(WORKS.compat, features={"virtio_net": [*names]}))


def only(before: TestRecord, after: TestRecord) -> Difference | None:
    found, same = differences([before], [after])
    assert len(found) + same == 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (WORKS, WORKS, None),
        (BROKEN, BROKEN, None),
        (FAILED, ERROR, "changed"),
        (WORKS, BROKEN, "broke"),
        (PLAIN, FAILED, "broke"),
        (PLAIN, ERROR, "broke"),
        (SKIPPED, FAILED, "broke"),
        (UNSUPPORTED, BROKEN, "broke"),
        (WORKS, replace(WORKS, outcome="error", reason="lab gone"), "broke"),
        (BROKEN, WORKS, "fixed"),
        (FAILED, PLAIN, "fixed"),
        (BROKEN, UNSUPPORTED, "changed"),
        (WORKS, UNSUPPORTED, "changed"),
        (UNSUPPORTED, WORKS, "changed"),
        (PLAIN, SKIPPED, "changed"),
        (features("NET_F_MAC"), features("NET_F_MAC", "F_RING_RESET"), "changed"),
    ],
)
def test_each_kind_of_difference(before: TestRecord, after: TestRecord, kind: str | None) -> None:
    found = only(before, after)
    assert (found.kind if found else None) == kind


def test_features_gained_and_lost_are_named() -> None:
    found = only(features("NET_F_MAC", "F_A"), features("F_B", "NET_F_MAC"))
    assert found
    assert found.gained == {"virtio_net": ("F_B",)}
    assert found.lost == {"virtio_net": ("F_A",)}


def on(release: str, check: str = "nic/virtio") -> TestRecord:
    """A kernel under test: its release is in the image's name, and so in the test's id."""
    return sample.record(f"debian-12@{release}", release, check)


def test_two_versions_of_a_kernel_compare() -> None:
    found = only(on("6.1.0-55-amd64"), sample.broken(on("6.1.0-56-amd64"), "it broke"))
    assert found
    assert (found.kind, found.kernels) == ("broke", ("6.1.0-55-amd64", "6.1.0-56-amd64"))


def test_two_flavours_do_not() -> None:
    found, same = differences([on("6.1.0-55-amd64")], [on("6.1.0-55-cloud-amd64")])
    assert ([one.kind for one in found], same) == (["new", "gone"], 0)
    plain = replace(WORKS, guest=replace(WORKS.guest, kernel="6.1.0-55-rt-amd64"))  # type: ignore[type-var]
    found, same = differences([WORKS], [plain])
    assert [one.kind for one in found] == ["new", "gone"]


def test_of_several_versions_the_same_one_is_compared_first_and_then_the_newest() -> None:
    older, old, new = (on(f"6.1.0-{number}-amd64") for number in (9, 55, 56))
    found, same = differences([older, old], [old, new])
    assert same == 2  # 55 with itself, 56 with 9
    found, same = differences([older, old], [new])
    assert [(one.kind, one.kernels[0]) for one in found] == [("gone", "6.1.0-9-amd64")]


def test_a_test_that_had_no_guest_compares_with_one_that_had() -> None:
    found = only(replace(SKIPPED, guest=None), PLAIN)
    assert found
    assert found.kind == "changed"


def written(place: Path, records: list[TestRecord]) -> str:
    with ResultsWriter(place / "results.jsonl") as writer:
        for record in records:
            writer.write(record)
    return str(place)


def test_the_command_says_what_broke_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = written(tmp_path / "old", sample.results("old"))
    new = written(tmp_path / "new", sample.results("new"))
    assert main(["diff", old, f"{new}/results.jsonl"]) == 1
    told = capsys.readouterr().out
    assert (
        "1 newly broken, 1 fixed, 0 changed, 72 newly run, 0 no longer run; 262 as before" in told
    )
    assert "✗ nic/pcnet on debian-13-rt (6.12.38+deb13-rt-amd64): works → broken" in told
    assert "✓ disk/nvme on debian-12 (6.1.0-54-amd64 → 6.1.0-55-amd64): broken → works" in told
    assert "... and 52 more (--all)" in told
    assert told.index("disk/usb on debian-sid") < told.index("disk/ide on debian-sid")
    assert main(["diff", old, new, "--all"]) == 1
    assert "more (--all)" not in capsys.readouterr().out


def test_nothing_newly_broken_exits_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = written(tmp_path / "a", [BROKEN]), written(tmp_path / "b", [WORKS])
    assert main(["diff", one, two]) == 0
    assert main(["diff", one, one]) == 0
    assert "0 newly broken, 0 fixed" in capsys.readouterr().out


def test_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = written(tmp_path / "a", [WORKS]), written(tmp_path / "b", [BROKEN])
    assert main(["diff", one, two, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    (broke,) = told["broke"]
    assert (broke["check"], broke["was"], broke["now"]) == ("nic/virtio", "works", "broken")
    assert broke["diagnosis"] == "initramfs-lacks-virtio_blk"
    assert (told["fixed"], told["changed"], told["new"], told["gone"], told["same"]) == (
        *([], [], [], []),
        0,
    )


@pytest.mark.parametrize("text", ["", "half a li", '{"name": "something else"}\n', None])
def test_bad_input_is_a_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    good = written(tmp_path / "good", [WORKS])
    bad = tmp_path / "bad"
    bad.mkdir()
    if text is not None:
        (bad / "results.jsonl").write_text(text)
    for pair in ((good, str(bad)), (str(bad), good)):
        assert main(["diff", *pair]) == 2
        error = capsys.readouterr().err
        assert "bad" in error
        assert error.count("\n") == 1


def test_hostile_text_is_one_clean_line() -> None:
    evil = sample.broken(WORKS, "\x1b[2Jgone\nand\u202eon")
    found, same = differences([WORKS], [evil])
    lines = diff_lines(found, same, ("a\x1b[2J", "b"))
    assert not [line for line in lines if "\x1b" in line or "\n" in line or "\u202e" in line]
    assert "      initramfs" not in lines
    assert any(line.startswith("      gone") for line in lines)

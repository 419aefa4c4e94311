"""Shards of a run, and their results put together: equal to the whole, or refused with the reason.

The tests inside need no guest: they only name claims.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lxml import etree

from virtproof.cli import main
from virtproof.measure.results import EVIDENCE_MARK
from virtproof.measure.store import read_results, read_run
from virtproof.plugin.sharding import LIGHT, Shard, place

HEAVY = """
import pytest

@pytest.mark.claim("DISK-1")
@pytest.mark.boots(3)
def test_long(): pass

@pytest.mark.claim("NET-2")
@pytest.mark.parametrize("number", range(8))
def test_many(number, record_property):
    record_property("number", number)
    if number == 5:
        pytest.skip("not five")
    assert number != 3, "three is wrong"
"""
LIGHTER = """
import pytest

@pytest.mark.claim("HOST-1")
@pytest.mark.boots(1)
@pytest.mark.parametrize("number", range(4))
def test_some(number, evidence): evidence.write_text(str(number))

@pytest.fixture
def evidence(request):
    from virtproof.plugin import evidence
    return evidence.make(evidence.place(request.config.rootpath / request.config.getoption("--out"),
                                        request.node.nodeid)) / "seen.txt"

def test_not_ours(): pass
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: neither cache nor labs nor options of an outer pytest."""
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path_factory.mktemp("run")))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, out: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_heavy=HEAVY, test_lighter=LIGHTER)
    junit = f"--junit-xml={out}/junit.xml"
    return pytester.runpytest_inprocess("--out", out, junit, "-o", "junit_family=xunit1", *options)


def shards(pytester: pytest.Pytester, count: int, *options: str) -> list[Path]:
    places = [Path(f"shard-{number}") for number in range(1, count + 1)]
    for number, there in enumerate(places, start=1):
        run(pytester, str(there), "--shard", f"{number}/{count}", *options)
    return places


def seen(out: Path) -> dict[str, tuple[Any, ...]]:
    """What a run says of each test, whenever and wherever it ran."""
    return {
        one.test: (one.outcome, one.reason, one.claims, one.evidence)
        for one in read_results(out / "results.jsonl")
    }


def cases(out: Path) -> list[tuple[str | None, ...]]:
    found = []
    for case in etree.parse(out / "junit.xml").iter("testcase"):
        said = [child.tag for child in case if child.tag not in ("properties", "system-out")]
        found.append((case.get("classname"), case.get("name"), case.get("file"), *said))
    return sorted(found)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("count", "options"), [(1, ()), (2, ()), (3, ("-n", "2")), (2, ("-k", "not long")), (9, ())]
)
def test_shards_together_are_the_whole(
    pytester: pytest.Pytester, count: int, options: tuple[str, ...]
) -> None:
    assert run(pytester, "whole", *options).ret == 1
    there = [str(place) for place in shards(pytester, count, *options)]
    assert main(["merge", *there, "-o", "all"]) == 1
    whole, merged = Path("whole"), Path("all")
    assert seen(merged) == seen(whole) != {}
    assert cases(merged) == cases(whole) != []
    files = {path.relative_to(merged) for path in (merged / "evidence").rglob("*.txt")}
    assert files == {path.relative_to(whole) for path in (whole / "evidence").rglob("*.txt")}
    assert len(files) == 4
    one, other = read_run(whole / "run.json"), read_run(merged / "run.json")
    assert (one.counts, one.exit_status) == (other.counts, other.exit_status)
    assert [part["shard"]["index"] for part in other.shards] == list(range(1, count + 1))
    assert not {"--shard", f"1/{count}"} & {*other.command_line}
    page = (merged / "report.html").read_text()
    assert "three is wrong" in page


def test_no_test_is_in_two_shards_and_every_run_cuts_alike(pytester: pytest.Pytester) -> None:
    first = [set(seen(place)) for place in shards(pytester, 3)]
    again = [set(seen(place)) for place in shards(pytester, 3, "-p", "no:randomly")]
    assert first == again
    assert sum(map(len, first)) == len(set.union(*first)) == 13
    assert all(first)


def test_an_empty_shard_is_no_fault(pytester: pytest.Pytester) -> None:
    for workers in ("0", "2"):
        result = run(pytester, "out", "--shard", "50/50", "-n", workers)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["virtproof: shard 50/50: 0 of 14 tests, which is no fault"])
        assert read_results(Path("out/results.jsonl")) == []


def test_no_test_at_all_is_still_a_fault(pytester: pytest.Pytester) -> None:
    assert run(pytester, "out", "--shard", "1/2", "-k", "no_such").ret == 5


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "x", "1", "1/", "/3", "-1/3", "1/3/3", "1/9999", "²/3"]
)
def test_what_is_no_shard_is_refused_in_a_line(pytester: pytest.Pytester, text: str) -> None:
    result = run(pytester, "out", f"--shard={text}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: virtproof: --shard {text}: no such shard (i/n, *"])
    assert not Path("out").exists()


# --- how they are cut -----------------------------------------------------------------------


def item(name: str, boots: int, image: str = "debian-12") -> Any:
    callspec = SimpleNamespace(params={"image_name": image})
    return Item(nodeid=name, boots=boots, callspec=callspec)


class Item(SimpleNamespace):
    """As much of a test as is asked for."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((self.nodeid, self.callspec.params["image_name"]))


def cut(items: list[Any], count: int) -> list[dict[str, int]]:
    """By shard: how many tests each file has in it."""
    found = []
    for there in place(items, count, lambda one: one.boots):
        files: dict[str, int] = {}
        for one in there:
            key = f"{one.nodeid.partition('::')[0]} {one.callspec.params['image_name']}"
            files[key] = files.get(key, 0) + 1
        found.append(files)
    return found


def test_what_shares_guests_stays_together() -> None:
    items = [item(f"{file}.py::t{n}", 1) for file in "abcd" for n in range(5)]
    found = cut(items, 2)
    assert sorted(key for files in found for key in files) == [f"{f}.py debian-12" for f in "abcd"]
    assert [sum(files.values()) for files in found] == [10, 10]


def test_images_are_groups_of_their_own() -> None:
    items = [item(f"a.py::t{n}", 1, image) for image in ("x", "y") for n in range(6)]
    assert cut(items, 2) == [{"a.py x": 6}, {"a.py y": 6}]


def test_shards_weigh_about_the_same() -> None:
    boots = [40, 1, 1, 1, 12, 0, 0, 0, 0, 3, 3, 3, 8, 8, 1, 0]
    items = [item(f"f{n // 5}.py::t{n}", weight) for n, weight in enumerate(boots)]
    loads = [
        sum(one.boots + LIGHT for one in there) for there in place(items, 2, lambda i: i.boots)
    ]
    assert max(loads) - min(loads) <= 2  # one test is half of all: the rest is the other shard


def test_a_group_that_is_too_much_for_one_is_cut() -> None:
    items = [item(f"a.py::t{n:02}", 1) for n in range(12)]
    assert cut(items, 3) == [{"a.py debian-12": 4}] * 3


def test_a_shard_is_told_as_it_was_given() -> None:
    assert str(Shard.parse("2/3")) == "2/3"


# --- what does not fit together -------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def twice(one: Path, two: Path) -> None:
    shutil.rmtree(two)
    shutil.copytree(one, two)


def overlap(one: Path, two: Path) -> None:
    lines = (one / "results.jsonl").read_text().splitlines(keepends=True)
    passed = next(line for line in lines if json.loads(line)["outcome"] == "passed")
    with (two / "results.jsonl").open("a") as file:
        file.write(passed)
    edit(two / "run.json", lambda run: run["counts"].update(passed=run["counts"]["passed"] + 1))


def shard_changed(name: str, value: Any) -> Callable[[Path, Path], None]:
    return lambda _, two: edit(two / "run.json", lambda run: run["shard"].update({name: value}))


def half_line(_: Path, two: Path) -> None:
    path = two / "results.jsonl"
    path.write_text(path.read_text()[:-20])


def whole_line_less(_: Path, two: Path) -> None:
    path = two / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


MISFITS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "same twice": (twice, "shard-1 and shard-2 are both shard 1 (give each once)"),
    "overlap": (overlap, "shard-1 and shard-2 both have test_"),
    "other count": (shard_changed("count", 3), "runs with another number of shards"),
    "other tests": (shard_changed("tests", "0" * 64), "are of runs with other tests"),
    "no shard": (
        lambda _, two: edit(two / "run.json", lambda run: run.update(shard=None)),
        "shard-2 is no shard (it was not run with --shard i/n)",
    ),
    "other version": (
        lambda one, two: [  # type: ignore[func-returns-value]
            edit(at / "run.json", lambda run, v=v: run["versions"].update(virtproof=v))  # type: ignore[misc]
            for at, v in ((one, "1"), (two, "2"))
        ],
        "shard-1 is of virtproof 1, shard-2 of 2",
    ),
    "other schema": (
        lambda _, two: edit(two / "run.json", lambda run: run.update(mood="good")),
        "shard-2/run.json: Additional properties",
    ),
    "half a file": (half_line, "shard-2/results.jsonl, line "),
    "a line less": (whole_line_less, "shard-2: run.json tells of "),
    "unfinished": (
        lambda _, two: (two / "run.json").unlink(),
        "cannot read shard-2/run.json: No such file",
    ),
    "nothing there": (lambda _, two: shutil.rmtree(two), "shard-2 is no directory"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_refused_in_a_line(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    one, two = shards(pytester, 2)
    spoil, said = MISFITS[kind]
    spoil(one, two)
    capsys.readouterr()
    assert main(["merge", str(one), str(two), "-o", "all"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("all").exists()


def test_a_missing_shard_is_named(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    there = shards(pytester, 3)
    assert main(["merge", str(there[0]), str(there[2]), "-o", "all"]) == 2
    said = "of 3 shards there is no 2 (run it with --shard 2/3)"
    assert said in capsys.readouterr().err


def test_what_is_not_ours_is_not_overwritten(pytester: pytest.Pytester) -> None:
    one, two = (str(place) for place in shards(pytester, 2))
    mine = Path("mine/evidence/thesis.txt")
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert main(["merge", one, two, "-o", "mine"]) == 2
    assert main(["merge", one, two, "-o", one]) == 2
    assert mine.exists()
    (mine.parent / EVIDENCE_MARK).touch()
    assert main(["merge", one, two, "-o", "mine"]) == 1
    assert not mine.exists()


def test_without_a_junit_file_the_records_make_one(pytester: pytest.Pytester) -> None:
    there = shards(pytester, 2)
    run(pytester, "whole")
    for path in there:
        (path / "junit.xml").unlink()
    main(["merge", *map(str, there), "-o", "all"])
    # What has no record, as test_not_ours, cannot be told.
    whole = [case for case in cases(Path("whole")) if case[1] != "test_not_ours"]
    assert cases(Path("all")) == whole
    suite = etree.parse("all/junit.xml").find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == [
        *("13", "1", "0", "1")
    ]

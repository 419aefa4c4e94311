"""What a history keeps, on SQLite and on a real PostgreSQL; what is no history is left as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from history_data import figures, run_at, write
from virtproof.errors import VirtproofError
from virtproof.history import intake
from virtproof.history.database import Database
from virtproof.history.store import Store

NOBODY = 65534


UNPACKED = Path(__file__).parents[1] / ".run" / "postgresql"  # by ./run tests


def postgresql_at(where: Path) -> tuple[Path, dict[str, str]] | None:
    """Where initdb and postgres are, the newest, and the environment that they want.

    What was unpacked is copied to ``where``: nobody may not be able to look into the checkout.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent, {}
    if not any(UNPACKED.glob("usr/lib/postgresql/*/bin/initdb")):
        return None
    shutil.copytree(UNPACKED, where, symlinks=True)
    (*_, newest) = sorted(where.glob("usr/lib/postgresql/*/bin/initdb"))
    libraries = {str(path.parent) for path in where.glob("usr/lib/*/lib*.so*")}
    return newest.parent, {"LD_LIBRARY_PATH": ":".join(libraries)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of the module's own, on a UNIX socket only; it refuses to run as root."""
    where = Path(tempfile.mkdtemp(prefix="vp-pg-", dir="/tmp"))
    place = postgresql_at(where / "program")
    if place is None:
        where.rmdir()
        pytest.skip("there is no PostgreSQL (package postgresql)")
    programs, environment = place[0], {**os.environ, **place[1]}
    root = os.getuid() == 0
    if root:
        os.chown(where, NOBODY, NOBODY)
    them = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
    data = str(where / "data")
    made = [*them, str(programs / "initdb"), "-D", data, "-U", "history", "-A", "trust", "-N"]
    subprocess.run(made, check=True, capture_output=True, cwd=where, env=environment)
    told = [*them, str(programs / "pg_ctl"), "-D", data, "-w"]
    options = f"-k {where} -c listen_addresses= -c jit=off -c fsync=off"
    log = str(where / "log")
    subprocess.run(
        [*told, "-l", log, "-o", options, "start"], check=True, cwd=where, env=environment
    )
    yield f"postgresql://history@/postgres?host={where}"
    subprocess.run([*told, "-m", "immediate", "stop"], check=True, cwd=where, env=environment)
    shutil.rmtree(where)


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty history."""
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    url: str = request.getfixturevalue("server")
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return url


def test_a_file_added_twice_is_stored_once(db: str, tmp_path: Path) -> None:
    where = write(tmp_path / "a", run_at(0), figures(0, [1e9] * 5))
    store = Store(Database(db))
    assert store.add(intake.read(where)).stored == 5
    again = store.add(intake.read(where))
    assert (again.run, again.stored, bool(again.again)) == (1, 0, True)
    assert len(store.contents().sessions.value) == 5


def test_two_writers_at_once_lose_nothing(db: str, tmp_path: Path) -> None:
    runs = [write(tmp_path / f"{n}", run_at(n), figures(n, [1e9] * 5)) for n in range(8)]
    command = [sys.executable, "-m", "virtproof", "history", "add", "--db", db]
    both = [subprocess.Popen([*command, *map(str, part)]) for part in (runs[:5], runs[3:])]
    assert [one.wait(120) for one in both] == [0, 0]
    found = Store(Database(db)).contents()
    assert (len(found.runs), len(found.sessions.value), len(found.configs)) == (8, 40, 1)


def test_a_run_that_began_earlier_is_ordered_and_told(db: str, tmp_path: Path) -> None:
    store = Store(Database(db))
    for day in (5, 2):
        where = write(tmp_path / f"{day}", run_at(day), figures(day, [1e9] * 5))
        added = store.add(intake.read(where))
    assert added.before is not None
    assert [run["id"] for run in store.contents().runs] == [2, 1]


def test_another_unit_is_refused_and_nothing_of_the_file_stored(db: str, tmp_path: Path) -> None:
    store = Store(Database(db))
    store.add(intake.read(write(tmp_path / "a", run_at(0), figures(0, [1e9] * 5))))
    bad = figures(1, [1.0] * 5, name="fine") + figures(1, [1e9], unit="B/s")
    with pytest.raises(VirtproofError, match="is in B/s .* here, and in bit/s"):
        store.add(intake.read(write(tmp_path / "b", run_at(1), bad)))
    assert len(store.contents().runs) == 1


def test_a_newer_history_is_refused(db: str) -> None:
    database = Database(db)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE history_version SET version = 99")
    database.close()
    with pytest.raises(VirtproofError, match="is of version 99"):
        Database(db)


@pytest.mark.parametrize("kind", ["text", "foreign", "cut", "damaged"])
def test_what_is_no_history_is_left_byte_for_byte(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "text":
        path.write_text("these are notes\n" * 100)
    elif kind == "foreign":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE mine (x)")
    else:
        store = Store(Database(str(path)))
        many = figures(0, [1e9] * 2000)
        store.add(intake.read(write(tmp_path / "a", run_at(0), many)))
        data = path.read_bytes()
        middle = data[:40000] + b"\xff" * 8192 + data[48192:]
        path.write_bytes(data[: len(data) // 2] if kind == "cut" else middle)
    before = path.read_bytes()
    with pytest.raises(VirtproofError, match="no history|damaged"):
        Database(str(path))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name != "a"] == ["x"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"end": "2024-01-01T00:00:00+00:00"}, "before its start"),
        ({"start": "2025-06-01T00:00:00Z", "end": "2025-06-02T00:00:00Z"}, "not within the run"),
        ({"start": "2999-06-01T00:00:00Z", "end": "2999-06-02T00:00:00Z"}, "which is yet to come"),
    ],
)
def test_clocks_that_cannot_be_are_refused(
    tmp_path: Path, change: dict[str, str], fault: str
) -> None:
    where = write(tmp_path / "a", run_at(0, **change), figures(0, [1e9] * 5))
    with pytest.raises(VirtproofError, match=fault):
        intake.read(where)


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("1000000000.0", "NaN", "NaN is not a number"),
        ("1000000000.0", "1" + "0" * 400, "is too large a number"),
        ("1000000000.0", "1e308", "was never measured"),
        ("1000000000.0", "5e-324", "was never measured"),
        ("1000000000.0", "0", "nothing was transferred"),
        ('"block": 0', '"block": 1' + "0" * 30, "is too large a number"),
        ('"unit": "bit/s"', '"unit": "furlong"', "'furlong' is not one of"),
        ('"tests"', '"tests"', ""),
    ],
)
def test_a_figure_that_cannot_be_is_one_line(
    tmp_path: Path, right: str, wrong: str, fault: str
) -> None:
    where = write(tmp_path / "a", run_at(0), figures(0, [1e9] * 5))
    path = where / "results.jsonl"
    path.write_text(path.read_text().replace(right, wrong))
    if not fault:  # control: as it was written, it is read
        assert len(intake.read(where).sessions) == 5
        return
    with pytest.raises(VirtproofError, match=fault) as caught:
        intake.read(where)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut_between_two_tests_is_refused(tmp_path: Path) -> None:
    """Each line of it is whole; what tells is that the run counted more."""
    counts = {"passed": 2, "failed": 0, "skipped": 0, "error": 0}
    where = write(tmp_path / "a", run_at(0, counts=counts), figures(0, [1e9] * 5))
    with pytest.raises(VirtproofError, match="has 1 tests, and run.json counts 2"):
        intake.read(where)


def test_half_a_file_and_no_number_are_one_line(tmp_path: Path) -> None:
    where = write(tmp_path / "a", run_at(0), figures(0, [1e9] * 5))
    path = where / "results.jsonl"
    text = path.read_text()
    for bad in (text[: len(text) // 2], text.replace("1000000000.0", "NaN", 1), '{"v": 2}\n'):
        path.write_text(bad)
        with pytest.raises(VirtproofError) as caught:
            intake.read(where)
        assert "\n" not in str(caught.value)


def test_quick_measurements_are_no_history(tmp_path: Path) -> None:
    where = write(tmp_path / "a", run_at(0), figures(0, [1e9] * 5, profile="quick"))
    assert (intake.read(where).quick, len(intake.read(where).sessions)) == (5, 0)
    assert len(intake.read(where, quick_too=True).sessions) == 5

"""Opening a history: SQLite by path, PostgreSQL by URL; what is not ours is refused and left as it was.

A file is looked at before anything is written: a foreign or damaged one, and one that a newer Virtproof
has made, is one line. Writers wait for each other, so that two at once lose nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from virtproof.errors import MissingToolError, UsageError, VirtproofError
from virtproof.history import schema

WAIT_S = 60  # for another writer
_OTHER = "give another file or database by --db"


class HistoryError(VirtproofError):
    """The history cannot be used: damaged, foreign, newer than this Virtproof, or out of reach."""


class Database:
    """A history, open. Made where there is nothing yet, unless ``make`` is False; renewed where it is of an
    earlier version. HistoryError where it is no history."""

    def __init__(self, where: str, make: bool = True) -> None:
        url = parse(where)
        self.name = url.database or "" if _is_sqlite(url) else url.render_as_string()
        if _is_sqlite(url):
            _look(Path(self.name), make)
        self._engine = _engine(url)
        try:
            with self._told():
                self._prepare(make)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._told(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer is beside; all of it is kept, or nothing."""
        engine = self._engine.execution_options(writes=True)
        with self._told(), engine.begin() as connection:
            if engine.dialect.name == "postgresql" and inspect(connection).has_table(_RUNS):
                connection.exec_driver_sql(f"LOCK TABLE {_RUNS} IN SHARE ROW EXCLUSIVE MODE")
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The database's own errors as one line."""
        try:
            yield
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines() or ["no reason"]
            raise HistoryError(
                f"the history {self.name} cannot be used: {said[0]}", hint=_OTHER, detail=str(error)
            ) from error

    def _prepare(self, make: bool) -> None:
        found = self._version()
        if found == len(schema.STEPS):
            return
        if found > len(schema.STEPS):
            raise _newer(self.name, found)
        if not found and not make:
            raise nothing(self.name)
        with self.writing() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({schema.APPLICATION_ID})")
            migrate(connection)

    def _version(self) -> int:
        with self._engine.connect() as connection:
            return version_of(connection, self.name)


def version_of(connection: Connection, name: str) -> int:
    """Of the schema; 0 where there is none yet. HistoryError where our names are taken by something else."""
    there = {table for table in inspect(connection).get_table_names() if table in _TABLES}
    if not there:
        return 0
    if schema.version.name not in there:
        raise HistoryError(f"{name} is no history: its {min(there)} is not ours", hint=_OTHER)
    return connection.execute(select(schema.version.c.version)).scalar_one_or_none() or 0


def migrate(connection: Connection) -> None:
    """Do the steps that are missing; the caller's transaction keeps all of them, or none."""
    types = schema.TYPES[connection.dialect.name]
    done = version_of(connection, "the database")
    for step in schema.STEPS[done:]:
        for statement in filter(str.strip, step.split(";")):
            connection.exec_driver_sql(statement.format(**types))
    latest = {"version": len(schema.STEPS)}
    connection.execute((update if done else insert)(schema.version).values(latest))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")


_TABLES = frozenset(schema.metadata.tables)
_RUNS = schema.run.name


def parse(where: str) -> URL:
    """A URL of PostgreSQL or SQLite, or the path of an SQLite file."""
    if "://" not in where:
        return URL.create("sqlite", database=str(Path(where).expanduser()))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise UsageError(f"--db: no URL: {where.split('://')[0]}://...: {error}") from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UsageError(
            f"--db: {url.drivername} is not known",
            hint="give a file, or postgresql://user@host/database",
        )
    if _is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise UsageError("--db: a history is a file", hint="sqlite:///path/history.sqlite")
    return url


def nothing(name: str) -> HistoryError:
    return HistoryError(f"there is no history in {name} yet", hint="./run history add out makes it")


def _newer(name: str, found: int) -> HistoryError:
    return HistoryError(
        f"the history {name} is of version {found}, and this Virtproof knows {len(schema.STEPS)}",
        hint="use the newer Virtproof that has renewed it",
    )


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _engine(url: URL) -> Engine:
    if not _is_sqlite(url):
        try:
            return create_engine(url, connect_args={"connect_timeout": WAIT_S})
        except ModuleNotFoundError as error:
            raise MissingToolError(
                "a history in PostgreSQL needs psycopg", hint="pip install 'virtproof[postgresql]'"
            ) from error
    engine = create_engine(url, connect_args={"timeout": WAIT_S, "isolation_level": None})
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """SQLite: a writer takes the lock at once; one that only reads first could not get it any more."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _look(path: Path, make: bool) -> None:
    """Refuse a file that is no sound history of ours, before anything could be written to it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        if not make:
            raise nothing(str(path)) from None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HistoryError(
                f"cannot make {path.parent}: {error.strerror}", hint=_OTHER
            ) from error
        return
    except OSError as error:
        raise HistoryError(f"cannot read {path}: {error.strerror}", hint=_OTHER) from error
    if path.is_dir():
        raise HistoryError(f"{path} is a directory, and a history is a file", hint=_OTHER)
    if size:
        _look_inside(path)


def _look_inside(path: Path) -> None:
    """Not read-only: what a killed writer has begun is undone by whoever opens the file next."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S)) as file:
            said = _asked(file, "PRAGMA application_id")
            if said != schema.APPLICATION_ID:
                raise HistoryError(f"{path} is a database, but no history", hint=_OTHER)
            found = _asked(file, "SELECT version FROM history_version")
            if found > len(schema.STEPS):
                raise _newer(str(path), found)
            fault = _asked(file, "PRAGMA quick_check(1)")
    except sqlite3.Error as error:
        fault = str(error)
    if fault != "ok":
        reason = " ".join(str(fault).split())
        raise HistoryError(
            f"{path} is damaged, or no history: {reason}",
            hint="put a copy back in its place, or give another by --db",
        )


def _asked(file: sqlite3.Connection, query: str) -> Any:
    row = file.execute(query).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"no answer to {query}")
    return row[0]

"""What a history holds, in and out: whole results files, all sessions at once, pins and alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, func, insert, select, update

from virtproof.errors import UsageError
from virtproof.history import schema
from virtproof.history.database import Database
from virtproof.history.intake import Intake, IntakeError, unit_faults
from virtproof.history.points import Sessions

BATCH = 50_000  # rows that are read at a time


@dataclass(frozen=True, slots=True)
class Added:
    """What came of a results file. ``stored`` sessions, 0 where the file was there already (``again``: when
    it was added); ``before``: the later start of another run that was stored earlier."""

    run: int
    stored: int
    again: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """A change that was told. ``first_bad`` and ``last_good`` are runs' numbers."""

    id: int
    series: str
    kind: str
    text: str
    found: str
    first_bad: int
    last_good: int
    ratio: float
    p: float
    acknowledged: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a history. ``runs`` are in the order of their starts, ``sessions.run`` indexes them; ``pins``
    and alerts name runs by their number (``id``)."""

    runs: list[dict[str, Any]]
    configs: list[dict[str, Any]]
    sessions: Sessions
    pins: dict[str, int]
    alerts: list[Alert]

    def place(self, number: int) -> int | None:
        """Where in ``runs`` the run of that number is."""
        return next((at for at, run in enumerate(self.runs) if run["id"] == number), None)


class Store:
    """The history in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.name = database.name  # a URL's without its password

    def add(self, found: Intake) -> Added:
        """Store a results file, whole or not at all; one that is there already is left alone.

        IntakeError where a figure's unit is not the one that the history has it in.
        """
        with self._database.writing() as connection:
            known = connection.execute(
                select(schema.run.c.id, schema.run.c.added).where(
                    schema.run.c.digest == found.run["digest"]
                )
            ).first()
            if known:
                return Added(known.id, 0, again=known.added)
            if not found.sessions:
                return Added(0, 0)
            columns = (schema.config.c[name] for name in ("name", "job", "unit", "better"))
            there = connection.execute(select(*columns).distinct())
            fault = unit_faults(found.configs, ((r[0], r[1], r[2], r[3]) for r in there))
            if fault:
                raise IntakeError(
                    f"{found.run['source']}: {fault}", hint="nothing of this file was stored"
                )
            latest = connection.execute(select(func.max(schema.run.c.started))).scalar_one()
            number = _inserted(connection, found)
        late = latest if latest and latest > found.run["started"] else None
        return Added(number, len(found.sessions), before=late)

    def contents(self) -> Contents:
        """All that there is, read in batches."""
        with self._database.reading() as connection:
            order = (schema.run.c.started, schema.run.c.id)
            runs = [dict(row._mapping) for row in connection.execute(_all(schema.run, *order))]
            configs = [
                dict(row._mapping)
                for row in connection.execute(_all(schema.config, schema.config.c.id))
            ]
            sessions = _sessions(connection, runs, configs)
            pins = {row.series: row.run_id for row in connection.execute(select(schema.pin))}
            alerts = [
                Alert(**row._mapping)
                for row in connection.execute(_all(schema.alert, schema.alert.c.id))
            ]
        return Contents(runs, configs, sessions, pins, alerts)

    def pin(self, series: str, run: int) -> None:
        """Take the points up to ``run`` for the series' baseline."""
        row = {"series": series, "run_id": run, "pinned": _now()}
        with self._database.writing() as connection:
            mine = schema.pin.c.series == series
            if not connection.execute(update(schema.pin).where(mine).values(row)).rowcount:
                connection.execute(insert(schema.pin).values(row))

    def alert(self, rows: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """Store alerts; each's number, None for one that somebody else stored meanwhile."""
        numbers: list[int | None] = []
        with self._database.writing() as connection:
            for row in rows:
                columns = schema.alert.c
                same = and_(
                    *(columns[name] == row[name] for name in ("series", "kind", "first_bad"))
                )
                if connection.execute(select(columns.id).where(same)).first():
                    numbers.append(None)
                    continue
                made = insert(schema.alert).values(**row, found=_now()).returning(columns.id)
                numbers.append(connection.execute(made).scalar_one())
        return numbers

    def acknowledge(self, number: int, why: str) -> Alert:
        """Write down that somebody has looked at an alert, and what they say of it."""
        columns = schema.alert.c
        with self._database.writing() as connection:
            values = {"acknowledged": _now(), "why": why}
            connection.execute(update(schema.alert).where(columns.id == number).values(values))
            row = connection.execute(select(schema.alert).where(columns.id == number)).first()
        if row is None:
            raise UsageError(f"no alert has the number {number}", hint="./run history show")
        return Alert(**row._mapping)


def _all(table: Any, *order: Any) -> Any:
    return select(table).order_by(*order)


def _inserted(connection: Connection, found: Intake) -> int:
    """The run's number; run, configurations that are new, and sessions are in."""
    made = insert(schema.run).values(found.run).returning(schema.run.c.id)
    number: int = connection.execute(made).scalar_one()
    ids = _ids(connection, found)
    new = [row for digest, row in found.configs.items() if digest not in ids]
    if new:
        connection.execute(insert(schema.config), new)
        ids = _ids(connection, found)
    rows = []
    for one in found.sessions:
        row = asdict(one)
        row["run_id"], row["config_id"] = number, ids[row.pop("config")]
        rows.append(row)
    connection.execute(insert(schema.session), rows)
    return number


def _ids(connection: Connection, found: Intake) -> dict[str, int]:
    columns = schema.config.c
    query = select(columns.digest, columns.id).where(columns.digest.in_(list(found.configs)))
    return {row[0]: row[1] for row in connection.execute(query)}


def _sessions(
    connection: Connection, runs: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> Sessions:
    """Every session, as columns; numbers of runs and configurations become their places."""
    columns = schema.session.c
    query = select(columns.run_id, columns.config_id, columns.control, columns.value)
    result = connection.execution_options(yield_per=BATCH).execute(query)
    whole, values = [np.empty((0, 3), np.int64)], [np.empty(0)]
    for batch in result.partitions():
        run, config, control, value = zip(*batch, strict=True)
        whole.append(np.array([run, config, control], np.int64).T)
        values.append(np.array(value, np.float64))
    numbers = np.concatenate(whole)
    return Sessions(
        _places(runs)[numbers[:, 0]],
        _places(configs)[numbers[:, 1]],
        numbers[:, 2],
        np.concatenate(values),
    )


def _places(rows: Sequence[Mapping[str, Any]]) -> Any:
    """By number, the place among ``rows``."""
    places = np.zeros(max((row["id"] for row in rows), default=0) + 1, np.int64)
    for at, row in enumerate(rows):
        places[row["id"]] = at
    return places


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""How long `history check` and `history report` take, how much memory, and how large the page is, by the
number of stored sessions: 500 series, five sessions of each a run, one series in ten with a step of 15 %.

python benchmarks/history.py [--sessions 10000 --sessions 100000 --sessions 1000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from virtproof.history import schema
from virtproof.history.database import Database

SERIES, SESSIONS = (
    500,
    5,
)  # of each series a run: with a control, 100,000 would be too few to be judged
STEP, SINCE = 0.85, 5  # of every tenth series, for so many runs
FIGURES = 20


def fill(path: Path, sessions: int) -> None:
    """Runs of all series, or of as many as there is room for."""
    rng, database = np.random.default_rng(1), Database(str(path))
    names = [*schema.run.c.keys()][1:]
    text = [*schema.config.c.keys()][1:]
    runs = max(1, sessions // (SERIES * SESSIONS))
    with database.writing() as connection:
        rows = [dict.fromkeys(text, "x") | {
                "digest": str(n), "name": f"figure-{n % FIGURES:02}", "device": f"device-{n // FIGURES}",
                "better": "higher", "unit": "B/s"} for n in range(SERIES)]  # fmt: skip
        connection.execute(insert(schema.config), rows)
        for run in range(1, runs + 1):
            at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=run)).isoformat()
            row = dict.fromkeys(names, "x") | {"digest": str(run), "started": at}
            connection.execute(insert(schema.run).values(row))
            values = 1e9 * np.exp(rng.normal(0, 0.03, (SERIES, SESSIONS)))
            values[::10] *= STEP if run > runs - SINCE else 1
            rows = [
                {"run_id": run, "config_id": n + 1, "control": 0, "block": turn, "turn": 0,
                 "started": at, "value": float(values[n, turn])}
                for n in range(SERIES) for turn in range(SESSIONS)
            ]  # fmt: skip
            connection.execute(insert(schema.session), rows)
    database.close()


def timed(*arguments: str) -> tuple[str, ...]:
    """Of the whole command: seconds, seconds of a processor (which other work hardly changes), peak MiB."""
    command = [sys.executable, "-m", "virtproof", "history", *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"history {arguments[0]} has failed")
    cpu = used.ru_utime + used.ru_stime
    return f"{took:.1f}", f"{cpu:.1f}", f"{used.ru_maxrss / 1024:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, action="append")
    print("| sessions | check: s | CPU s | peak MiB | report: s | CPU s | peak MiB | page MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for sessions in parser.parse_args().sessions or (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as where:
            path, page = Path(where, "history.sqlite"), Path(where, "history.html")
            fill(path, sessions)
            check = timed("check", "--db", str(path))
            report = timed("report", "--db", str(path), "-o", str(page))
            size = f"{page.stat().st_size / 2**20:.1f}"
        print(f"| {sessions:,} | {' | '.join((*check, *report, size))} |", flush=True)


if __name__ == "__main__":
    main()

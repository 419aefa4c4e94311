"""How long `history check` takes, and how much memory, by the number of stored sessions (500 series).

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

SERIES, SESSIONS = 500, 10  # five of the subject, five of the control, a run


def fill(path: Path, sessions: int) -> None:
    """Runs of all series, or of as many as there is room for."""
    rng, database = np.random.default_rng(1), Database(str(path))
    names = [*schema.run.c.keys()][1:]
    text = [*schema.config.c.keys()][1:]
    runs = max(1, sessions // (SERIES * SESSIONS))
    with database.writing() as connection:
        rows = [dict.fromkeys(text, "x") | {"digest": str(n), "name": str(n), "better": "higher"}
                for n in range(SERIES)]  # fmt: skip
        connection.execute(insert(schema.config), rows)
        for run in range(1, runs + 1):
            at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=run)).isoformat()
            row = dict.fromkeys(names, "x") | {"digest": str(run), "started": at}
            connection.execute(insert(schema.run).values(row))
            values = 1e9 * np.exp(rng.normal(0, 0.03, (SERIES, SESSIONS)))
            rows = [
                {"run_id": run, "config_id": n + 1, "control": turn % 2, "block": turn // 2,
                 "turn": turn % 2, "started": at, "value": float(values[n, turn])}
                for n in range(SERIES) for turn in range(SESSIONS)
            ]  # fmt: skip
            connection.execute(insert(schema.session), rows)
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, action="append")
    last = None
    print("| sessions | check, s | peak MiB | times the one before |\n|---|---|---|---|")
    for sessions in parser.parse_args().sessions or (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as where:
            path = Path(where, "history.sqlite")
            fill(path, sessions)
            command = [sys.executable, "-m", "virtproof", "history", "check", "--db", str(path)]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, _, used = os.wait4(process.pid, 0)
            took = time.monotonic() - start
        ratio = f"{took / last:.1f}" if last else "-"
        print(f"| {sessions} | {took:.1f} | {used.ru_maxrss / 1024:.0f} | {ratio} |", flush=True)
        last = took


if __name__ == "__main__":
    main()

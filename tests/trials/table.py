"""docs/trials.md from ``trials.json``: ``python tests/trials/table.py out/trials.json [LATER...]``.

A trial that a later run repeated has that run's row.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "trials.md"
HEAD = """# The harness on trial

Guests with one known defect each, and what the harness called it. `./run trials` runs them all;
`tests/trials/table.py` writes this page from what that run left in `out/trials.json`. "Caught by" says
what found it: the wait for the *boot*, the *check-up* of a guest that is up (`Guest.check_up`), its
*ssh*, a *power cut*, or a whole *run* whose report was read. Seconds are those of the trial, with
seeding, on two emulated guests at a time, beside other work.
"""


def page(rows: list[dict[str, Any]]) -> str:
    """Markdown: a table of the defects by layer, and the count of alarms on healthy guests."""
    defects = sorted(
        (row for row in rows if row["layer"] != "healthy"), key=lambda r: (r["layer"], r["defect"])
    )
    healthy = [row for row in rows if row["layer"] == "healthy"]
    named = sum(row["outcome"] == "passed" for row in defects)
    alarms = sum(row["outcome"] != "passed" for row in healthy)
    count = f"{named} of {len(defects)} defects were caught by their right name"
    lines = [
        HEAD,
        f"{count}; {alarms} alarms on {len(healthy)} healthy guests.\n",
        "| layer | defect | caught by | diagnosis | seconds |",
        "|---|---|---|---|---|",
    ]
    for _, layer in groupby(defects, key=lambda row: row["layer"]):
        for row in layer:
            name = f"`{row['name']}`" if row["outcome"] == "passed" else f"**{row['name']}**"
            cells = (row["layer"], row["defect"], row["by"], name, f"{row['seconds']:.0f}")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def merged(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several runs, the later ones in the place of the earlier."""
    return list({(row["layer"], row["defect"]): row for run in runs for row in run}.values())


def main() -> None:
    runs = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    PAGE.write_text(page(merged(runs)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""docs/trials.md from a run's ``trials.json``: ``python tests/trials/table.py out/trials.json``."""

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
seeding, on two emulated guests at a time.
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


def main() -> None:
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()

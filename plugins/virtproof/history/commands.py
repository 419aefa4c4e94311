"""The command line of ``virtproof history``. What it calls is imported when it is called: the parser is part
of every command, and needs nothing that would have to be installed."""

from __future__ import annotations

import argparse
from pathlib import Path

DETECTORS = ("ruptures", "otava")
SUBJECTS = ("kernel", "qemu", "image")


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``history``; ``main`` takes what it parses."""
    parser = subparsers.add_parser("history", help="throughput over many runs: has it got slower?")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="store runs' measurements")
    add.add_argument("results", nargs="+", type=Path, metavar="DIR|results.jsonl")
    add.add_argument("--quick-too", action="store_true", help="also those of the quick profile")
    check = actions.add_parser("check", help="status 1 where something has newly got worse")
    report = actions.add_parser("report", help="all of it as one HTML page")
    report.add_argument(
        "-o", "--output", type=Path, default=Path("out/history.html"), metavar="FILE",
        help="default: out/history.html",
    )  # fmt: skip
    report.add_argument(
        "--series", action="append", default=[], metavar="SERIES",
        help="show this one at length, though it has not got worse; repeatable",
    )  # fmt: skip
    show = actions.add_parser("show", help="the series and the alerts, or one series' points")
    show.add_argument("series", nargs="?", metavar="SERIES")
    export = actions.add_parser("export", help="all points, or one series', to standard output")
    export.add_argument("series", nargs="?", metavar="SERIES")
    export.add_argument("--format", choices=["csv", "jsonl"], default="csv")
    pin = actions.add_parser("pin", help="take a series' ten points up to a run for its baseline")
    pin.add_argument("series", metavar="SERIES")
    pin.add_argument("--at", type=int, metavar="RUN", help="the run's number; default: the last")
    acknowledge = actions.add_parser("acknowledge", help="an alert has been looked at")
    acknowledge.add_argument("alert", type=int, metavar="ALERT")
    acknowledge.add_argument("--why", required=True, metavar="TEXT")
    for action in (check, report):
        action.add_argument("--detector", choices=DETECTORS, default="ruptures")
    for action in (check, report, show, export, pin):
        action.add_argument("--subject", choices=SUBJECTS, default=SUBJECTS[0], help="is tracked")
    for action in (add, check, report, show, export, pin, acknowledge):
        action.add_argument(
            "--db", metavar="FILE|URL", help="default: history.sqlite in the cache directory"
        )
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 for a fault, and for a new regression on a host that has passed its A/A check."""
    from virtproof.history import actions

    return actions.main(arguments)

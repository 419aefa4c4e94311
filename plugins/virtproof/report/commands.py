"""The command lines of ``virtproof report``, ``diff`` and ``merge``; light: part of every parser."""

from __future__ import annotations

import argparse
from pathlib import Path

_Subparsers = argparse._SubParsersAction


def add_parsers(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    """The parsers of the three; what they do is in ``report.actions``."""
    _add_merge(subparsers)


def _add_merge(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "merge",
        help="the results of a run's shards as those of one run",
        description="Puts together what pytest --shard i/n left in a directory each: results.jsonl, "
        "run.json, evidence, report.html, junit.xml. Exit status: the whole run's; 2 where the shards do "
        "not make a whole.",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="DIR", help="a shard's --out")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="where to")
    parser.set_defaults(call=merge)


def merge(arguments: argparse.Namespace) -> int:
    from virtproof.report import actions

    return actions.merge(arguments)

"""The command lines of ``virtproof report``, ``diff`` and ``merge``; light: part of every parser."""

from __future__ import annotations

import argparse
from pathlib import Path

_Subparsers = argparse._SubParsersAction


def add_parsers(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    """The parsers of the three; what they do is in ``report.actions``."""
    _add_report(subparsers)
    _add_diff(subparsers)
    _add_merge(subparsers)


def _add_report(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("report", help="pages made from the results of runs")
    kinds = parser.add_subparsers(metavar="PAGE", required=True)
    compat = kinds.add_parser(
        "compat",
        help="images, kernels and checks: what works on which",
        description="Writes the compatibility page of one or more runs. Of a cell that two runs have filled, "
        "the later run's counts.",
    )
    compat.add_argument("runs", nargs="*", type=Path, metavar="DIR", help="a run's --out (out)")
    compat.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: compat.html in the first DIR"
    )
    compat.set_defaults(call=report_compat)


def report_compat(arguments: argparse.Namespace) -> int:
    from virtproof.report import actions

    return actions.compat(arguments)


def _add_diff(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "diff",
        help="what newly broke, got fixed or changed from one run to another",
        description="Compares two runs test by test, two versions of a kernel too. Exit status: 1 where "
        "something has newly broken, else 0 (what is newly run has not *newly* broken); 2 for bad input.",
    )
    for name in ("a", "b"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="an --out or results.jsonl")
    parser.add_argument("--json", action="store_true", help="the same, for programs")
    parser.add_argument("--all", action="store_true", help="all that is newly or no longer run")
    parser.set_defaults(call=diff)


def diff(arguments: argparse.Namespace) -> int:
    from virtproof.report import actions

    return actions.diff(arguments)


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

"""The parser of ``virtproof export``. Light: the doctor's command line is made of it too."""

from __future__ import annotations

import argparse
from pathlib import Path

FORMATS = {
    "bencher": "Bencher Metric Format (JSON), for `bencher run --adapter json --file FILE`",
    "github-action-benchmark": "two files, for its tools customBiggerIsBetter and customSmallerIsBetter",
    "kcidb": "KCIDB v5.3 (JSON): tests and figures, for kcidb-submit",
    "openmetrics": "OpenMetrics text, as Prometheus reads it",
    "otava": "CSV with a row a run, for Apache Otava's csv importer (time_column: time)",
}


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``export``; ``main`` takes what it parses."""
    formats = "\n".join(f"  {name:<24}{text}" for name, text in FORMATS.items())
    parser = subparsers.add_parser(
        "export",
        help="a run's results in another format",
        description="Writes a run's results in the format of those who keep, chart or watch them.",
        epilog=f"formats:\n{formats}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", metavar="FORMAT", help="one of those below")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        action="append",
        help="the directory of the run's results, by default out; for otava repeatable, a run each",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="write here, not to the standard output; of two files FILE-bigger and FILE-smaller",
    )
    parser.add_argument(
        "--origin", default="virtproof", help="kcidb: the CI system's name (default: virtproof)"
    )
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Write the export; see ``report.export.writing``."""
    from virtproof.report.export import writing

    return writing.write(arguments)

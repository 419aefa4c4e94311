"""``virtproof virtio-win``: what drivers are on this medium, and are they whole? Light to import."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

DEFECTS = 1


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``virtio-win``; ``main`` takes what it parses."""
    parser = subparsers.add_parser(
        "virtio-win",
        help="the Windows drivers on this medium, and their defects",
        description="Reads the driver packages of a virtio-win ISO, or of a folder, and checks each "
        "without a Windows: files, INF, ids, versions, catalog, signature. Of two, it tells the difference.",
        epilog="exit status: 0 all well, 1 a defect (of two: something is worse), 2 a wrong use or no medium",
    )
    parser.add_argument("medium", type=Path, metavar="ISO|DIR", help="the ISO, or a folder like it")
    parser.add_argument("newer", type=Path, nargs="?", metavar="NEW", help="what became of it")
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="trust this root as one of Microsoft's, for drivers that you sign yourself; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="the same, for programs")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 where there is a defect or, of two media, where the newer one is worse in something."""
    from virtproof.windows.certificates import trust
    from virtproof.windows.medium_table import difference_lines, survey_lines
    from virtproof.windows.survey import difference, survey

    trusted = trust(arguments.trust)
    found = survey(arguments.medium, trusted)
    if arguments.newer is None:
        text = found.as_dict() if arguments.json else survey_lines(found)
        _print(text)
        return DEFECTS if found.defects else 0
    newer = survey(arguments.newer, trusted)
    changes = difference(found, newer)
    if arguments.json:
        _print({"old": found.name, "new": newer.name, "changes": [asdict(one) for one in changes]})
    else:
        _print(difference_lines(found, newer, changes))
    return DEFECTS if any(change.worse for change in changes) else 0


def _print(what: object) -> None:
    print("\n".join(what) if isinstance(what, list) else json.dumps(what, indent=2))

"""The command ``virtproof``: doctor, images, clean. A fault is one line, never a traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from virtproof.errors import UsageError, VirtproofError

_INTERRUPTED = 128 + 2  # as a shell reports SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 for a fault, 2 for a wrong use, 130 for Ctrl-C."""
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.call(arguments))
    except VirtproofError as error:
        print(f"virtproof: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing more may be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virtproof",
        description="Conformance of virtio guests; the suites themselves run by pytest.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = subparsers.add_parser("doctor", help="what this machine can do, and how to mend it")
    doctor.add_argument("--json", action="store_true", help="the same, for programs")
    doctor.set_defaults(call=_doctor)
    _add_images(subparsers)
    clean = subparsers.add_parser("clean", help="end and remove what killed runs have left")
    clean.set_defaults(call=_clean)
    return parser


def _add_images(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The images' own commands, unless what they need is not installed yet: the doctor must run."""
    try:
        from virtproof.images import commands
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("virtproof"):
            raise
        return
    commands.add_parser(subparsers).set_defaults(call=commands.main)


def _doctor(arguments: argparse.Namespace) -> int:
    from virtproof import doctor

    return doctor.main(as_json=arguments.json)


def _clean(_: argparse.Namespace) -> int:
    from virtproof.lab import cleanup

    cleaned = cleanup.clean()
    print(f"ended {cleaned.kept} kept labs, removed what {cleaned.dead} dead ones had left")
    return 0

"""The command ``virtproof``: doctor, images, history, export and so on. A fault is one line, no traceback."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Sequence

from virtproof.errors import UsageError, VirtproofError
from virtproof.history import commands as history
from virtproof.report import commands as report
from virtproof.report.export import commands as export
from virtproof.windows import image_command as windows_image
from virtproof.windows import medium_command as virtio_win

_INTERRUPTED = 128 + 2  # as a shell reports SIGINT
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"virtproof: error: {error.strerror}{where}; make room", file=sys.stderr)
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
    export.add_parser(subparsers).set_defaults(call=export.main)
    history.add_parser(subparsers).set_defaults(call=history.main)
    report.add_parsers(subparsers)
    windows_image.add_parser(subparsers).set_defaults(call=windows_image.main)
    virtio_win.add_parser(subparsers).set_defaults(call=virtio_win.main)
    clean = subparsers.add_parser("clean", help="end and remove what killed runs have left")
    clean.add_argument("--libvirt", metavar="URI", help="on this libvirt, instead of in labs")
    clean.add_argument("--pool", metavar="NAME", help="look in this storage pool too")
    clean.add_argument(
        "--run", metavar="ID", help="this run's, though nobody knows that it is dead"
    )
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
    commands.add_parser(subparsers).set_defaults(call=_images)


def _images(arguments: argparse.Namespace) -> int:
    from virtproof.images import commands, installing
    from virtproof.lab.admission import Admission
    from virtproof.runtime import runtime_directory

    gate = Admission(runtime_directory()) if arguments.action == "build" else None
    if arguments.action == "build" and installing.asked(arguments):
        from virtproof.windows.unattended import command

        return command.main(arguments, gate)
    return commands.main(arguments, gate)


def _doctor(arguments: argparse.Namespace) -> int:
    from virtproof import doctor

    return doctor.main(as_json=arguments.json)


def _clean(arguments: argparse.Namespace) -> int:
    from virtproof.images import scratch
    from virtproof.images.cache import Cache, default_cache
    from virtproof.lab import cleanup, notes

    if arguments.libvirt is not None:
        return _clean_libvirt(arguments.libvirt, arguments.pool, arguments.run)
    for name in ("pool", "run"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} goes with --libvirt", hint="a lab is removed whole")
    if default_cache().is_dir():
        Cache(default_cache(), print)  # which removes what killed builders have left
    scratch.sweep()
    cleaned = cleanup.clean()
    print(f"ended {cleaned.kept} kept labs, removed what {cleaned.dead} dead ones had left")
    for uri in notes.left_on():
        print(f"on {uri} runs have left guests: ./run clean --libvirt {shlex.quote(uri)}")
    return 0


def _clean_libvirt(uri: str, pool: str | None, run: str | None) -> int:
    """Remove what dead runs left on a user's libvirt, and name what cannot be told from others'."""
    from virtproof.guest.connection import Connection
    from virtproof.lab import sweeping

    libvirt = Connection(uri)
    if pool is not None:
        libvirt.require_pool(pool)
    if run is not None:
        swept = sweeping.sweep_run(libvirt, uri, run, pool or "")
    else:
        swept = sweeping.sweep(libvirt, uri, kept=True)
    for line in swept.lines(uri, all_strangers=True):
        print(line)
    if not (swept.guests or swept.volumes or swept.faults):
        print(f"nothing on {uri} is known to be a dead run's")
    for name in sweeping.unexplained(libvirt, pool) if pool is not None else ():
        command = shlex.join(["virsh", "-c", uri, "vol-delete", "--pool", str(pool), name])
        print(f"in pool {pool}: {name}, of a run that is not known here; if it is dead: {command}")
    return 1 if swept.faults else 0

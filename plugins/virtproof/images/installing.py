"""The options of ``images build windows``, beside those of other builds; light to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from virtproof.errors import UsageError

WINDOWS = "windows"
# Option -> its value where it was not given.
GIVEN = {
    "iso": None,
    "virtio_win": None,
    "edition": "",
    "product_key_file": None,
    "name": "",
    "disk": "ide",
    "size": 64,
    "deadline": None,
    "accept_licence": False,
}


def add_options(build: argparse.ArgumentParser) -> None:
    """Of the build's parser."""
    group = build.add_argument_group(
        "build windows", "install Windows from its ISO, unattended; see docs/windows.md"
    )
    group.add_argument("--iso", type=Path, metavar="ISO", help="Windows' installation ISO")
    group.add_argument(
        "--virtio-win", type=Path, metavar="ISO|DIR", help="virtio-win's ISO, for drivers and agent"
    )
    group.add_argument(
        "--edition", default="", help="by number or name; needed where it has several"
    )
    group.add_argument(
        "--product-key-file", type=Path, metavar="FILE", help="with your key, mode 600"
    )
    group.add_argument("--name", default="", help="of the image (default: after the edition)")
    group.add_argument("--disk", choices=("ide", "virtio"), default="ide", help="default: ide")
    group.add_argument("--size", type=_size, default=64, metavar="GIB", help="default: 64")
    group.add_argument(
        "--deadline", type=_minutes, metavar="MINUTES", help="default: 120, under emulation 960"
    )
    group.add_argument(
        "--accept-licence",
        action="store_true",
        help="you have read Microsoft's licence terms for this Windows, and accept them",
    )


def asked(arguments: argparse.Namespace) -> bool:
    """Whether a Windows is to be installed. UsageError where its options go with something else."""
    if arguments.names == [WINDOWS]:
        return True
    given = [key for key, value in GIVEN.items() if getattr(arguments, key) != value]
    if WINDOWS in arguments.names:
        raise UsageError("windows is built alone", hint="./run images build windows --iso ISO ...")
    if given:
        option = "--" + given[0].replace("_", "-")
        raise UsageError(f"{option} goes with: images build windows")
    return False


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 2048):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB from 1 to 2048")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0
    if not 0 < minutes <= 10080:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes up to 10080")
    return minutes

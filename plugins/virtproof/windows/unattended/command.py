"""``virtproof images build windows``: its options are in images/installing.py."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from virtproof.errors import UsageError
from virtproof.images.cache import Cache, default_cache
from virtproof.images.prepare import DISK, Gate
from virtproof.images.store import ImageStore
from virtproof.lab.accel import probe
from virtproof.spec import Accel
from virtproof.windows.unattended import install
from virtproof.windows.unattended.install import Order
from virtproof.windows.unattended.machine import LIMITS, minutes

USAGE = "./run images build windows --iso win.iso --virtio-win virtio-win.iso --accept-licence"


def main(arguments: argparse.Namespace, gate: Gate | None = None) -> int:
    """0 where the image is there, 130 after Ctrl-C; errors are one line each."""
    try:
        return _built(arguments, gate)
    except KeyboardInterrupt:
        _say("interrupted; nothing half-made is left")
        return 130


def _built(arguments: argparse.Namespace, gate: Gate | None) -> int:
    order = _order(arguments)
    cache = Cache(arguments.cache or default_cache(), _say)
    planned = install.plan(order, cache)
    _say("libosinfo's answers, corrected:")
    for line in planned.corrected:
        _say(f"  {line}")
    if not planned.payload.agent:
        _say(f"{order.virtio_win}: has no guest agent, and so will the image have none")
    if not planned.product_key:
        _say("no product key: Setup may ask for one on retail media, and then waits for ever")
    accel = _accel(arguments, cache)
    limits = LIMITS[accel]
    if arguments.deadline is not None:
        limits = replace(limits, whole_s=arguments.deadline * 60)
    edition = planned.edition
    version = ".".join(map(str, edition.version))
    _say(
        f"{planned.name}: {edition.name} {version} {edition.arch} {edition.language} on {accel}, "
        f"from {planned.label}; given up after {minutes(limits.whole_s)}"
    )
    item = install.build(planned, cache, accel, gate, limits)
    print(f"{planned.name}: ready, {item.path / DISK}")
    print(f"  its {item.facts['account']}'s password: {item.path / install.PASSWORD}")
    print(f"  ./run conformance -k windows --windows-image {planned.name}")
    return 0


def _order(arguments: argparse.Namespace) -> Order:
    for option in ("iso", "virtio_win"):
        if getattr(arguments, option) is None:
            raise UsageError(f"build windows needs --{option.replace('_', '-')}", hint=USAGE)
    for option in ("jobs", "mirror", "keys", "unsigned"):
        if getattr(arguments, option):
            raise UsageError(f"--{option} is of images that are built from packages or downloaded")
    if not arguments.accept_licence:
        raise UsageError(
            "Windows' licence is not accepted: its terms are on the ISO and on Microsoft's pages",
            hint="who has read and accepts them says --accept-licence",
        )
    return Order(
        arguments.iso,
        arguments.virtio_win,
        arguments.edition,
        arguments.product_key_file,
        arguments.name,
        arguments.disk,
        arguments.size,
    )


def _accel(arguments: argparse.Namespace, cache: Cache) -> Accel:
    if arguments.accel is not None:
        return Accel(arguments.accel)
    kernel = ImageStore(cache.root, Accel.TCG, _say).fetch_probe_kernel()
    return probe(kernel, "auto", cache=cache.root).accel


def _say(line: str) -> None:
    print(f"virtproof: {line}", file=sys.stderr, flush=True)

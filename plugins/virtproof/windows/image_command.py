"""``virtproof windows-image``: could this switched-off Windows boot from virtio? Light to import."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from virtproof.errors import UsageError

NOT_READY = 1


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """The parser of ``windows-image``; ``main`` takes what it parses."""
    parser = subparsers.add_parser(
        "windows-image",
        help="could this switched-off Windows boot from virtio?",
        description="Reads the registry of a Windows on a disk image and says whether the image could boot "
        "from virtio-blk (viostor) or virtio-scsi (vioscsi). The image is never written.",
        epilog="exit status: 0 ready for one of them, 1 for neither or a fault, 2 a wrong use",
    )
    parser.add_argument(
        "image", type=Path, metavar="IMAGE", help="a qcow2 or raw disk, or an installed one's name"
    )
    parser.add_argument(
        "--inject",
        type=Path,
        metavar="VIRTIO_WIN",
        help="first install the drivers of this ISO or directory by virt-v2v-in-place, in an overlay",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OVERLAY",
        help="the overlay that --inject makes (qcow2)",
    )
    parser.add_argument("--json", action="store_true", help="the same, for programs")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 where the image is ready for one of the two, else 1."""
    from virtproof.images import installed
    from virtproof.images.cache import default_cache
    from virtproof.windows import bootstart, image

    named = installed.disk(default_cache(), str(arguments.image))
    arguments.image = named or arguments.image
    if (arguments.inject is None) != (arguments.output is None):
        raise UsageError(
            "--inject and --output go together", hint="--inject virtio-win.iso -o new.qcow2"
        )
    if arguments.inject is not None:
        _inject(arguments)
    facts = image.inspect(arguments.output or arguments.image, overlay=arguments.output is not None)
    findings = bootstart.judge(facts)
    ready = {name: bootstart.ready(findings, name) for name in bootstart.STORAGE_IDS}
    if arguments.json:
        rows = [
            {"check": one.check, "driver": one.driver, "ok": one.ok, "detail": one.detail}
            for one in findings
        ]
        print(json.dumps({"windows": facts.name, "ready": ready, "findings": rows}, indent=2))
    else:
        print(f"{arguments.output or arguments.image}: {facts.name}")
        for one in findings:
            print(f"  {'ok' if one.ok else 'NO':<3} {one.driver:<8} {one.check:<14} {one.detail}")
        for name, is_ready in ready.items():
            print(f"{name}: {'ready to boot from it' if is_ready else 'would not boot from it'}")
    return 0 if any(ready.values()) else NOT_READY


def _inject(arguments: argparse.Namespace) -> None:
    """Make the overlay, and say what virt-v2v warned of and what is known of its version."""
    from virtproof.images.store import ImageStore, default_cache
    from virtproof.lab.accel import probe
    from virtproof.spec import Accel
    from virtproof.windows.appliance import KernelTree
    from virtproof.windows.injection import inject

    def say(line: str) -> None:
        print(f"virtproof: {line}", file=sys.stderr)

    store = ImageStore(default_cache(), Accel.TCG, say)
    accel = probe(store.fetch_probe_kernel(), "auto", cache=default_cache()).accel
    done = inject(
        arguments.image,
        arguments.inject,
        arguments.output,
        lambda scratch: KernelTree(*store.kernel_tree(scratch)),
        kvm=accel is Accel.KVM,
        say=say,
    )
    for line in (*done.warnings, *done.known_faults):
        say(line)

"""``virtproof windows-image``: could this switched-off Windows boot from virtio? Light to import."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a qcow2 or raw disk")
    parser.add_argument("--json", action="store_true", help="the same, for programs")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 where the image is ready for one of the two, else 1."""
    from virtproof.windows import bootstart, image

    facts = image.inspect(arguments.image)
    findings = bootstart.judge(facts)
    ready = {name: bootstart.ready(findings, name) for name in bootstart.STORAGE_IDS}
    if arguments.json:
        rows = [
            {"check": one.check, "driver": one.driver, "ok": one.ok, "detail": one.detail}
            for one in findings
        ]
        print(json.dumps({"windows": facts.name, "ready": ready, "findings": rows}, indent=2))
    else:
        print(f"{arguments.image}: {facts.name}")
        for one in findings:
            print(f"  {'ok' if one.ok else 'NO':<3} {one.driver:<8} {one.check:<14} {one.detail}")
        for name, is_ready in ready.items():
            print(f"{name}: {'ready to boot from it' if is_ready else 'would not boot from it'}")
    return 0 if any(ready.values()) else NOT_READY

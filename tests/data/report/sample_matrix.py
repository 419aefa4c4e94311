"""A made-up matrix: kernels from 5.10 to 7.x in three flavours, with what each lacks, and what is broken.

``python tests/data/report/sample_matrix.py DIRECTORY [old|new]`` writes a run's results and its page.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from virtproof.measure.results import CompatRecord, GuestRecord, RunRecord, TestRecord
from virtproof.measure.store import ResultsWriter, write_run
from virtproof.report.compat.grid import Source
from virtproof.report.compat.page import page_beside

KERNELS = {
    "debian-11": "5.10.0-35-{}amd64",
    "debian-12": "6.1.0-55-{}amd64",
    "debian-13": "6.12.38+deb13-{}amd64",
    "debian-14": "7.0.10-{}amd64",
    "debian-sid": "7.3~rc2-{}amd64",
}
NAMES = {
    "debian-11": "Debian GNU/Linux 11 (bullseye)",
    "debian-12": "Debian GNU/Linux 12 (bookworm)",
    "debian-13": "Debian GNU/Linux 13 (trixie)",
    "debian-14": "Debian GNU/Linux forky/sid",
    "debian-sid": "Debian GNU/Linux forky/sid",
}
FLAVOURS = ("", "cloud-", "rt-")
LACKS = {
    "nic/rtl8139": "8139cp",
    "nic/e1000": "e1000",
    "nic/e1000e": "e1000e",
    "nic/ne2k_pci": "ne2k_pci",
    "nic/pcnet": "pcnet32",
    "disk/scsi": "sym53c8xx",
    "disk/usb": "usb_storage",
}
CHECKS = (
    "boot/pc/ide+rtl8139",
    "boot/pc/virtio+virtio",
    "boot/q35-uefi/virtio+virtio",
    "disk/ide",
    "disk/sata",
    "disk/scsi",
    "disk/usb",
    "disk/nvme",
    "disk/virtio",
    "disk/virtio/legacy",
    "disk/virtio/modern",
    "disk/virtio/packed",
    "disk/virtio-scsi",
    "nic/rtl8139",
    "nic/e1000",
    "nic/e1000e",
    "nic/ne2k_pci",
    "nic/pcnet",
    "nic/vmxnet3",
    "nic/virtio",
    "nic/virtio/modern",
    "root/ide-to-virtio",
    "root/sata-to-virtio",
    "root/ide-to-virtio-scsi",
)
NET = ["NET_F_CSUM", "NET_F_MAC", "NET_F_MRG_RXBUF", "NET_F_STATUS", "F_VERSION_1"]
BLK = ["BLK_F_SEG_MAX", "BLK_F_FLUSH", "BLK_F_DISCARD", "F_VERSION_1"]
DIAGNOSIS = {
    "name": "initramfs-lacks-virtio_blk",
    "line": "ALERT!  UUID=0a5f does not exist.  Dropping to a shell!",
    "source": "console.log:311",
}
RUN = RunRecord(
    {"virtproof": "0.1.0", "python": "3.11", "pytest": "8.3", "libvirt": "9.0.0", "qemu": "7.2.17"},
    {"name": "tcg", "why": "there is no /dev/kvm"},
    {"kernel": "6.1", "distribution": "Debian", "cpus": 2, "memory_mib": 4000, "cpu_model": "x"},
    ["pytest", "suites/matrix"],
    "2025-01-15T09:12:04Z",
    "2025-01-15T10:19:37+00:00",
    {"passed": 0, "failed": 0, "skipped": 0, "error": 0},
    0,
)


def systems() -> list[tuple[str, str]]:
    """Image and kernel: every suite as generic and cloud, and those that have one as rt."""
    found = []
    for image, release in KERNELS.items():
        for flavour in FLAVOURS:
            if flavour == "rt-" and image == "debian-14":
                continue
            name = f"{image}-{flavour}".rstrip("-")
            found.append((name, release.format(flavour)))
    return found


def record(image: str, kernel: str, check: str) -> TestRecord:
    """What the check gave on the kernel."""
    guest = GuestRecord(
        image,
        NAMES.get("-".join(image.partition("@")[0].split("-")[:2]), "Debian"),
        kernel,
        "pc",
        "bios",
        "ide",
        "virtio",
        "tcg",
        1,
        768,
    )
    name = f"suites/matrix/test_matrix.py::test_cell[{image}-{check}]"
    cell = CompatRecord(check, "works", "", features(kernel, check), image)
    found = TestRecord(name, "passed", None, [], guest, None, [], 4.2, None, [], cell)
    lacks = "cloud" in kernel and (LACKS.get(check) or ("8139cp" if "rtl8139" in check else None))
    if "uefi" in check and not image.startswith("debian-1"):
        reason = "no UEFI image of it"
        return replace(
            found,
            outcome="skipped",
            reason=reason,
            guest=None,
            compat=replace(cell, verdict="not-run", reason=reason, features={}),
        )
    if lacks:
        reason = f"{lacks} is neither a module of it nor built in"
        return replace(
            found,
            outcome="skipped",
            reason=f"not supported by this kernel: {reason}",
            guest=None,
            compat=replace(cell, verdict="not-supported", reason=reason, features={}),
        )
    return found


def features(kernel: str, check: str) -> dict[str, list[str]]:
    ring = ["RING_F_INDIRECT_DESC", "RING_F_EVENT_IDX"]
    later = ["F_RING_RESET"] if not kernel.startswith("5.") else []
    if check.startswith(("nic/virtio", "root/")):
        return {"virtio_net": [*NET, *ring, *later]}
    if check.startswith("disk/virtio"):
        packed = ["F_RING_PACKED"] if "packed" in check else []
        return {"virtio_blk": [*BLK, *ring, *later, *packed]}
    return {}


def broken(record: TestRecord, reason: str, diagnosis: dict[str, str] | None = None) -> TestRecord:
    """The same test, had it failed."""
    assert record.compat is not None
    return replace(
        record,
        outcome="failed",
        reason=reason,
        diagnosis=diagnosis,
        evidence=f"evidence/{record.test.partition('[')[2].strip(']').replace('/', '-')}",
        compat=replace(record.compat, verdict="broken", reason=reason, features={}),
    )


def results(kind: str = "new") -> list[TestRecord]:
    """``new``: three cells are broken. ``old``: an older 6.1, with another one broken, without sid."""
    bad = {
        "new": {
            ("debian-sid", "root/ide-to-virtio"): ("the guest did not come up", DIAGNOSIS),
            ("debian-sid", "disk/usb"): ("usb_storage is there, and did not bind", None),
            ("debian-13-rt", "nic/pcnet"): ("the NIC got no address", None),
        },
        "old": {("debian-12", "disk/nvme"): ("a MiB came back otherwise", None)},
    }[kind]
    found = []
    for image, kernel in systems():
        if kind == "old" and image.startswith("debian-sid"):
            continue
        for check in CHECKS:
            here = kernel.replace("6.1.0-55", "6.1.0-54") if kind == "old" else kernel
            one = record(image, here, check)
            told = bad.get((image, check))
            found.append(broken(one, *told) if told else one)
    return found


def run(records: list[TestRecord]) -> RunRecord:
    counts = {name: sum(one.outcome == name for one in records) for name in RUN.counts}
    return replace(RUN, counts=counts, exit_status=int(counts["failed"] > 0))


def write(place: Path, kind: str = "new") -> Source:
    """The run as files, with a directory of evidence for each cell that is broken."""
    found = results(kind)
    with ResultsWriter(place / "results.jsonl") as writer:
        for one in found:
            writer.write(one)
            if one.evidence:
                (place / one.evidence).mkdir(parents=True, exist_ok=True)
    write_run(place / "run.json", run(found))
    source = Source(run(found), found, place)
    page_beside(source)
    return source


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:3])

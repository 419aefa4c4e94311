"""A virtio device outruns the emulated one: ratios with their intervals, all sides in one run.

Never an absolute rate: only what one side says of another that was measured beside it, block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from virtproof.plugin.throughput import Bench, in_words
from virtproof.sides import Side
from virtproof.spec import CacheMode, DataDisk, DiskBus, IoMode, NicModel

DISK_MIB = 128
NETWORK = {"into the guest": ["tcp-to-guest"], "out of the guest": ["tcp-from-guest"]}
DISK = {"reading": ["read-128k", "randread-4k"], "writing": ["write-128k", "randwrite-4k"]}
PLAIN: dict[str, Any] = {"bus": DiskBus.VIRTIO, "cache": CacheMode.NONE, "io": IoMode.NATIVE}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "iothread": {**PLAIN, "iothread": True},
    "queues2": {**PLAIN, "queues": 2},
    "threads": {**PLAIN, "io": IoMode.THREADS},
    "writeback": {"bus": DiskBus.VIRTIO, "cache": CacheMode.WRITEBACK},
    "scsi": {**PLAIN, "bus": DiskBus.VIRTIO_SCSI},
}


@pytest.mark.boots(3)
@pytest.mark.claim("PERF-1")
def test_virtio_nic_outruns_emulated_ones(bench: Bench) -> None:
    """TCP into the guest and out of it: more over virtio than over RTL8139 (beyond quick: and E1000)."""
    sides = [Side(nic.value, {"nic": nic}) for nic in bench.profile.nics]
    match = "virtio", [nic.value for nic in bench.profile.nics if nic is not NicModel.VIRTIO]
    assert bench.outrun(sides, bench.profile.network, match, NETWORK) == []


@pytest.mark.boots(3)
@pytest.mark.claim("PERF-2")
def test_virtio_disk_outruns_ide(bench: Bench) -> None:
    """Reading and writing, sequential and random together, are faster on virtio than on IDE (beyond quick:
    and on SATA). All disks are of one guest; the host's page cache is passed by.
    """
    disks = [
        DataDisk(
            bus, f"work{bus.replace('-', '')}", DISK_MIB, cache=CacheMode.NONE, io=IoMode.NATIVE
        )
        for bus in bench.profile.buses
    ]
    axes = {"data_disks": tuple(disks), "nic": None}
    sides = [Side(disk.bus.value, axes, disk.serial) for disk in disks]
    match = "virtio", [bus.value for bus in bench.profile.buses if not bus.is_virtio]
    assert bench.outrun(sides, bench.profile.disk, match, DISK) == []


@pytest.mark.nightly
@pytest.mark.boots(20)
def test_variants_of_a_virtio_disk(bench: Bench, remark: Callable[[str], None]) -> None:
    """I/O thread, queues, cache modes and virtio-scsi beside a plain virtio-blk disk: told, not judged.

    What must hold is that each of them was measured in every block.
    """
    disks = [
        DataDisk(serial=name, size_mib=DISK_MIB, **fields) for name, fields in VARIANTS.items()
    ]
    axes = {"data_disks": tuple(disks), "nic": None, "cpus": 2}
    bench.measure([Side(disk.serial, axes, disk.serial) for disk in disks], bench.profile.disk)
    told = [bench.against("plain", name) for name in VARIANTS if name != "plain"]
    assert all({one.n for one in found} == {bench.profile.blocks} for found in told)
    changed = [
        one for found in told for one in found if one.verdict in ("regression", "improvement")
    ]
    remark("; ".join(map(in_words, changed)) or "no variant differs from plain virtio-blk")

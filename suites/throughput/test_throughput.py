"""A virtio device outruns the emulated one: ratios with their intervals, all sides in one run.

Never an absolute rate: only what one side says of another that was measured beside it, block by block.
"""

from __future__ import annotations

import pytest

from virtproof.plugin.throughput import Bench
from virtproof.sides import Side
from virtproof.spec import CacheMode, DataDisk, IoMode, NicModel

DISK_MIB = 128
NETWORK = {"into the guest": ["tcp-to-guest"], "out of the guest": ["tcp-from-guest"]}
DISK = {"reading": ["read-128k", "randread-4k"], "writing": ["write-128k", "randwrite-4k"]}


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

"""What LVM2 has at the beginning of a physical volume, written to a file; its own tools want a device."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from string import Template

SECTOR = 512
MIB = 1 << 20
EXTENT_MIB = 4
DATA_MIB = 1  # from the volume's beginning; what lies before it is labels and metadata
AREA = 4096  # where the metadata area begins
MAGIC = b" LVM2 x[5A%r0N*>"
INITIAL = 0xF597A6CF  # of LVM's CRC-32, which has no last inversion
DESCRIPTION = Template("""$group {
id = "$group_id"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = $extent_sectors
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {
pv0 {
id = "$physical_id"
device = "unknown"
status = ["ALLOCATABLE"]
flags = []
dev_size = $sectors
pe_start = $data_sector
pe_count = $extents
}
}

logical_volumes {
$name {
id = "$logical_id"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1

segment1 {
start_extent = 0
extent_count = $root_extents
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}
}
}
}
# made for a guest image
contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "guest"
creation_time = 1
""")


@dataclass(frozen=True, slots=True)
class Volume:
    """A physical volume with one logical volume on it, contiguous from its first extent on.

    ``begin_mib``: where it lies in the disk; ``size_mib`` of it all, ``root_mib`` of the logical volume
    (whole extents of 4 MiB).
    """

    begin_mib: int
    size_mib: int
    root_mib: int
    group: str = "guest"
    name: str = "root"


def write(disk: Path, volume: Volume) -> None:
    """Make the physical volume's label and the group's metadata in the file ``disk``."""
    ids = [_new_id() for _ in range(3)]
    with disk.open("r+b") as file:
        begin = volume.begin_mib * MIB
        file.seek(begin + SECTOR)
        file.write(_label(ids[0], volume.size_mib * MIB))
        file.seek(begin + AREA)
        file.write(_area(metadata(volume, ids)))


def metadata(volume: Volume, ids: list[str]) -> str:
    """The group's description; ``ids`` of the physical volume, the group, the logical volume."""
    physical, group, logical = (_dashed(name) for name in ids)
    return DESCRIPTION.substitute(
        group=volume.group,
        name=volume.name,
        physical_id=physical,
        group_id=group,
        logical_id=logical,
        extent_sectors=EXTENT_MIB * MIB // SECTOR,
        data_sector=DATA_MIB * MIB // SECTOR,
        sectors=volume.size_mib * MIB // SECTOR,
        extents=(volume.size_mib - DATA_MIB) // EXTENT_MIB,
        root_extents=volume.root_mib // EXTENT_MIB,
    )


def checksum(data: bytes) -> int:
    """LVM's own: CRC-32 with another initial value, and not inverted at the end."""
    return zlib.crc32(data, INITIAL ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _label(physical: str, size: int) -> bytes:
    """The sector that scanning looks for, with the physical volume's header behind it."""
    data_areas = struct.pack("<4Q", DATA_MIB * MIB, 0, 0, 0)
    metadata_areas = struct.pack("<4Q", AREA, DATA_MIB * MIB - AREA, 0, 0)
    extension = struct.pack("<2I2Q", 2, 1, 0, 0)  # version 2; in use; no area of a boot loader
    header = physical.encode() + struct.pack("<Q", size) + data_areas + metadata_areas + extension
    summed = struct.pack("<I8s", 32, b"LVM2 001") + header
    summed = summed.ljust(SECTOR - 20, b"\0")
    return struct.pack("<8sQI", b"LABELONE", 1, checksum(summed)) + summed


def _area(text: str) -> bytes:
    """The metadata area: a header of one sector, and the description in the next."""
    data = text.encode() + b"\0"
    location = struct.pack("<2Q2I", SECTOR, len(data), checksum(data), 0)
    summed = MAGIC + struct.pack("<I2Q", 1, AREA, DATA_MIB * MIB - AREA) + location
    summed = summed.ljust(SECTOR - 4, b"\0")
    return struct.pack("<I", checksum(summed)) + summed + data


def _new_id() -> str:
    """32 letters and digits, as LVM names its things."""
    return uuid.uuid4().hex


def _dashed(name: str) -> str:
    """An id as the description has it: 6-4-4-4-4-4-6."""
    ends = (6, 10, 14, 18, 22, 26, 32)
    return "-".join(name[a:b] for a, b in zip((0, *ends), ends, strict=False))

"""What a kernel's files let one expect of a guest, and what of it was not seen: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from virtproof.kernel.features import VERSION_1, legacy, names_of
from virtproof.kernel.support import Support
from virtproof.kernel.table import VirtioDriver

# Every kernel since 5.1 takes these of rings and transport, whatever the driver's table says: indirect
# descriptors, event index, VERSION_1, ACCESS_PLATFORM, RING_PACKED, ORDER_PLATFORM. The others depend on its
# version and on the transport.
SURE = frozenset({28, 29, 32, 33, 34, 36})
RINGS = frozenset(range(28, 50))
# Bits that a driver, or its validation before probing, may drop again though its table has them, and why.
MAY_DROP: dict[str, dict[int, str]] = {
    "virtio_balloon": {
        4: "the guest neither poisons free pages nor clears them",
        5: "the guest wants pages poisoned with a value that the host does not keep",
        28: "from 7.x on, as it must not allocate memory while it gives some back",
        33: "it gives the host addresses, not what an IOMMU maps",
    },
    "virtio_net": {
        3: "the MTU offered is smaller than it may be",
        62: "the device gives no MAC address",
    },
    "virtio_mem": {1: "the kernel was not made to leave unplugged memory alone"},
}


@dataclass(frozen=True, slots=True)
class Expected:
    """``yes``: the kernel has it. ``why`` says from which file that is known."""

    yes: bool
    why: str


@dataclass(frozen=True, slots=True)
class Features:
    """Bits that must be negotiated, and those that may be beside them. ``why`` says what they were made of.
    ``known`` is false where the driver's table could not be read: then ``must`` says nothing."""

    must: frozenset[int]
    may: frozenset[int]
    why: str
    known: bool = True


def driver(kernel: Support, names: Iterable[str]) -> Expected:
    """Whether the kernel has one of the drivers that may drive a device (``DiskBus.IDE.drivers``)."""
    wanted = tuple(names)
    for name in wanted:
        how = kernel.has(name)
        if how == "module":
            return Expected(True, f"{kernel.release} has {kernel.modules[name]}")
        if how == "builtin":
            return Expected(True, f"{kernel.release} has {name} built in")
    return Expected(
        False, f"{kernel.release} has no {' or '.join(wanted)}, built in or as a module"
    )


def features(
    kernel: Support, name: str, device_id: int, offered: Collection[int], *, modern: bool = True
) -> Features:
    """What a virtio driver must and may take of what a device offers.

    ``modern``: the device is driven as of 1.0 (offers F_VERSION_1): then it hides its legacy bits.
    """
    seen = frozenset(offered)
    if modern:
        seen -= legacy(device_id)
    rings = seen & RINGS
    table = kernel.virtio_driver(name)
    if table is None:
        how = (
            "is built in, and a kernel image does not tell its table"
            if kernel.has(name)
            else "is not there"
        )
        return Features(frozenset(), seen, f"{name} of {kernel.release} {how}", known=False)
    own = seen & (table.features if modern else table.legacy)
    drops = frozenset(MAY_DROP.get(name, {}))
    must = (own | (rings & SURE)) - drops
    return Features(must, own | rings, f"offered, and in the table of {kernel.modules[name]}")


def disagreement(expected: Features, negotiated: Collection[int], device_id: int) -> str:
    """What was negotiated against what the files say; empty where both agree."""
    seen = frozenset(negotiated)
    lacks = names_of(device_id, expected.must - seen)
    more = names_of(device_id, seen - expected.may)
    said = [f"does not take {', '.join(lacks)}"] if lacks else []
    said += [f"takes {', '.join(more)}"] if more else []
    return f"{' and '.join(said)}, against: {expected.why}" if said else ""


def reads_as(table: VirtioDriver) -> str:
    """A driver's table as one line of names.

    >>> reads_as(VirtioDriver("virtio_scsi", (8,), frozenset({1, 2}), frozenset({1, 2})))
    'virtio_scsi: SCSI_F_HOTPLUG SCSI_F_CHANGE'
    """
    return f"{table.name}: {' '.join(names_of(table.device_ids[0], table.features))}".rstrip(": ")


def is_modern(offered: Collection[int]) -> bool:
    """Whether a device offers the interface of 1.0."""
    return VERSION_1 in offered

"""Virtio feature bits by name and back: of each device type, and of every device's rings and transport.

Names are those of the virtio specification (1.4) without ``VIRTIO_``: ``NET_F_MAC``, ``BLK_F_FLUSH``,
``F_VERSION_1``; a bit that has no name here is ``bit 70``. Where Linux or the specification's first edition
says it otherwise (``RING_F_EVENT_IDX``), ``bit_of`` knows that name too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from types import MappingProxyType

from virtproof.errors import UsageError

VERSION_1 = 32

# Of every device: bits 24 to 49 are kept for rings and transport.
_COMMON = {
    24: "F_NOTIFY_ON_EMPTY",
    27: "F_ANY_LAYOUT",
    28: "F_INDIRECT_DESC",
    29: "F_EVENT_IDX",
    30: "F_UNUSED",
    32: "F_VERSION_1",
    33: "F_ACCESS_PLATFORM",
    34: "F_RING_PACKED",
    35: "F_IN_ORDER",
    36: "F_ORDER_PLATFORM",
    37: "F_SR_IOV",
    38: "F_NOTIFICATION_DATA",
    39: "F_NOTIF_CONFIG_DATA",
    40: "F_RING_RESET",
    41: "F_ADMIN_VQ",
}

# Device type (number) -> bit -> name.
_OF_TYPE: dict[int, dict[int, str]] = {
    1: {
        0: "NET_F_CSUM",
        1: "NET_F_GUEST_CSUM",
        2: "NET_F_CTRL_GUEST_OFFLOADS",
        3: "NET_F_MTU",
        5: "NET_F_MAC",
        6: "NET_F_GSO",
        7: "NET_F_GUEST_TSO4",
        8: "NET_F_GUEST_TSO6",
        9: "NET_F_GUEST_ECN",
        10: "NET_F_GUEST_UFO",
        11: "NET_F_HOST_TSO4",
        12: "NET_F_HOST_TSO6",
        13: "NET_F_HOST_ECN",
        14: "NET_F_HOST_UFO",
        15: "NET_F_MRG_RXBUF",
        16: "NET_F_STATUS",
        17: "NET_F_CTRL_VQ",
        18: "NET_F_CTRL_RX",
        19: "NET_F_CTRL_VLAN",
        20: "NET_F_CTRL_RX_EXTRA",
        21: "NET_F_GUEST_ANNOUNCE",
        22: "NET_F_MQ",
        23: "NET_F_CTRL_MAC_ADDR",
        50: "NET_F_DEVICE_STATS",
        51: "NET_F_HASH_TUNNEL",
        52: "NET_F_VQ_NOTF_COAL",
        53: "NET_F_NOTF_COAL",
        54: "NET_F_GUEST_USO4",
        55: "NET_F_GUEST_USO6",
        56: "NET_F_HOST_USO",
        57: "NET_F_HASH_REPORT",
        59: "NET_F_GUEST_HDRLEN",
        60: "NET_F_RSS",
        61: "NET_F_RSC_EXT",
        62: "NET_F_STANDBY",
        63: "NET_F_SPEED_DUPLEX",
        65: "NET_F_GUEST_UDP_TUNNEL_GSO",
        66: "NET_F_GUEST_UDP_TUNNEL_GSO_CSUM",
        67: "NET_F_HOST_UDP_TUNNEL_GSO",
        68: "NET_F_HOST_UDP_TUNNEL_GSO_CSUM",
        69: "NET_F_OUT_NET_HEADER",
    },
    2: {
        0: "BLK_F_BARRIER",
        1: "BLK_F_SIZE_MAX",
        2: "BLK_F_SEG_MAX",
        4: "BLK_F_GEOMETRY",
        5: "BLK_F_RO",
        6: "BLK_F_BLK_SIZE",
        7: "BLK_F_SCSI",
        9: "BLK_F_FLUSH",
        10: "BLK_F_TOPOLOGY",
        11: "BLK_F_CONFIG_WCE",
        12: "BLK_F_MQ",
        13: "BLK_F_DISCARD",
        14: "BLK_F_WRITE_ZEROES",
        15: "BLK_F_LIFETIME",
        16: "BLK_F_SECURE_ERASE",
        17: "BLK_F_ZONED",
    },
    3: {0: "CONSOLE_F_SIZE", 1: "CONSOLE_F_MULTIPORT", 2: "CONSOLE_F_EMERG_WRITE"},
    5: {
        0: "BALLOON_F_MUST_TELL_HOST",
        1: "BALLOON_F_STATS_VQ",
        2: "BALLOON_F_DEFLATE_ON_OOM",
        3: "BALLOON_F_FREE_PAGE_HINT",
        4: "BALLOON_F_PAGE_POISON",
        5: "BALLOON_F_PAGE_REPORTING",
    },
    8: {0: "SCSI_F_INOUT", 1: "SCSI_F_HOTPLUG", 2: "SCSI_F_CHANGE", 3: "SCSI_F_T10_PI"},
    9: {0: "9P_MOUNT_TAG"},
    16: {
        0: "GPU_F_VIRGL",
        1: "GPU_F_EDID",
        2: "GPU_F_RESOURCE_UUID",
        3: "GPU_F_RESOURCE_BLOB",
        4: "GPU_F_CONTEXT_INIT",
    },
    19: {0: "VSOCK_F_STREAM", 1: "VSOCK_F_SEQPACKET", 2: "VSOCK_F_NO_IMPLIED_STREAM"},
    20: {
        0: "CRYPTO_F_REVISION_1",
        1: "CRYPTO_F_CIPHER_STATELESS_MODE",
        2: "CRYPTO_F_HASH_STATELESS_MODE",
        3: "CRYPTO_F_MAC_STATELESS_MODE",
        4: "CRYPTO_F_AEAD_STATELESS_MODE",
        5: "CRYPTO_F_AKCIPHER_STATELESS_MODE",
    },
    23: {
        0: "IOMMU_F_INPUT_RANGE",
        1: "IOMMU_F_DOMAIN_RANGE",
        2: "IOMMU_F_MAP_UNMAP",
        3: "IOMMU_F_BYPASS",
        4: "IOMMU_F_PROBE",
        5: "IOMMU_F_MMIO",
        6: "IOMMU_F_BYPASS_CONFIG",
    },
    24: {
        0: "MEM_F_ACPI_PXM",
        1: "MEM_F_UNPLUGGED_INACCESSIBLE",
        2: "MEM_F_PERSISTENT_SUSPEND",
    },
    25: {0: "SND_F_CTLS"},
    26: {0: "FS_F_NOTIFICATION"},
    27: {0: "PMEM_F_SHMEM_REGION"},
    32: {0: "SCMI_F_P2A_CHANNELS", 1: "SCMI_F_SHARED_MEMORY"},
    34: {0: "I2C_F_ZERO_LENGTH_REQUEST"},
    40: {
        0: "BT_F_VND_HCI",
        1: "BT_F_MSFT_EXT",
        2: "BT_F_AOSP_EXT",
        3: "BT_F_CONFIG_V2",
    },
    41: {0: "GPIO_F_IRQ"},
}

# Other names of the same bits: Linux's, and those of earlier editions.
ALIASES = MappingProxyType(
    {
        "RING_F_INDIRECT_DESC": "F_INDIRECT_DESC",
        "RING_F_EVENT_IDX": "F_EVENT_IDX",
        "F_RING_INDIRECT_DESC": "F_INDIRECT_DESC",
        "F_RING_EVENT_IDX": "F_EVENT_IDX",
        "F_BAD_FEATURE": "F_UNUSED",
        "F_IOMMU_PLATFORM": "F_ACCESS_PLATFORM",
        "BLK_F_WCE": "BLK_F_FLUSH",
        "BALLOON_F_REPORTING": "BALLOON_F_PAGE_REPORTING",
    }
)
# What a device offers to a legacy driver alone; a driver that takes F_VERSION_1 is not shown them.
_LEGACY = frozenset({24, 27, 30})
_LEGACY_OF_TYPE = {1: frozenset({6}), 2: frozenset({0, 7})}
_BIT = re.compile(r"bit (\d{1,4})")


def common() -> MappingProxyType[int, str]:
    """The bits of rings and transport, which mean the same of every device."""
    return MappingProxyType(_COMMON)


def of_type(device_id: int) -> MappingProxyType[int, str]:
    """The bits of a device type's own, by its number (1 is the network); none where it has none."""
    return MappingProxyType(_OF_TYPE.get(device_id, {}))


def name_of(device_id: int, bit: int) -> str:
    """A bit's name on a device of that type.

    >>> name_of(1, 5), name_of(2, 5), name_of(2, 32), name_of(4, 70)
    ('NET_F_MAC', 'BLK_F_RO', 'F_VERSION_1', 'bit 70')
    """
    return _COMMON.get(bit) or _OF_TYPE.get(device_id, {}).get(bit) or f"bit {bit}"


def names_of(device_id: int, bits: Iterable[int]) -> tuple[str, ...]:
    """The names of bits, in the order of the bits.

    >>> names_of(8, {32, 1, 28})
    ('SCSI_F_HOTPLUG', 'F_INDIRECT_DESC', 'F_VERSION_1')
    """
    return tuple(name_of(device_id, bit) for bit in sorted(set(bits)))


def bit_of(name: str) -> int:
    """The bit of a name, with or without ``VIRTIO_``; UsageError with the nearest name for none.

    >>> bit_of("NET_F_MAC"), bit_of("VIRTIO_F_VERSION_1"), bit_of("RING_F_EVENT_IDX"), bit_of("bit 70")
    (5, 32, 29, 70)
    """
    if match := _BIT.fullmatch(name):
        return int(match[1])
    plain = name.removeprefix("VIRTIO_")
    known = {text: bit for bits in (_COMMON, *_OF_TYPE.values()) for bit, text in bits.items()}
    found = known.get(ALIASES.get(plain, plain))
    if found is None:
        near = difflib.get_close_matches(plain, [*known, *ALIASES], n=1)
        hint = f"did you mean {near[0]}?" if near else "as NET_F_MAC"
        raise UsageError(f"no virtio feature is called {name!r}", hint=hint)
    return found


def legacy(device_id: int) -> frozenset[int]:
    """Bits that a device offers, but not to a driver of the specification 1.0 and later.

    >>> names_of(1, legacy(1))
    ('NET_F_GSO', 'F_NOTIFY_ON_EMPTY', 'F_ANY_LAYOUT', 'F_UNUSED')
    """
    return _LEGACY | _LEGACY_OF_TYPE.get(device_id, frozenset())

"""Virtio devices of a guest: type, driver, negotiated features, status, transport. Source: sysfs.

Numbers and names are those of the virtio specification 1.2: device types (5), status (2.1), PCI
device IDs and capabilities (4.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record

TYPES = {
    1: "net",
    2: "block",
    3: "console",
    4: "entropy",
    5: "balloon",
    8: "scsi",
    9: "9p",
    16: "gpu",
    18: "input",
    19: "vsock",
    20: "crypto",
    23: "iommu",
    24: "mem",
    25: "sound",
    26: "fs",
    27: "pmem",
    29: "wlan",
    32: "scmi",
    34: "i2c",
    35: "watchdog",
    36: "can",
    40: "bluetooth",
    41: "gpio",
}
STATUS = {
    1: "ACKNOWLEDGE",
    2: "DRIVER",
    4: "DRIVER_OK",
    8: "FEATURES_OK",
    64: "DEVICE_NEEDS_RESET",
    128: "FAILED",
}
VERSION_1 = 32  # feature bit: the device is driven as the specification 1.0 and later says

_SCRIPT = r"""
for d in /sys/bus/virtio/devices/*; do
  [ -e "$d/device" ] || continue
  rec virtio "${d##*/}"
  first type "$d/device"; first status "$d/status"; first features "$d/features"
  link driver "$d/driver"; real path "$d"
  first pci_id "$d/../device"
  [ ! -r "$d/../config" ] || say config "$(od -An -v -tx1 "$d/../config" 2>/dev/null | tr -d ' \n')"
done
"""


class Transport(StrEnum):
    """What a device offers its driver: only the old interface, both, or only that of 1.0."""

    LEGACY = "legacy"
    TRANSITIONAL = "transitional"
    MODERN = "modern"


@dataclass(frozen=True, slots=True)
class VirtioDevice:
    """A virtio device. ``features`` are the bits negotiated with the driver, none without one."""

    name: str
    device_id: int
    type: str
    driver: str | None
    status: frozenset[str]
    features: frozenset[int]
    pci_address: str | None
    transport: Transport


class VirtioProbe:
    """The guest's virtio devices. One command, kept until ``refresh``."""

    def __init__(self, runner: Runner) -> None:
        self._facts = Facts(runner, "virtio", _SCRIPT)

    def refresh(self) -> None:
        self._facts.refresh()

    @property
    def devices(self) -> tuple[VirtioDevice, ...]:
        """Every device, by name.

        >>> for d in virtio.devices: print(d.name, d.device_id, d.type, d.driver, d.transport)
        virtio0 2 block virtio_blk transitional
        virtio1 8 scsi virtio_scsi modern
        virtio2 2 block virtio_blk legacy
        virtio3 1 net virtio_net transitional
        virtio4 4 entropy virtio_rng transitional
        >>> sorted(virtio.devices[0].status)
        ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK']
        """
        return tuple(_device(record) for record in self._facts.of_kind("virtio"))

    def of_type(self, name: str) -> tuple[VirtioDevice, ...]:
        """Devices of a type by name, as ``net``, ``block``, ``scsi``."""
        return tuple(device for device in self.devices if device.type == name)


def _device(record: Record) -> VirtioDevice:
    device_id = record.number("type", 16)
    status = record.number("status", 16)
    features = feature_bits(record.text("features"))
    addresses = re.findall(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", record.text("path"))
    return VirtioDevice(
        name=record.name,
        device_id=device_id,
        type=TYPES.get(device_id, f"type-{device_id}"),
        driver=record.get("driver"),
        status=frozenset(name for bit, name in STATUS.items() if status & bit),
        features=features,
        pci_address=addresses[-1] if addresses else None,
        transport=_transport(record, features),
    )


def feature_bits(text: str) -> frozenset[int]:
    """The numbers of the bits set in sysfs' string, whatever its length: bit 0 is the first."""
    if re.fullmatch("[01]+", text) is None:
        raise CommandError(f"virtio features are {text[:80]!r}, expected a string of 0 and 1")
    return frozenset(number for number, bit in enumerate(text) if bit == "1")


def _transport(record: Record, features: frozenset[int]) -> Transport:
    pci_id = record.get("pci_id")
    if pci_id is not None and int(pci_id, 16) >= 0x1040:
        return Transport.MODERN
    config = record.get("config") or ""
    if re.fullmatch("([0-9a-f]{2}){64,}", config):
        offers_both = has_virtio_capability(bytes.fromhex(config))
    else:  # no PCI, or no od in the guest: the negotiated bit shows it once a driver is bound
        offers_both = VERSION_1 in features
    if pci_id is None:
        return Transport.MODERN if offers_both else Transport.LEGACY
    return Transport.TRANSITIONAL if offers_both else Transport.LEGACY


def has_virtio_capability(config: bytes) -> bool:
    """Whether a PCI configuration space lists a vendor capability (0x09), the interface of 1.0."""
    if not config[0x06] & 0x10:
        return False
    at, seen = config[0x34] & ~3, set[int]()
    while 0x40 <= at < len(config) - 1 and at not in seen:
        if config[at] == 0x09:
            return True
        seen.add(at)
        at = config[at + 1] & ~3
    return False

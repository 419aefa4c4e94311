"""What a virtio device offers, as QEMU's monitor tells it (``x-query-virtio-status``, since QEMU 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from virtproof.errors import CommandError, UsageError
from virtproof.kernel.features import bit_of

UNKNOWN = ("unknown-dev-features", "unknown-dev-features2")  # bits 0 to 63, and those above


def offered_bits(status: Mapping[str, Any]) -> frozenset[int]:
    """The bits a device offers. CommandError where QEMU's answer has another shape, or an unknown name.

    >>> sorted(offered_bits({"host-features": {
    ...     "transports": ["VIRTIO_RING_F_EVENT_IDX: Used & avail. event fields enabled"],
    ...     "dev-features": ["VIRTIO_BLK_F_FLUSH: Flush command supported"], "unknown-dev-features": 8}}))
    [3, 9, 29]
    """
    told = status.get("host-features")
    if not isinstance(told, Mapping) or not isinstance(told.get("transports"), list):
        raise CommandError(
            f"QEMU tells no host-features of a virtio device, but {str(status)[:120]}"
        )
    found = set()
    for line in [*told["transports"], *told.get("dev-features", [])]:
        name = str(line).partition(":")[0]
        if name.startswith("VIRTIO_"):  # others are between QEMU and its back end
            try:
                found.add(bit_of(name))
            except UsageError as error:
                raise CommandError(f"QEMU offers {name}: {error}") from None
    for place, key in enumerate(UNKNOWN):
        number = int(told.get(key, 0))
        found |= {64 * place + bit for bit in range(64) if number >> bit & 1}
    return frozenset(found)

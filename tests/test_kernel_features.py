"""Feature bits and their names: held against a real guest's recording and against the headers of Linux."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from test_probe_replay import ReplayRunner
from virtproof.errors import UsageError
from virtproof.kernel import features
from virtproof.kernel.features import bit_of, common, legacy, name_of, names_of, of_type
from virtproof.probe.virtio import TYPES, VirtioProbe

HEADERS = Path("/usr/include/linux")
DEFINED = re.compile(
    r"^\s*#define\s+VIRTIO_((?!TRANSPORT)(?:[A-Z0-9]+_)?F_[A-Z0-9_]+|9P_MOUNT_TAG)\s+(\d+)\b",
    re.MULTILINE,
)
NOT_A_FEATURE = re.compile(
    r"(HDR|ATTACH|MAP|FAULT|DISCARD|WRITE_ZEROES|BLK_REQ|ID|MSI)_F_|_F_(START|END)$"
)


def test_samples() -> None:
    failed, tried = doctest.testmod(features)
    assert (failed, tried > 3) == (0, True)


def test_a_real_guests_bits_have_these_names() -> None:
    named = {
        device.name: names_of(device.device_id, device.features)
        for device in VirtioProbe(ReplayRunner("virtio")).devices
    }
    transport = ("F_INDIRECT_DESC", "F_EVENT_IDX", "F_VERSION_1")
    assert named["virtio0"] == (
        *("BLK_F_SEG_MAX", "BLK_F_GEOMETRY", "BLK_F_BLK_SIZE", "BLK_F_FLUSH"),
        *("BLK_F_TOPOLOGY", "BLK_F_CONFIG_WCE", "BLK_F_DISCARD", "BLK_F_WRITE_ZEROES"),
        *(*transport, "F_RING_RESET"),
    )
    assert named["virtio1"] == ("SCSI_F_HOTPLUG", "SCSI_F_CHANGE", *transport, "F_RING_RESET")
    assert {"NET_F_MAC", "NET_F_STATUS", "NET_F_CTRL_VQ"} <= set(named["virtio3"])
    assert "F_VERSION_1" not in named["virtio2"]  # a legacy disk


def defined_by_linux() -> dict[str, int]:
    """Name without VIRTIO_ -> bit, of every feature in the headers installed here."""
    found: dict[str, int] = {}
    for header in sorted(HEADERS.glob("virtio_*.h")):
        for name, bit in DEFINED.findall(header.read_text(encoding="utf-8", errors="replace")):
            if not NOT_A_FEATURE.search(name):
                found[name] = int(bit)
    return found


@pytest.mark.skipif(
    not (HEADERS / "virtio_net.h").exists(), reason="no headers of Linux: install linux-libc-dev"
)
def test_linux_headers_name_the_same_bits() -> None:
    defined = defined_by_linux()
    assert len(defined) > 80
    known = {}
    for name in defined:
        try:
            known[name] = bit_of(name)
        except UsageError:  # newer headers than this table
            continue
    assert known == {name: defined[name] for name in known}
    assert len(known) > 0.8 * len(defined)


def test_names_are_unique_and_go_there_and_back() -> None:
    tables = [common(), *(of_type(number) for number in range(64))]
    names = [name for table in tables for name in table.values()]
    assert len(names) == len(set(names)) > 100
    for number in TYPES:
        for bit, name in {**common(), **of_type(number)}.items():
            assert name_of(number, bit) == name
            assert bit_of(name) == bit_of(f"VIRTIO_{name}") == bit
        assert not set(common()) & set(of_type(number))


def test_bits_without_a_name_keep_their_number() -> None:
    assert names_of(1, {31, 90, 0}) == ("NET_F_CSUM", "bit 31", "bit 90")
    assert name_of(4711, 3) == "bit 3"
    assert bit_of(name_of(4711, 90)) == 90


def test_a_mistyped_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="NET_F_MACC.*did you mean NET_F_MAC"):
        bit_of("NET_F_MACC")


def test_legacy_bits() -> None:
    assert names_of(2, legacy(2)) == (
        *("BLK_F_BARRIER", "BLK_F_SCSI"),
        *("F_NOTIFY_ON_EMPTY", "F_ANY_LAYOUT", "F_UNUSED"),
    )

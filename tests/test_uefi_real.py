"""A guest on UEFI for real, where its image is built: it boots by OVMF, and its variables go with it."""

from __future__ import annotations

import pytest
from lxml import etree

from virtproof.guest.connection import Connection
from virtproof.guest.guest import Guest
from virtproof.images import catalog
from virtproof.images.store import ImageStore, PreparedImage, default_cache
from virtproof.lab import PrivateLab
from virtproof.spec import Accel, DiskBus, Firmware, GuestSpec, Machine

pytestmark = [pytest.mark.real, pytest.mark.boots(1)]
IMAGE = "debian-12-uefi"
SPEC = GuestSpec(
    image=IMAGE,
    accel=Accel.TCG,
    machine=Machine.Q35,
    firmware=Firmware.UEFI,
    disk=DiskBus.SATA,
    nic=None,
)


@pytest.fixture
def image() -> PreparedImage:
    store = ImageStore(default_cache(), Accel.TCG)
    key = store.prepared_key(catalog.builds()[IMAGE])
    if key not in [path.name for path in store.cache.items("prepared")]:
        pytest.skip(f"{IMAGE} is not built: ./run images build {IMAGE}")
    return store.prepared(IMAGE)


def test_it_boots_by_uefi_and_its_variables_go_with_it(
    living: tuple[PrivateLab, Connection], image: PreparedImage
) -> None:
    lab, connection = living
    assert image.firmware is Firmware.UEFI
    with Guest(SPEC, image, lab, connection) as guest:
        guest.define().boot()
        assert guest.runner.run("findmnt -no FSTYPE /boot/efi").stdout == "vfat\n"
        assert guest.runner.run("test -d /sys/firmware/efi && echo efi").stdout == "efi\n"
        assert guest.block.root_disk.driver == "ahci"
        variables = etree.fromstring(guest.domain.xml()).findtext("os/nvram") or ""
        assert lab.run("test", "-s", variables).status == 0, variables
    assert lab.run("test", "-e", variables).status != 0

"""Guests with nothing wrong: the harness raises no alarm."""

from __future__ import annotations

import pytest

from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DataDisk, DiskBus, NicModel

pytestmark = [pytest.mark.real, pytest.mark.boots(1)]
NICS = tuple(NicModel)
BUSES = tuple(DiskBus)


@pytest.mark.sample
@pytest.mark.trial("healthy", "none ({healthy})")
def test_healthy(guest_on: GuestFactory, healthy: int, noted: dict[str, str]) -> None:
    """Over NICs and data disks of all kinds; each tenth one boots anew first."""
    guest = guest_on(
        disk=DiskBus.IDE,
        nic=NICS[healthy % len(NICS)],
        data_disks=(DataDisk(BUSES[healthy // len(NICS) % len(BUSES)], "data"),),
    )
    if healthy % 10 == 9:
        guest.reboot()
    found = guest.check_up().complaints
    noted.update(by="check-up", name=found[0].name if found else "nothing", line=str(found or ""))
    assert found == ()
    assert guest.ssh.run("echo well").stdout == "well\n"

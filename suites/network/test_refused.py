"""When the hypervisor refuses, its log is where the reason is."""

from __future__ import annotations

import pytest
from lxml import etree

from virtproof.guest.failure import BootFailedError
from virtproof.plugin.guests import GuestFactory

MISSING_ROM = "/nonexistent/virtproof.rom"


@pytest.mark.claim("NET-5")
def test_log_of_a_refused_start_is_quoted(defined_guest: GuestFactory) -> None:
    """QEMU refuses a NIC whose option ROM is missing: the verdict quotes the line that says so."""
    guest = defined_guest()

    def edit(xml: str) -> str:
        tree = etree.fromstring(xml)
        rom = tree.find("devices/interface/rom")
        assert rom is not None
        rom.attrib.clear()
        rom.set("file", MISSING_ROM)
        return etree.tostring(tree, encoding="unicode")

    guest.edit(edit)
    with pytest.raises(BootFailedError) as failed:
        guest.boot()
    assert failed.value.diagnosis.name == "qemu-refused"
    assert MISSING_ROM in failed.value.diagnosis.line
    assert MISSING_ROM in guest.lab.qemu_log(guest.name)

"""What the harness in a guest runs, beside its accelerator's own test; given by its path.

Not collected otherwise, hence its name: to level 1 it is a file that is handed over. No more boots
than a switch needs: where level 1 is emulated, each takes minutes.
"""

from __future__ import annotations

import pytest
from suites.transition.test_root_disk import prepared

from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DiskBus


@pytest.mark.usefixtures("ide_image")
def test_root_moves_to_virtio_on_nested_kvm(guest_on: GuestFactory) -> None:
    """A guest of a guest, on KVM, boots from vda after one switch from IDE."""
    guest = prepared(guest_on(disk=DiskBus.IDE))
    assert guest.block.root_disk.driver in DiskBus.IDE.drivers
    guest.switch(disk=DiskBus.VIRTIO)
    assert "<domain type='kvm'" in guest.domain.xml()
    assert guest.block.root_disk.driver == "virtio_blk"
    assert guest.block.root_disk.name == "vda"

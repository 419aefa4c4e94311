"""The NIC moves from RTL8139 to virtio and the network works on."""

from __future__ import annotations

import pytest
from suites.network.test_network import exchange

from virtproof.guest.failure import BootFailedError
from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DiskBus, NicModel


@pytest.mark.boots(2)
@pytest.mark.claim("NET-2", "NET-3")
@pytest.mark.usefixtures("ide_image")
def test_switched_nic_works(guest_on: GuestFactory) -> None:
    """Address, gateway and payload both ways, before and after; the MAC stays."""
    guest = guest_on(disk=DiskBus.IDE, nic=NicModel.RTL8139)
    before = guest.net.by_mac(guest.mac)
    assert before.driver in NicModel.RTL8139.drivers
    exchange(guest.ssh)
    guest.switch(nic=NicModel.VIRTIO)
    exchange(guest.ssh)
    after = guest.net.by_mac(guest.mac)
    assert after.driver == "virtio_net"
    assert guest.address() in after.addresses
    assert guest.net.gateway
    facts = guest.host.interface(after.name)
    assert guest.address() in facts.addresses
    assert not guest.host.file("/sys/bus/pci/drivers/8139cp/bind").is_symlink


@pytest.mark.boots(2)
@pytest.mark.claim("NET-2")
@pytest.mark.usefixtures("ide_image")
def test_switched_nic_without_its_driver_is_named(guest_on: GuestFactory) -> None:
    """Control: with virtio_net kept from loading, the switched NIC is dead and named so."""
    guest = guest_on(disk=DiskBus.IDE, nic=NicModel.RTL8139)
    if guest.kernel.builtin("virtio_net"):
        pytest.skip("virtio_net is built into this kernel: it cannot be kept from loading")
    guest.runner.run("echo 'install virtio_net /bin/false' > /etc/modprobe.d/virtproof.conf")
    guest.switch(nic=NicModel.VIRTIO)
    with pytest.raises(BootFailedError) as failed:
        guest.ssh.run("true")
    assert failed.value.diagnosis.name == "nic-driver-missing"

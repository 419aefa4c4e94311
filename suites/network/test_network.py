"""A virtio NIC works: both directions, its counters, MTU, link state, hot-add."""

from __future__ import annotations

import base64
import hashlib
import random
import re

import pytest
from lxml import etree

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import LabError
from virtproof.guest.domain_xml import interface, text
from virtproof.guest.guest import Guest
from virtproof.guest.shell import Runner
from virtproof.lab.base import Lab
from virtproof.lab.network import BRIDGE
from virtproof.spec import NicModel

PAYLOAD_BYTES = 1 << 20
QUIET_BYTES = 64 * 1024  # what DHCP, ARP and neighbour discovery may add beside the payload
SECOND_MAC = "52:54:00:5e:c0:2d"
HEADERS = 28  # IPv4 and ICMP


def exchange(runner: Runner, size: int = PAYLOAD_BYTES) -> None:
    """Send bytes to the guest and fetch them back over its NIC; both must arrive as they left."""
    sent = random.Random(size).randbytes(size)
    runner.put("/run/payload", sent)
    digest = runner.run("sha256sum /run/payload").stdout.split()[0]
    assert digest == hashlib.sha256(sent).hexdigest()
    back = runner.run("base64 -w 0 /run/payload").stdout
    assert base64.b64decode(back, validate=True) == sent


@pytest.mark.claim("NET-1")
def test_model_survives_the_round_trip(virtio_guest: Guest) -> None:
    """``<model type='virtio'/>`` stands in the live XML and in that of the next start."""
    for inactive in (False, True):
        tree = etree.fromstring(virtio_guest.domain.xml(inactive=inactive))
        assert tree.xpath("string(devices/interface/model/@type)") == "virtio"


@pytest.mark.claim("NET-2")
def test_mac_is_as_configured(virtio_guest: Guest) -> None:
    """The guest's NIC carries the MAC of the domain XML, and has its address by DHCP."""
    nic = virtio_guest.net.by_mac(virtio_guest.mac)
    assert nic.carrier
    assert virtio_guest.address() in nic.addresses


@pytest.mark.claim("NET-2", "NET-4")
def test_counters_move_with_traffic(virtio_guest: Guest) -> None:
    """Bytes sent to and from the guest show in the counters below the virtio device."""
    runner = virtio_guest.ssh
    before = virtio_guest.net.by_mac(virtio_guest.mac)
    exchange(runner)
    after = virtio_guest.net.by_mac(virtio_guest.mac)
    assert "/virtio" in after.statistics_path
    assert after.counters["rx_bytes"] - before.counters["rx_bytes"] >= PAYLOAD_BYTES
    assert after.counters["tx_bytes"] - before.counters["tx_bytes"] >= PAYLOAD_BYTES * 4 // 3


@pytest.mark.claim("NET-4")
def test_counters_rest_without_traffic(virtio_guest: Guest) -> None:
    """Control: commands over the serial port leave the NIC's counters where they are."""
    before = virtio_guest.net.by_mac(virtio_guest.mac).counters
    virtio_guest.runner.run("head -c 262144 /dev/zero | tr '\\0' x")
    after = virtio_guest.net.by_mac(virtio_guest.mac).counters
    for name in ("rx_bytes", "tx_bytes"):
        assert after[name] - before[name] < QUIET_BYTES


@pytest.fixture
def mtu(virtio_guest: Guest, lab: Lab):  # a function, typed within
    """Sets the MTU of the whole path, guest's NIC to bridge; back to 1500 afterwards."""
    nic = virtio_guest.net.by_mac(virtio_guest.mac).name
    tap = re.search(r"<target dev='(\w+)'/>\s*<model type='virtio'/>", virtio_guest.domain.xml())
    assert tap is not None

    def change(size: int) -> None:
        try:
            for device in (tap[1], BRIDGE):
                assert lab.run("ip", "link", "set", device, "mtu", str(size)).status == 0
        except LabError as error:
            pytest.skip(f"the host's side of the network is not ours to change: {error}")
        virtio_guest.runner.run("ip link set %s mtu %s", nic, size)

    yield change
    change(1500)


def ping(guest: Guest, size: int) -> int:
    """Status of one unfragmented ping of ``size`` bytes to the gateway, headers included."""
    gateway = guest.net.gateway or ""
    command = "ping -c 1 -W 5 -M do -s %s %s"
    return guest.runner.run(command, size - HEADERS, gateway, check=False).status


@pytest.mark.claim("NET-2")
@pytest.mark.parametrize("size", [576, 1500, 9000])
def test_mtu_is_usable_to_its_last_byte(virtio_guest: Guest, mtu, size: int) -> None:
    """A packet of exactly the MTU passes; control: one byte more does not."""
    mtu(size)
    assert ping(virtio_guest, size) == 0
    assert ping(virtio_guest, size + 1) != 0


@pytest.mark.claim("NET-2")
def test_link_goes_down_and_comes_back(virtio_guest: Guest) -> None:
    """A link cut by the host is seen by the guest, carries nothing, and works again once restored."""
    guest = virtio_guest
    xml = etree.fromstring(guest.domain.xml()).find("devices/interface")
    assert xml is not None

    def set_link(state: str) -> None:
        for old in xml.findall("link"):
            xml.remove(old)
        etree.SubElement(xml, "link", state=state)
        guest.domain.update(text(xml))

    def carrier(wanted: bool) -> bool | None:
        return True if guest.net.by_mac(guest.mac).carrier == wanted else None

    set_link("down")
    try:
        assert wait_for(lambda: carrier(False), Deadline.after(10 * guest.scale), 0.2)
        assert ping(guest, 100) != 0
    finally:
        set_link("up")
    assert wait_for(lambda: carrier(True), Deadline.after(10 * guest.scale), 0.2)
    gateway_back = wait_for(lambda: guest.net.gateway, Deadline.after(20 * guest.scale), 0.5)
    assert gateway_back
    assert ping(guest, 100) == 0


@pytest.mark.claim("NET-2", "NET-3")
def test_hot_added_nic_works(virtio_guest: Guest) -> None:
    """A virtio NIC added to the running guest is bound, gets an address, and goes when removed."""
    guest = virtio_guest
    nic = interface(NicModel.VIRTIO, SECOND_MAC, guest.lab.network, isolated=guest.isolated)
    device = text(nic)
    guest.domain.attach(device)

    def found() -> bool | None:
        return True if any(nic.mac == SECOND_MAC for nic in guest.net.nics) else None

    try:
        assert wait_for(found, Deadline.after(10 * guest.scale), 0.3)
        assert guest.net.by_mac(SECOND_MAC).driver == "virtio_net"
        assert guest.address(SECOND_MAC)
    finally:
        guest.domain.detach(device)
    gone = wait_for(lambda: None if found() else True, Deadline.after(10 * guest.scale), 0.3)
    assert gone, "the guest did not give the NIC back"

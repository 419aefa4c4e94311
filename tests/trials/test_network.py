"""Defects of the network: of the guest, of the wire, of who serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from lxml import etree
from seeding import edited, tap_of

from virtproof.deadline import Deadline, wait_for
from virtproof.diagnose.evidence import Diagnosis
from virtproof.guest.domain_xml import text
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.lab.network import network_xml

pytestmark = [pytest.mark.real, pytest.mark.boots(1)]
Complains = Callable[..., Diagnosis]


def nic(guest: Guest) -> str:
    """The NIC's name, once it has its address."""
    assert guest.address()
    return guest.net.by_mac(guest.mac).name


@contextlib.contextmanager
def neighbour(guest: Guest, address: str, mtu: int = 1500) -> Iterator[None]:
    """Another machine on the lab's bridge: a network namespace on a link of that MTU."""
    steps = (
        f"ip link add trial0 mtu {mtu} type veth peer name trial1 mtu {mtu}",
        "ip link set trial0 master virtproof0 up",
        "ip netns add trial",
        "ip link set trial1 netns trial",
        f"ip -n trial address add {address}/24 dev trial1",
        "ip -n trial link set trial1 up",
    )
    try:
        for step in steps:
            done = guest.lab.run(*step.split())
            assert done.status == 0, f"{step}: {done.stderr}"
        yield
    finally:
        guest.lab.run("ip", "link", "del", "trial0")
        guest.lab.run("ip", "netns", "del", "trial")


@pytest.mark.trial("network", "the way to the gateway carries less than the NIC's MTU")
def test_mtu(virtio_nic: Guest, complains: Complains) -> None:
    nic(virtio_nic)
    with neighbour(virtio_nic, "198.18.0.251", mtu=1200):
        virtio_nic.runner.run("ip route replace default via 198.18.0.251")
        complains("mtu-mismatch", virtio_nic)


@pytest.mark.trial("network", "another machine has the guest's address")
def test_duplicate_address(virtio_nic: Guest, complains: Complains) -> None:
    nic(virtio_nic)
    with neighbour(virtio_nic, virtio_nic.address()):
        complains("duplicate-address", virtio_nic)


@pytest.mark.boots(2)
@pytest.mark.trial("network", "nobody serves DHCP")
def test_dead_dhcp(ide: Guest, complains: Complains) -> None:
    tree = etree.fromstring(network_xml())
    name = f"silent-{ide.name[-6:]}"
    tree.find("name").text = name  # type: ignore[union-attr]
    tree.find("bridge").set("name", name[:15])  # type: ignore[union-attr]
    ip = tree.find("ip")
    assert ip is not None
    ip.set("address", "198.18.9.1")
    ip.remove(ip.find("dhcp"))  # type: ignore[arg-type]
    ide.connection.start_network(text(tree))
    edited(ide, lambda domain: domain.find("devices/interface/source").set("network", name))
    ide.boot()
    complains("no-address", ide)


@pytest.mark.boots(2)
@pytest.mark.trial("network", "the guest configures a NIC by the name that it had on another bus")
def test_stale_interface_name(ide: Guest, complains: Complains) -> None:
    found = ide.runner.run(
        "name=$(ls /sys/class/net | grep -v lo); "
        "rm -f /etc/netplan/* /etc/systemd/network/* /run/systemd/network/* "
        "/etc/network/interfaces.d/*; echo $name; "
        "printf '[Match]\\nName=enp9s9\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/10-trial.network; "
        "printf 'auto lo\\niface lo inet loopback\\nallow-hotplug enp9s9\\niface enp9s9 inet dhcp\\n' "
        ">/etc/network/interfaces"
    )
    assert found.stdout
    ide.reboot()
    complains("no-address", ide)


@pytest.mark.sample
@pytest.mark.trial("network", "one packet of twenty is dropped")
def test_packet_loss(virtio_nic: Guest, complains: Complains) -> None:
    virtio_nic.runner.run("tc qdisc add dev %s root netem loss 5%%", nic(virtio_nic))
    complains("packet-loss", virtio_nic)


@pytest.mark.trial("network", "the link flaps")
def test_link_flaps(virtio_nic: Guest, complains: Complains) -> None:
    name = nic(virtio_nic)
    for state in ("down", "up") * 6:
        set_link(virtio_nic, state)
        carrier = "1" if state == "up" else "0"
        seen = "read -r c </sys/class/net/%s/carrier && [ $c = %s ]"

        def shown(seen: str = seen, carrier: str = carrier) -> bool | None:
            return virtio_nic.runner.run(seen, name, carrier, check=False).status == 0 or None

        assert wait_for(shown, Deadline.after(10 * virtio_nic.scale), 0.05)
    complains("link-flaps", virtio_nic)


@pytest.mark.trial("network", "the link is down")
def test_link_is_down(virtio_nic: Guest, complains: Complains) -> None:
    nic(virtio_nic)
    set_link(virtio_nic, "down")
    complains("link-down", virtio_nic)


def set_link(guest: Guest, state: str) -> None:
    xml = etree.fromstring(guest.domain.xml()).find("devices/interface")
    assert xml is not None
    for old in xml.findall("link"):
        xml.remove(old)
    etree.SubElement(xml, "link", state=state)
    guest.domain.update(text(xml))


@pytest.mark.trial("network", "the NIC is throttled to 2 Mbit/s on the host")
def test_throttled_nic(virtio_nic: Guest, complains: Complains) -> None:
    nic(virtio_nic)
    shape = f"tc qdisc add dev {tap_of(virtio_nic)} root tbf rate 2mbit burst 8k latency 2s"
    done = virtio_nic.lab.run(*shape.split())
    assert done.status == 0, done.stderr
    complains("nic-slow", virtio_nic)


@pytest.mark.trial("access", "sshd does not run")
def test_sshd_is_down(ide: Guest, caught: Complains) -> None:
    ide.runner.run("systemctl disable --now ssh ssh.socket 2>&1; systemctl mask ssh", check=False)
    refused(ide, caught)


@pytest.mark.trial("access", "another key is authorized")
def test_wrong_key(ide: Guest, caught: Complains) -> None:
    ide.runner.run(
        "ssh-keygen -q -t ed25519 -N '' -f /run/other && cp /run/other.pub /root/.ssh/authorized_keys"
    )
    refused(ide, caught)


def refused(guest: Guest, caught: Complains) -> None:
    with pytest.raises(BootFailedError) as failed:
        _ = guest.ssh
    caught("ssh-refused", failed.value.diagnosis, "ssh")

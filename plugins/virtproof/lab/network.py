"""The lab's own network: a bridge with DHCP, in the range set aside for benchmarks.

What keeps guests in is the lab's network namespace, which has no way out; so libvirt is told to leave
the firewall alone (mode ``open``), and the lab needs no iptables.
"""

from __future__ import annotations

from lxml import etree

NETWORK = "virtproof"
BRIDGE = "virtproof0"
GATEWAY = "198.18.0.1"  # RFC 2544: 198.18.0.0/15 is never routed
NETMASK = "255.255.255.0"
FIRST, LAST = "198.18.0.10", "198.18.0.250"


def why_together(name: str, xml: str) -> str:
    """Why a network of the user's cannot keep its guests apart (XML of libvirt); empty where it can."""
    network = etree.fromstring(xml)
    kind = network.find("virtualport")
    if network.find("bridge") is None or (kind is not None and kind.get("type") == "openvswitch"):
        return f"network {name!r} is not a bridge of Linux's own"
    return ""


def network_xml() -> str:
    """libvirt network XML: bridge, DHCP, no DNS (guests have nothing to look up)."""
    network = etree.Element("network")
    etree.SubElement(network, "name").text = NETWORK
    etree.SubElement(network, "forward", mode="open")
    etree.SubElement(network, "bridge", name=BRIDGE, stp="off", delay="0")
    etree.SubElement(network, "dns", enable="no")
    ip = etree.SubElement(network, "ip", address=GATEWAY, netmask=NETMASK)
    dhcp = etree.SubElement(ip, "dhcp")
    etree.SubElement(dhcp, "range", start=FIRST, end=LAST)
    return etree.tostring(network, pretty_print=True).decode()

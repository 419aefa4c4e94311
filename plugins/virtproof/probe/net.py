"""Network cards of a guest: driver, address, link, counters. Source: sysfs, procfs and ``ip``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_INET = re.compile(r"\d+: (?P<nic>[^\s@:]+)(@\S+)? +inet (?P<address>\d+\.\d+\.\d+\.\d+)[/ ]")

# A card without a driver has no network device; so the PCI side is told apart. On virtio the
# driver of the virtio device behind the PCI function counts: virtio-pci alone moves no packet.
_SCRIPT = r"""
for d in /sys/class/net/*; do
  [ -e "$d/device" ] || continue
  rec nic "${d##*/}"
  first mac "$d/address"; first mtu "$d/mtu"
  first operstate "$d/operstate"; first carrier "$d/carrier"
  link driver "$d/device/driver"; link bus "$d/device/subsystem"; real path "$d/device"
  real statistics "$d/statistics"
  for s in "$d"/statistics/*; do first "c_${s##*/}" "$s"; done
done
for d in /sys/bus/pci/devices/*; do
  class=; [ -r "$d/class" ] && read -r class <"$d/class"
  case $class in 0x02*) ;; *) continue;; esac
  rec card "${d##*/}"
  first vendor "$d/vendor"; first device "$d/device"
  below=$d
  for v in "$d"/virtio*; do [ -e "$v/device" ] && { below=$v; say virtio "${v##*/}"; }; done
  link driver "$below/driver"
done
rec ip addresses
ip -o -4 addr show 2>/dev/null | while IFS= read -r line; do say line "$line"; done
rec ip routes
first byteorder /sys/kernel/cpu_byteorder
while read -r nic to via rest; do say route "$nic $to $via"; done </proc/net/route
"""


@dataclass(frozen=True, slots=True)
class Nic:
    """A network device with hardware below it, as it was when it was read.

    ``mac`` is in lower case; ``mtu`` in bytes; ``carrier`` None while the device is down;
    ``counters`` are the kernel's (rx_bytes, tx_packets, ...); ``statistics_path`` is the directory
    they were read from, all links resolved.
    """

    name: str
    mac: str
    driver: str | None
    pci_address: str | None
    mtu: int
    operstate: str
    carrier: bool | None
    virtio: bool
    addresses: tuple[str, ...]
    counters: Mapping[str, int]
    statistics_path: str


class NetProbe:
    """The guest's network cards. Links, leases and counters move, so each property reads anew."""

    def __init__(self, runner: Runner) -> None:
        self._facts = Facts(runner, "net", _SCRIPT)

    def _fresh(self) -> Facts:
        self._facts.refresh()
        return self._facts

    @property
    def nics(self) -> tuple[Nic, ...]:
        """Every network device that has hardware, by name.

        >>> for n in net.nics: print(n.name, n.mac, n.driver, n.virtio, n.addresses, n.mtu)
        ens3 52:54:00:00:00:01 8139cp False ('10.0.2.15',) 1500
        """
        facts = self._fresh()
        addresses = _addresses(facts)
        return tuple(_nic(record, addresses) for record in facts.of_kind("nic"))

    def by_mac(self, mac: str) -> Nic:
        """The card of that MAC address; CommandError that lists those there are, driverless too.

        >>> net.by_mac("52:54:00:00:00:01").driver
        '8139cp'
        """
        nics = self.nics
        for nic in nics:
            if nic.mac == mac.lower():
                return nic
        there = ", ".join(f"{nic.name} {nic.mac}" for nic in nics) or "none"
        raise CommandError(
            f"the guest has no network device of MAC {mac}",
            hint=f"network devices: {there}; cards: {_cards(self._facts) or 'none'}",
        )

    @property
    def gateway(self) -> str | None:
        """IPv4 address of the default gateway, None where there is none.

        >>> net.gateway
        '10.0.2.2'
        """
        routes = _one_named(self._fresh(), "routes")
        # the kernel prints the address as one number of its own byte order
        order = -1 if (routes.get("byteorder") or "little") == "little" else 1
        for line in routes.all("route"):
            parts = line.split()
            if len(parts) != 3 or parts[1] != "00000000" or parts[2] == "00000000":
                continue
            if re.fullmatch("[0-9A-F]{8}", parts[2]):
                return str(IPv4Address(bytes.fromhex(parts[2])[::order]))
        return None

    @property
    def nic_facts(self) -> str:
        """One line a network card on PCI, driven or not, as ``diagnose`` reads them.

        >>> print(net.nic_facts)
        0000:00:03.0 10ec:8139 8139cp
        """
        return _cards(self._fresh())


def _cards(facts: Facts) -> str:
    lines = []
    for card in facts.of_kind("card"):
        vendor, device = card.number("vendor", 16), card.number("device", 16)
        lines.append(f"{card.name} {vendor:04x}:{device:04x} {card.get('driver') or '-'}")
    return "\n".join(lines)


def _one_named(facts: Facts, name: str) -> Record:
    for record in facts.of_kind("ip"):
        if record.name == name:
            return record
    raise CommandError(f"probe net: no record 'ip {name}'")


def _addresses(facts: Facts) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in _one_named(facts, "addresses").all("line"):
        match = _INET.match(line)
        if match is None:
            raise CommandError(
                f"`ip -o -4 addr` said {line[:80]!r}, expected 'N: NAME inet A.B.C.D/P'"
            )
        name = match["nic"]
        found[name] = (*found.get(name, ()), match["address"])
    return found


def _nic(record: Record, addresses: Mapping[str, tuple[str, ...]]) -> Nic:
    pci = _PCI_ADDRESS.findall(record.get("path") or "")
    carrier = record.get("carrier")
    return Nic(
        name=record.name,
        mac=record.text("mac").lower(),
        driver=record.get("driver"),
        pci_address=pci[-1] if pci else None,
        mtu=record.number("mtu"),
        operstate=record.text("operstate"),
        carrier=None if carrier is None else carrier == "1",
        virtio=record.get("bus") == "virtio",
        addresses=addresses.get(record.name, ()),
        counters={k[2:]: record.number(k) for k in record.fields if k.startswith("c_")},
        statistics_path=record.text("statistics"),
    )

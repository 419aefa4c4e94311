"""The probes of a guest, made when first asked for and dropped when it boots or changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lxml import etree

from virtproof.errors import GuestError
from virtproof.guest.domain import Domain
from virtproof.guest.domain_xml import ROOT_SERIAL
from virtproof.guest.shell import Runner
from virtproof.kernel.files import GuestFiles
from virtproof.kernel.offered import offered_bits
from virtproof.kernel.support import Support, support
from virtproof.probe.block import BlockProbe
from virtproof.probe.initramfs import InitramfsProbe
from virtproof.probe.kernel import KernelProbe
from virtproof.probe.net import NetProbe
from virtproof.probe.pci import PciProbe
from virtproof.probe.system import SystemProbe
from virtproof.probe.virtio import VirtioProbe

P = TypeVar("P")
PLACE = ("bus", "slot", "function")
LIST_JOBS = "command -v systemctl >/dev/null && systemctl list-jobs --no-legend --no-pager --full"


class Probes:
    """Facts of a guest, one topic a property. What it needs of a guest: a runner and a domain."""

    _kept: dict[str, object]

    def forget_probes(self) -> None:
        """Ask the guest anew from here on."""
        self._kept = {}

    @property
    def runner(self) -> Runner:
        """The channel that probes ask over."""
        raise NotImplementedError

    @property
    def domain(self) -> Domain:
        """The domain, as libvirt has it."""
        raise NotImplementedError

    def _probe(self, kind: type[P], make: Callable[[Runner], P]) -> P:
        if kind.__name__ not in self._kept:
            self._kept[kind.__name__] = make(self.runner)
        found = self._kept[kind.__name__]
        assert isinstance(found, kind)
        return found

    @property
    def block(self) -> BlockProbe:
        return self._probe(BlockProbe, BlockProbe)

    @property
    def net(self) -> NetProbe:
        return self._probe(NetProbe, NetProbe)

    @property
    def pci(self) -> PciProbe:
        return self._probe(PciProbe, PciProbe)

    @property
    def kernel(self) -> KernelProbe:
        return self._probe(KernelProbe, KernelProbe)

    @property
    def support(self) -> Support:
        """What the running kernel supports, read from its files and not from what it does."""
        if "support" not in self._kept:
            self._kept["support"] = support(GuestFiles(self.runner))
        found = self._kept["support"]
        assert isinstance(found, Support)
        return found

    def offered(self) -> dict[str, frozenset[int]]:
        """The feature bits that QEMU offers by each virtio device, by its PCI address in the guest.

        RefusedError where QEMU does not tell (before 7.2).
        """
        tree = etree.fromstring(self.domain.xml())
        found = {}
        for device in self.domain.monitor("x-query-virtio", {}):
            path = device["path"]
            for owner in tree.findall("devices/*"):
                alias, place = owner.find("alias"), owner.find("address[@type='pci']")
                if alias is None or place is None or alias.get("name") != path.split("/")[-2]:
                    continue
                bus, slot, part = (int(place.get(key, "0"), 16) for key in PLACE)
                status = self.domain.monitor("x-query-virtio-status", {"path": path})
                found[f"0000:{bus:02x}:{slot:02x}.{part:x}"] = offered_bits(status)
        return found

    @property
    def virtio(self) -> VirtioProbe:
        return self._probe(VirtioProbe, VirtioProbe)

    @property
    def system(self) -> SystemProbe:
        return self._probe(SystemProbe, SystemProbe)

    @property
    def initramfs(self) -> InitramfsProbe:
        """The initramfs of the running kernel."""
        release = self.kernel.release
        return self._probe(InitramfsProbe, lambda runner: InitramfsProbe(runner, release))

    @property
    def root_target(self) -> str:
        """libvirt's ``<target dev=...>`` of the root disk: the one with serial ``root``."""
        return self._disk_fact(ROOT_SERIAL, "target/@dev")

    def data_path(self, serial: str) -> str:
        """Path, as QEMU sees it, of the data disk with that serial."""
        return self._disk_fact(serial, "source/@file")

    def target_of(self, serial: str) -> str:
        """libvirt's ``<target dev=...>`` of the disk with that serial."""
        return self._disk_fact(serial, "target/@dev")

    def nic_facts(self) -> str:
        """One line a NIC: PCI address, ids, driver; empty where the guest does not say."""
        try:
            return self.net.nic_facts
        except GuestError:
            return ""

    def jobs(self) -> str:
        """systemd's unfinished jobs, a line each; empty where the guest does not say."""
        try:
            said = self.runner.run(LIST_JOBS, check=False).stdout
        except GuestError:
            return ""
        return "\n".join(" ".join(line.split()) for line in said.splitlines())

    def _disk_fact(self, serial: str, path: str) -> str:
        """A string below the ``<disk>`` with that serial, in the XML of the guest's next start."""
        tree = etree.fromstring(self.domain.xml(inactive=True))
        return str(tree.xpath(f"string(devices/disk[serial=$serial]/{path})", serial=serial))


def identity(runner: Runner) -> tuple[str, str]:
    """Distribution and kernel as the guest names them, asked with one command."""
    said = runner.run('. /etc/os-release; echo "$PRETTY_NAME"; uname -r', check=False).stdout
    name, _, kernel = said.partition("\n")
    return name.strip()[:200], kernel.strip()[:200]

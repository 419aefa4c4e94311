"""The check-up of a guest that runs: what its probes, its lab and libvirt know, and what is wrong with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxml import etree

from virtproof.deadline import Deadline, wait_for
from virtproof.diagnose.checkup import Vitals, complaints
from virtproof.diagnose.evidence import Diagnosis
from virtproof.errors import LabError
from virtproof.lab import neighbours
from virtproof.lab.network import BRIDGE, GATEWAY
from virtproof.probe.exercise import ExerciseProbe
from virtproof.probe.health import HealthProbe

if TYPE_CHECKING:
    from virtproof.guest.guest import Guest

LEASE_S = 5.0  # on KVM; scaled to the accelerator. E1000's link alone takes two
POLL_S = 0.2
FLUSHED_MIB = 1


@dataclass(frozen=True, slots=True)
class CheckUp:
    """``complaints``: what is wrong, the likeliest cause first; empty for a guest in good health."""

    vitals: Vitals
    complaints: tuple[Diagnosis, ...]

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The likeliest cause, None where there is nothing to complain of."""
        return self.complaints[0] if self.complaints else None

    def as_dict(self) -> dict[str, Any]:
        """For ``check-up.json``."""
        return {"complaints": [c.as_dict() for c in self.complaints], "vitals": asdict(self.vitals)}

    def __str__(self) -> str:
        return "\n".join(f"{c.name}: {c.line}" for c in self.complaints) or "in good health"


def check_up(guest: Guest) -> CheckUp:
    """Examine a guest that is up: some seconds. Disks get back what stood on them.

    GuestError where the guest goes away meanwhile, CommandError where it talks nonsense.
    """
    has_nic = any(link.mac == guest.mac for link in HealthProbe(guest.runner).links)
    lease = guest.address(timeout_s=LEASE_S) if has_nic else None  # a link may still come up
    before = time.time()
    health = HealthProbe(guest.runner)
    said = health.epoch_s  # which asks
    now = (before + time.time()) / 2
    links = tuple(link for link in health.links if link.mac == guest.mac)
    gateway = _gateway(guest) if lease else ""
    exercise = ExerciseProbe(guest.runner, gateway, links[0].mtu if links else 0)
    return _judged(
        Vitals(
            needed=needed_functions(guest.domain.xml()),
            functions=health.functions,
            kernel_errors=health.kernel_errors,
            disks=exercise.disks,
            root=health.root,
            links=links,
            lease=lease,
            answered_by=_answering(guest, lease or ""),
            path=exercise.path,
            virtio=health.virtio,
            clock_s=said - now,
            failed_units=health.failed_units,
        )
    )


def after_power_cut(guest: Guest, serial: str, while_off: Callable[[], None]) -> CheckUp:
    """Write to a data disk and flush, pull the plug, boot, and look whether it is there.

    ``while_off`` is called while the guest is off. What stood at the disk's beginning is lost.
    """
    disk = f"/dev/{guest.block.disk_by_serial(serial).name}"
    fill = "head -c %s /dev/urandom >/run/flushed; dd if=/run/flushed of=%s conv=fsync 2>&1"
    guest.runner.run(fill, FLUSHED_MIB << 20, disk)
    written = guest.runner.run("sha256sum </run/flushed").stdout
    guest.power_cut()
    while_off()
    guest.boot()
    disk = f"/dev/{guest.block.disk_by_serial(serial).name}"
    read = guest.runner.run("head -c %s %s | sha256sum", FLUSHED_MIB << 20, disk).stdout
    return _judged(Vitals(flush_lost="" if read == written else disk.rpartition("/")[2]))


def needed_functions(domain_xml: str) -> Mapping[str, str]:
    """PCI addresses, as Linux writes them, that a running domain's disks and NICs hang on: ``disk``, ``nic``.

    Those of bus 0 only: which number a guest gives to another bus is its own affair.
    """
    devices = etree.fromstring(domain_xml).find("devices")
    assert devices is not None
    found: dict[str, str] = {}
    for disk in devices.findall("disk[@device='disk']"):
        bus = disk.find("target").get("bus", "")  # type: ignore[union-attr]  # libvirt's XML has one
        holder = disk if bus == "virtio" else _controller(devices, disk, bus)
        found.update(dict.fromkeys(_pci_address(holder), "disk"))
    for nic in devices.findall("interface"):
        found.update(dict.fromkeys(_pci_address(nic), "nic"))
    return found


def _controller(devices: etree._Element, disk: etree._Element, bus: str) -> etree._Element | None:
    address = disk.find("address")
    index = address.get("controller", "0") if address is not None else "0"
    return devices.find(f"controller[@type='{bus}'][@index='{index}']")


def _pci_address(device: etree._Element | None) -> list[str]:
    address = device.find("address[@type='pci']") if device is not None else None
    if address is None:
        return []
    parts = [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
    return ["{:04x}:{:02x}:{:02x}.{:x}".format(*parts)] if parts[1] == 0 else []


def _gateway(guest: Guest) -> str:
    """The guest's default gateway, which it has a moment after its lease; empty where it has none."""
    deadline = Deadline.after(LEASE_S * guest.scale)
    return wait_for(lambda: guest.net.gateway, deadline, POLL_S) or ""


def _answering(guest: Guest, address: str) -> tuple[str, ...]:
    """MACs that answer for the guest's address; empty where the lab's network is not ours to ask."""
    if not address:
        return ()
    script = str(Path(neighbours.__file__))
    try:
        said = guest.lab.run(sys.executable, "-I", script, BRIDGE, GATEWAY, address)
    except LabError:
        return ()
    return tuple(said.stdout.split()) if said.status == 0 else ()


def _judged(vitals: Vitals) -> CheckUp:
    return CheckUp(vitals, complaints(vitals))

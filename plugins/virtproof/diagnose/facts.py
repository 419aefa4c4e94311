"""The evidence as fields of text: those of ``Evidence`` as they are, and what follows from them.

Derived fields, so that the table of patterns stays data:

- ``root_bus``: bus of the root disk by the domain XML (``virtio``, ``ide``, ``sata``, ``scsi``,
  ``virtio-scsi``); without the XML, ``virtio`` where the root's target is a vdX; else empty.
- ``first_disk``: ``root`` or ``other``, by what the domain XML boots first; empty where unknown.
- ``stop``: QEMU's GUEST_PANICKED as one line, ``hyper-v 0x0000007b INACCESSIBLE_BOOT_DEVICE ...``; from
  libvirt's line about it in QEMU's log, where nobody heard the event.
- ``screen_stop``: the stop that a display shows, ``windows 0x0000007b INACCESSIBLE_BOOT_DEVICE``; else empty.
- ``agent``: ``yes``, ``no`` or empty. ``ssh``: ``yes``, ``no: REASON`` or empty.
- ``lease``: the address, ``none`` where it was waited for in vain, or empty.
"""

from __future__ import annotations

import json
import re
from typing import Final
from xml.etree import ElementTree

from virtproof.diagnose.evidence import Evidence
from virtproof.diagnose.windows import screen_stop, stop_name

#: Field of the table -> what a diagnosis calls its source.
SOURCES: Final[dict[str, str]] = {
    "console": "console",
    "shell_answers": "shell",
    "qemu_log": "qemu.log",
    "host_log": "host.log",
    "domain_xml": "domain.xml",
    "root_target": "domain.xml",
    "libvirt_error": "libvirt",
    "domain_state": "libvirt",
    "domain_reason": "libvirt",
    "nic_facts": "nic_facts",
    "jobs": "systemctl list-jobs",
    "root_bus": "domain.xml",
    "first_disk": "domain.xml",
    "stop": "guest_panicked",
    "screen_stop": "screenshot",
    "agent": "agent",
    "lease": "address",
    "ssh": "ssh",
}
FIELDS: Final = tuple(SOURCES)
# "2026-11-25 13:00:00.000+0000: panic hyper-v: arg1='0x7b', arg2='0xfffff', ...", as libvirt writes it.
_PANIC: Final = re.compile(
    r": panic hyper-v: "
    + ", ".join(rf"arg{number}='0x([0-9a-f]{{1,16}})'" for number in range(1, 6))
)


def fields(evidence: Evidence) -> dict[str, str]:
    """Every field of the table, as text."""
    agent = {True: "yes", False: "no", None: ""}[evidence.agent_answered]
    lease = "" if evidence.address is None else evidence.address or "none"
    ssh = {None: "", "": "yes"}.get(evidence.ssh_error, f"no: {evidence.ssh_error}")
    domain = _domain(evidence.domain_xml)
    return {
        "console": evidence.console,
        "shell_answers": evidence.shell_answers,
        "qemu_log": evidence.qemu_log,
        "host_log": evidence.host_log,
        "domain_xml": evidence.domain_xml,
        "root_target": evidence.root_target,
        "libvirt_error": evidence.libvirt_error,
        "domain_state": evidence.domain_state,
        "domain_reason": evidence.domain_reason,
        "nic_facts": evidence.nic_facts,
        "jobs": evidence.jobs,
        "root_bus": _root_bus(domain, evidence.root_target),
        "first_disk": _first_disk(domain, evidence.root_target),
        "stop": _logged_stop(evidence.qemu_log) or _stop(evidence.guest_panicked),
        "screen_stop": screen_stop(evidence.screen),
        "agent": agent,
        "lease": lease,
        "ssh": ssh,
    }


def _domain(xml: str) -> ElementTree.Element | None:
    """The parsed domain; None for what is no XML, and for a DTD, which libvirt never writes."""
    if not xml or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return None
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None


def _target(disk: ElementTree.Element) -> ElementTree.Element:
    target = disk.find("target")
    return target if target is not None else ElementTree.Element("target")


def _root_bus(domain: ElementTree.Element | None, root_target: str) -> str:
    disks = domain.findall("./devices/disk") if domain is not None else []
    for disk in disks:
        if _target(disk).get("dev") == root_target and (bus := _target(disk).get("bus")):
            return _scsi_kind(domain, disk) if bus == "scsi" else bus
    return "virtio" if root_target.startswith("vd") else ""


def _scsi_kind(domain: ElementTree.Element | None, disk: ElementTree.Element) -> str:
    """``virtio-scsi`` or ``scsi``, by the controller that the disk's address names."""
    address = disk.find("address")
    index = address.get("controller", "0") if address is not None else "0"
    controllers = domain.findall("./devices/controller[@type='scsi']") if domain is not None else []
    models = {c.get("index", "0"): c.get("model", "") for c in controllers}
    return "virtio-scsi" if models.get(index, "").startswith("virtio") else "scsi"


def _first_disk(domain: ElementTree.Element | None, root_target: str) -> str:
    """By ``<boot order>``; without one, libvirt boots the first of the hard disks that it lists."""
    if domain is None or not root_target:
        return ""
    disks = domain.findall("./devices/disk")
    ordered = [(boot.get("order", ""), d) for d in disks if (boot := d.find("boot")) is not None]
    numbered = [(int(order), d) for order, d in ordered if order.isdecimal()]
    hard = [d for d in disks if d.get("device", "disk") == "disk"]
    first = min(numbered, key=lambda pair: pair[0])[1] if numbered else next(iter(hard), None)
    if first is None:
        return ""
    return "root" if _target(first).get("dev") == root_target else "other"


def _logged_stop(qemu_log: str) -> str:
    """Of the latest stop that libvirt wrote into the log; empty where it wrote none."""
    found = _PANIC.findall(qemu_log)
    return _line([int(code, 16) for code in found[-1]]) if found else ""


def _line(codes: list[int]) -> str:
    shown = ", ".join(f"0x{code:x}" for code in codes[1:])
    return f"hyper-v 0x{codes[0]:08x} {stop_name(codes[0])} ({shown})"


def _stop(panicked: str) -> str:
    """``{"type": "hyper-v", "arg1": 123, ...}``, bare or below ``info``, as one line."""
    if not panicked:
        return ""
    try:
        event = json.loads(panicked)
    except ValueError:
        return "unreadable"
    info = event.get("info", event) if isinstance(event, dict) else None
    if isinstance(info, dict) and info.get("type") == "windows":
        return "windows without a code: the pvpanic device tells none"
    if not isinstance(info, dict) or info.get("type") != "hyper-v":
        return "panicked"
    codes = [info.get(f"arg{i}") for i in range(1, 6)]
    if not isinstance(codes[0], int):
        return "hyper-v without a code"
    return _line([code for code in codes if isinstance(code, int)])

"""A machine with a Windows, as far as a switch to virtio goes: a model, and no Windows.

It has the one rule that matters: a disk's driver that no device was there for when it was installed is not
started at boot, and the next boot from such a disk stops.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from virtproof.errors import CommandError, GuestError
from virtproof.windows.iso import Medium
from virtproof.windows.online.probes import Windows
from virtproof.windows.online.runner import name_of

MAC = "52:54:00:00:00:01"
IDS = {
    "viostor": r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
    "vioscsi": r"PCI\VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00",
    "netkvm": r"PCI\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00",
}
OLD_NIC = r"PCI\VEN_10EC&DEV_8139&SUBSYS_11001AF4&REV_20\3&1"
NEW_NIC = IDS["netkvm"] + r"\3&1"
VERSIONS = {0: "100.2.0.0", 1: "100.1.0.0"}
ADDRESS = {"ip": "192.0.2.7", "prefix": 24, "origin": "Manual"}
DHCP = {"ip": "198.18.0.9", "prefix": 24, "origin": "Dhcp"}


class Stopped(GuestError):  # noqa: N818  # as the real machine's BootFailedError
    """The simulated Windows does not come up."""


@dataclass
class Defects:
    """What is wrong with this Windows, or what its tools do not do; each by the check that must see it."""

    wrong_version: bool = False
    unsigned: bool = False
    problem: bool = False
    override: bool = False
    old_nic_stays: bool = False
    address_lost: bool = False
    crash: bool = False
    test_signing: bool = False
    stays_on_ide: bool = False
    nic_without_driver: bool = False
    not_installed: bool = False
    stays_in_safe_mode: bool = False


@dataclass
class Simulated:
    """The machine and its Windows. ``root`` is the disk's driver; ``cd`` the number of the medium in it."""

    media: tuple[Medium, ...] = ()
    target: str = "viostor"
    with_nic: bool = True
    defects: Defects = field(default_factory=Defects)
    wrap: Any = None
    mac: str = MAC
    root: str = "atapi"
    nic: str = "rtl8139"
    dummy: bool = False
    cd: int | None = None
    started: set[str] = field(default_factory=set)  # drivers that are started at boot
    packages: dict[str, str] = field(default_factory=dict)  # service to version
    nic_address: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"rtl8139": ADDRESS, "netkvm": DHCP}
    )
    safe: bool = False
    boots: int = 0
    log: list[str] = field(default_factory=list)

    # -- the machine -----------------------------------------------------------------------------

    def boot(self) -> Windows:
        if self.root != "atapi" and self.root not in self.started and not self.safe:
            raise Stopped("windows-stop: 0x0000007b")
        self.boots += 1
        self.log.append("boot in safe mode" if self.safe else "boot")
        if self.safe:
            self.started.add(self.root)
        return Windows(self.wrap(self) if self.wrap else self)

    def shut_down(self, windows: Windows) -> None:
        del windows

    def add_dummy(self, serial: str) -> None:
        assert serial == "dummy"
        self.dummy = True

    def add_medium(self, which: int) -> None:
        self.cd = which

    def switch(self) -> None:
        if not self.defects.stays_on_ide:
            self.root = self.target
        self.dummy = False
        if self.with_nic:
            self.nic = "netkvm"

    # -- its Windows -----------------------------------------------------------------------------

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        del timeout_s
        return getattr(self, f"say_{name_of(script)}")(script)

    def say_system(self, _script: str) -> Any:
        options = "NOEXECUTE=OPTIN" + (" TESTSIGNING" if self.defects.test_signing else "")
        options += " SAFEBOOT:MINIMAL" if self.safe else ""
        return [
            {
                "caption": "Microsoft Windows 11 Pro", "version": "10.0.26100", "build": 26100,
                "revision": 1742, "architecture": "AMD64", "powershell": "5.1.26100.1",
                "start_options": options, "booted": "2026-11-25T13:00:00.0000000Z",
            }
        ]  # fmt: skip

    def _bound(self) -> list[str]:
        found = [one for one in (self.root, self.nic) if one in IDS and one in self.packages]
        if self.dummy and self.target in self.packages:
            found.append(self.target)
        return sorted(set(found))

    def say_drivers(self, _script: str) -> Any:
        return [
            {
                "device": IDS[one] + r"\3&1", "name": f"Red Hat {one}", "inf": f"oem{number}.inf",
                "version": "0.0.0.1" if self.defects.wrong_version else self.packages[one],
                "date": "2025-01-01", "provider": "Red Hat, Inc.", "signed": not self.defects.unsigned,
                "signer": "Microsoft Windows Hardware Compatibility Publisher", "hardware_id": IDS[one],
            }
            for number, one in enumerate(self._bound())
        ]  # fmt: skip

    def say_devices(self, _script: str) -> Any:
        def device(id: str, service: str, present: bool, problem: int) -> dict[str, Any]:  # noqa: A002
            return {
                "id": id, "name": service, "kind": "Net", "service": service, "present": present,
                "problem": problem, "hardware_ids": [id],
            }  # fmt: skip

        code = 52 if self.defects.problem else 0
        found = [device(IDS[one] + r"\3&1", one, True, code) for one in self._bound()]
        there = self.nic == "rtl8139" or self.defects.old_nic_stays
        return [*found, device(OLD_NIC, "rtl8139", there, 0 if there else 45)]

    def say_disks(self, _script: str) -> Any:
        def disk(number: int, serial: str, service: str, boot: bool) -> dict[str, Any]:
            return {
                "number": number, "model": "QEMU", "serial": serial, "bus": "SAS",
                "size_bytes": 1 << 30, "boot": boot, "system": boot, "offline": not boot,
                "service": service,
            }  # fmt: skip

        found = [disk(0, "root", self.root, True)]
        if self.dummy and self.target in self.packages:
            found.append(disk(1, "dummy", self.target, False))
        return found

    def say_nics(self, _script: str) -> Any:
        bound = self.nic == "rtl8139" or self.nic in self.packages
        service = "" if self.defects.nic_without_driver or not bound else self.nic
        address = self.nic_address[self.nic]
        return [
            {
                "index": 4, "name": "Ethernet", "description": self.nic,
                "device": OLD_NIC if self.nic == "rtl8139" else NEW_NIC,
                "mac": MAC.replace(":", "-"), "status": "Up", "service": service,
                "driver_version": "1", "addresses": [address],
                "gateways": ["192.0.2.1"] if address is not DHCP else [], "dns": [],
            }
        ]  # fmt: skip

    def say_services(self, _script: str) -> Any:
        return [
            {
                "name": one, "start": 0 if one in self.started else 3,
                "override": 3 if self.defects.override else None,
                "image": rf"System32\drivers\{one}.sys", "state": "Running",
            }
            for one in self.packages
        ]  # fmt: skip

    def say_crashes(self, _script: str) -> Any:
        if not (self.defects.crash and self.boots > 1):
            return []
        return [{"id": 1001, "time": "2026-11-25", "text": "0x000000d1 (0x0, 0x2, 0x0, 0x0)"}]

    def say_packages(self, _script: str) -> Any:
        return [
            {
                "inf": f"oem{n}.inf",
                "original": f"{one}.inf",
                "version": version,
                "provider": "Red Hat",
            }
            for n, (one, version) in enumerate(self.packages.items())
        ]

    def say_install(self, script: str) -> Any:
        found = re.search(r"'(\w+)\\(\w+)\\(\w+)\\(\w+\.inf)'", script)
        assert found is not None
        if self.cd is None:
            raise CommandError("Windows: install: no CD-ROM has the package (line 4)")
        service = found[1].lower()
        # A newer driver is not given up for an older one.
        if not self.defects.not_installed and VERSIONS[self.cd] >= self.packages.get(service, ""):
            self.packages[service] = VERSIONS[self.cd]
            if service == "netkvm" or (self.dummy and service == self.target):
                self.started.add(service)
        return _done()

    def say_remove(self, script: str) -> Any:
        number = int(re.findall(r"'oem(\d+)\.inf'", script)[0])
        del self.packages[list(self.packages)[number]]
        return _done()

    def say_program(self, script: str) -> Any:
        found = re.search(r"System32\\(\w+)\.exe\" @\((.*)\)", script)
        assert found is not None
        words = [found[1], *re.findall(r"'([^']*)'", found[2])]
        self.log.append(" ".join(words))
        if "safeboot" in words:
            self.safe = words[1] == "/set" or self.defects.stays_in_safe_mode
        return _done(2 if words[0] == "verifier" else 0)

    def say_address(self, script: str) -> Any:
        assert f"-eq '{MAC.replace(':', '-')}'" in script
        if not self.defects.address_lost:
            self.nic_address[self.nic] = ADDRESS
        return _done()


def _done(status: int = 0) -> Any:
    return [{"status": status, "output": "", "file": ""}]


@dataclass(frozen=True)
class Paper:
    """A medium of three INFs for one Windows."""

    number: int = 0
    lacks: str = ""

    @property
    def name(self) -> str:
        return f"virtio-win-{self.number}.iso"

    @property
    def files(self) -> dict[str, int]:
        found = {"viostor": "viostor", "vioscsi": "vioscsi", "NetKVM": "netkvm"}
        return {
            f"{folder}/w11/amd64/{inf}.inf": 1
            for folder, inf in found.items()
            if folder != self.lacks
        }

    labels: Any = None
    trees: Any = None

    def read(self, path: str) -> bytes:
        del path
        return f'[Version]\nSignature="$Windows NT$"\nDriverVer=01/01/2025,{VERSIONS[self.number]}'.encode()


MEDIA: tuple[Medium, ...] = (Paper(), Paper(1))

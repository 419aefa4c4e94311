"""The one place that speaks to libvirt: connection, domains, networks, consoles.

libvirt's errors become GuestError or LabError with libvirt's own first line; its printing to standard
error is turned off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from virtproof.deadline import within
from virtproof.errors import GuestError, LabError, UsageError
from virtproof.guest.console import Console
from virtproof.guest.volume_xml import volume_xml

T = TypeVar("T")

OPEN_S = 30.0

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "pmsuspended",
}
SHUTOFF_REASONS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "failed",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "daemon",
}
# Faults of the way to libvirtd, as against faults of what was asked of it.
GONE = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INVALID_CONN,
}


class RefusedError(GuestError):
    """libvirt or QEMU refused what was asked; ``detail`` is libvirt's message, whole."""


class _SerialPort:
    """A serial port of a running domain as a Port: its end and its faults look alike.

    On a connection of its own: with libvirt 9.0, a call was seen to miss its reply for as long as a
    thread waited on a quiet stream of the same connection.
    """

    def __init__(self, uri: str, domain: str, alias: str) -> None:
        self._connection = libvirt.open(uri)
        handle = self._connection.lookupByName(domain)
        self._stream: Any = self._connection.newStream(0)
        handle.openConsole(alias, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)

    def receive(self) -> bytes:
        try:
            chunk = self._stream.recv(65536)
        except libvirt.libvirtError:
            return b""
        return chunk if isinstance(chunk, bytes) else b""

    def send(self, data: bytes) -> int:
        try:
            return int(self._stream.send(data))
        except libvirt.libvirtError as error:
            raise GuestError(f"the guest's serial port is closed: {_first_line(error)}") from error


class Domain:
    """A defined domain. Every call speaks to libvirtd afresh; nothing is remembered of its state."""

    def __init__(self, handle: libvirt.virDomain, uri: str, start_flags: int) -> None:
        self._handle = handle
        self._uri = uri
        self._start_flags = start_flags
        self.name = handle.name()

    def start(self) -> None:
        """Start with the CPUs stopped, so that the consoles can be opened first."""
        what = f"guest {self.name} does not start"
        _call(what, self._handle.createWithFlags, self._start_flags)

    def resume(self) -> None:
        _call(f"guest {self.name} does not resume", self._handle.resume)

    def suspend(self) -> None:
        _call(f"guest {self.name} does not pause", self._handle.suspend)

    def destroy(self) -> None:
        """Pull the plug. No error where it is off already."""
        if self._handle.isActive():
            _call(f"guest {self.name} cannot be destroyed", self._handle.destroy)

    def shutdown(self) -> None:
        """Press the power button (ACPI)."""
        _call(f"guest {self.name} cannot be shut down", self._handle.shutdown)

    def save(self, path: str) -> None:
        """Stop the guest and put its memory into a file, in libvirt's format."""
        _call(f"guest {self.name} is not saved", self._handle.save, path)

    def undefine(self) -> None:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        _call(f"guest {self.name} cannot be undefined", self._handle.undefineFlags, flags)

    def state(self) -> tuple[str, str]:
        """State and reason, as libvirt names them; the reason is named for shutoff only."""
        state, reason = _call(f"guest {self.name} is lost", self._handle.state)
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            return "shutoff", SHUTOFF_REASONS.get(reason, str(reason))
        if state == libvirt.VIR_DOMAIN_CRASHED:
            return "crashed", "panicked"
        return STATES.get(state, str(state)), ""

    def xml(self, *, inactive: bool = False) -> str:
        """Domain XML: of the running guest, or of its next start."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        return str(_call(f"guest {self.name} has no XML", self._handle.XMLDesc, flags))

    def console(self, alias: str) -> Console:
        """Open a serial port by its alias (serial0, serial1)."""
        what = f"guest {self.name}: no console {alias}"
        return Console(_call(what, _SerialPort, self._uri, self.name, alias))

    def attach(self, device: str) -> None:
        """Hot-add a device to the running guest; RefusedError with QEMU's reason."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        _call(f"guest {self.name}: device refused", self._handle.attachDeviceFlags, device, flags)

    def detach(self, device: str) -> None:
        """Ask the running guest to give a device back; it goes when the guest lets it."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        _call(f"guest {self.name}: device stays", self._handle.detachDeviceFlags, device, flags)

    def update(self, device: str) -> None:
        """Change a device of the running guest (link state, for one)."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        _call(f"guest {self.name}: no change", self._handle.updateDeviceFlags, device, flags)

    def resize(self, target: str, size_mib: int) -> None:
        """Grow or shrink a disk of the running guest."""
        flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        _call(
            f"guest {self.name}: no resize", self._handle.blockResize, target, size_mib << 20, flags
        )

    def addresses(self) -> dict[str, list[str]]:
        """IPv4 addresses by MAC, as the host's DHCP leases know them."""
        source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
        found = _call(
            f"guest {self.name} has no leases", self._handle.interfaceAddresses, source, 0
        )
        return {
            entry["hwaddr"]: [
                a["addr"]
                for a in entry["addrs"] or []
                if a["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4
            ]
            for entry in found.values()
        }

    def screenshot(self) -> bytes:
        """The display, as QEMU draws it (PPM or PNG)."""
        stream = self._handle.connect().newStream(0)
        _call(f"guest {self.name}: no screenshot", self._handle.screenshot, stream, 0, 0)
        picture = bytearray()
        stream.recvAll(lambda _stream, data, into: into.extend(data), picture)
        stream.finish()
        return bytes(picture)


class Connection:
    """A connection to one libvirtd."""

    def __init__(self, uri: str, *, outlive: bool = False) -> None:
        self._uri = uri
        self._start_flags = libvirt.VIR_DOMAIN_START_PAUSED
        if not outlive:  # a guest goes with the process that started it, however that one dies
            self._start_flags |= libvirt.VIR_DOMAIN_START_AUTODESTROY
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        try:
            self._handle = within(OPEN_S, lambda: libvirt.open(uri))
        except TimeoutError as error:
            raise LabError(f"libvirt at {uri}: {error}", hint="is the host there?") from None
        except libvirt.libvirtError as error:
            raise LabError(
                f"libvirt at {uri} does not answer: {_first_line(error)}", detail=str(error)
            ) from error

    def close(self) -> None:
        try:
            self._handle.close()
        except libvirt.libvirtError:
            return  # it has gone before us

    def versions(self) -> dict[str, str]:
        """Versions of the daemon's library and of its QEMU, dotted."""
        library, emulator = self._handle.getLibVersion(), self._handle.getVersion()
        return {"libvirt": _dotted(library), "qemu": _dotted(emulator)}

    def define(self, xml: str) -> Domain:
        """Define (or redefine) a persistent domain. RefusedError says which element."""
        flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        handle = _call("libvirt refuses the domain", self._handle.defineXMLFlags, xml, flags)
        return Domain(handle, self._uri, self._start_flags)

    def restore(self, path: str) -> None:
        """Start the domain that a file of libvirt's format holds, with its CPUs stopped."""
        flags = libvirt.VIR_DOMAIN_SAVE_PAUSED
        _call("libvirt does not restore a guest", self._handle.restoreFlags, path, None, flags)

    def start_network(self, xml: str) -> None:
        """Define a network and start it."""
        _call(
            "the lab's network does not start", lambda: self._handle.networkDefineXML(xml).create()
        )

    def require_network(self, name: str) -> str:
        """A network's XML; UsageError where it is unknown (with those that are) or not active."""
        known = {network.name(): network for network in self._handle.listAllNetworks()}
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"libvirt has no network {name!r}", hint=f"it has: {there}; give --network"
            )
        if not known[name].isActive():
            raise UsageError(f"network {name!r} is not active", hint=f"virsh net-start {name}")
        return str(_call(f"network {name!r} has no XML", known[name].XMLDesc))

    def require_pool(self, name: str) -> None:
        """UsageError where the storage pool is unknown (with those that are) or not active."""
        known = {pool.name(): pool for pool in self._handle.listAllStoragePools()}
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"libvirt has no storage pool {name!r}", hint=f"it has: {there}; give --pool"
            )
        if not known[name].isActive():
            raise UsageError(
                f"storage pool {name!r} is not active", hint=f"virsh pool-start {name}"
            )

    def create_volume(self, pool: str, name: str, kind: str, size: int, backing: str = "") -> str:
        """A volume of a pool (``kind`` qcow2 or raw, ``size`` in bytes): its path."""
        xml, what = volume_xml(name, kind, size, backing), f"no volume {name} in pool {pool}"
        handle = _call(what, self._handle.storagePoolLookupByName, pool)
        return str(_call(what, handle.createXML, xml).path())

    def upload_volume(self, path: str, source: Path) -> None:
        """Fill a volume from a file of this machine."""
        with open(source, "rb") as file:
            stream = self._handle.newStream(0)
            volume = self._volume(path)
            _call(f"no upload to {path}", volume.upload, stream, 0, source.stat().st_size)
            _call(
                f"no upload to {path}", stream.sendAll, lambda _s, count, _o: file.read(count), None
            )
            _call(f"no upload to {path}", stream.finish)

    def volume_allocation(self, path: str) -> int:
        """Bytes that a volume takes up in its pool."""
        _, _, allocation = _call(f"volume {path} is lost", self._volume(path).info)
        return int(allocation)

    def delete_volume(self, path: str) -> None:
        _call(f"volume {path} stays", self._volume(path).delete)

    def _volume(self, path: str) -> Any:
        return _call(f"no volume {path}", self._handle.storageVolLookupByPath, path)


def _call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call into libvirt; its error becomes ours with its own first line."""
    try:
        return function(*arguments)
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code in GONE and "socket" in str(error).lower():
            raise LabError(f"libvirtd has gone: {_first_line(error)}", detail=str(error)) from error
        raise RefusedError(f"{what}: {_first_line(error)}", detail=str(error)) from error


def _first_line(error: libvirt.libvirtError) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"

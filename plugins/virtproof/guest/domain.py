"""A domain of libvirt's; the connection it comes from is in ``guest.connection``.

libvirt's errors become GuestError or LabError with libvirt's own first line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import libvirt
import libvirt_qemu

from virtproof.errors import GuestError, LabGoneError
from virtproof.guest.console import Console
from virtproof.guest.daemon import first_line
from virtproof.guest.serial import StreamPort

T = TypeVar("T")

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
# Who reports a fault of the way to libvirtd, as against one of what was asked of it, and how.
WAY = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}
GONE = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INVALID_CONN,
}


class RefusedError(GuestError):
    """libvirt or QEMU refused what was asked; ``detail`` is libvirt's message, whole."""


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
        call(what, self._handle.createWithFlags, self._start_flags)

    def resume(self) -> None:
        call(f"guest {self.name} does not resume", self._handle.resume)

    def suspend(self) -> None:
        call(f"guest {self.name} does not pause", self._handle.suspend)

    def destroy(self) -> None:
        """Pull the plug. No error where it is off already."""
        what = f"guest {self.name} cannot be destroyed"
        try:
            if call(what, self._handle.isActive):
                call(what, self._handle.destroy)
        except RefusedError:
            if call(what, self._handle.isActive):  # else it went off by itself meanwhile
                raise

    def shutdown(self) -> None:
        """Press the power button (ACPI)."""
        call(f"guest {self.name} cannot be shut down", self._handle.shutdown)

    def save(self, path: str) -> None:
        """Stop the guest and put its memory into a file, in libvirt's format."""
        call(f"guest {self.name} is not saved", self._handle.save, path)

    def undefine(self) -> None:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        call(f"guest {self.name} cannot be undefined", self._handle.undefineFlags, flags)

    def state(self) -> tuple[str, str]:
        """State and reason, as libvirt names them; the reason is named for shutoff only."""
        state, reason = call(f"guest {self.name} is lost", self._handle.state)
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            return "shutoff", SHUTOFF_REASONS.get(reason, str(reason))
        if state == libvirt.VIR_DOMAIN_CRASHED:
            return "crashed", "panicked"
        return STATES.get(state, str(state)), ""

    def cpu_time_s(self) -> float:
        """Seconds of processor time that its QEMU has used on the host, in ticks of some 10 ms."""
        return int(call(f"guest {self.name} is lost", self._handle.info)[4]) / 1e9

    def xml(self, *, inactive: bool = False) -> str:
        """Domain XML: of the running guest, or of its next start."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        return str(call(f"guest {self.name} has no XML", self._handle.XMLDesc, flags))

    def console(self, alias: str) -> Console:
        """Open a serial port by its alias (serial0, serial1)."""
        what = f"guest {self.name}: no console {alias}"
        return Console(call(what, StreamPort, self._uri, self.name, alias))

    def attach(self, device: str) -> None:
        """Hot-add a device to the running guest; RefusedError with QEMU's reason."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        call(f"guest {self.name}: device refused", self._handle.attachDeviceFlags, device, flags)

    def detach(self, device: str) -> None:
        """Ask the running guest to give a device back; it goes when the guest lets it."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        call(f"guest {self.name}: device stays", self._handle.detachDeviceFlags, device, flags)

    def update(self, device: str) -> None:
        """Change a device of the running guest (link state, for one)."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        call(f"guest {self.name}: no change", self._handle.updateDeviceFlags, device, flags)

    def resize(self, target: str, size_mib: int) -> None:
        """Grow or shrink a disk of the running guest."""
        flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        call(
            f"guest {self.name}: no resize", self._handle.blockResize, target, size_mib << 20, flags
        )

    def monitor(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Ask QEMU's own monitor, behind libvirt's back; RefusedError with QEMU's reason."""
        what = f"guest {self.name}: {command}"
        request = json.dumps({"execute": command, "arguments": dict(arguments)})
        answer = json.loads(call(what, libvirt_qemu.qemuMonitorCommand, self._handle, request, 0))
        if "error" in answer:
            raise RefusedError(f"{what}: {clean_reason(answer)}", detail=str(answer))
        return answer["return"]

    def addresses(self) -> dict[str, list[str]]:
        """IPv4 addresses by MAC, as the host's DHCP leases know them."""
        source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
        found = call(f"guest {self.name} has no leases", self._handle.interfaceAddresses, source, 0)
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

        def take() -> bytes:
            stream = self._handle.connect().newStream(0)
            self._handle.screenshot(stream, 0, 0)
            picture = bytearray()
            stream.recvAll(lambda _stream, data, into: into.extend(data), picture)
            stream.finish()
            return bytes(picture)

        return call(f"guest {self.name}: no screenshot", take)


def call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call into libvirt; its error becomes ours with its own first line.

    LabGoneError where libvirtd was not reached, RefusedError where it said no.
    """
    try:
        return function(*arguments)
    except TimeoutError as error:
        raise LabGoneError(f"libvirtd hangs: {error}") from error
    except libvirt.libvirtError as error:
        line, code = first_line(error), error.get_error_code()
        if code in GONE and error.get_error_domain() in WAY:
            raise LabGoneError(f"libvirtd has gone: {line}", detail=str(error)) from error
        raise RefusedError(f"{what}: {line}", detail=str(error)) from error


def clean_reason(answer: Mapping[str, Any]) -> str:
    """QEMU's reason in an answer of its monitor."""
    return str(answer["error"].get("desc", answer["error"]))

"""A connection to one libvirtd: its networks, its storage pools, the domains defined over it.

This module, ``guest.daemon``, ``guest.domain`` and ``guest.serial`` are the only ones that speak to
libvirt. Its errors become GuestError or LabError with libvirt's own first line; its printing to standard
error is turned off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt

from virtproof.errors import LabError, UsageError
from virtproof.guest import daemon
from virtproof.guest.domain import Domain, RefusedError, call
from virtproof.guest.domain_xml import METADATA, disk_files, mark
from virtproof.guest.volume_xml import volume_xml
from virtproof.lab.sweeping import Marked


class Connection:
    """A connection to one libvirtd."""

    def __init__(self, uri: str, *, outlive: bool = False) -> None:
        self._uri = uri
        self._start_flags = libvirt.VIR_DOMAIN_START_PAUSED
        if not outlive:  # a guest goes with the process that started it, however that one dies
            self._start_flags |= libvirt.VIR_DOMAIN_START_AUTODESTROY
        try:
            self._handle = daemon.opened(uri)
            library, emulator = self._handle.getLibVersion(), self._handle.getVersion()
        except TimeoutError as error:
            raise LabError(f"libvirt at {uri}: {error}", hint="is the host there?") from None
        except libvirt.libvirtError as error:
            raise LabError(
                f"libvirt at {uri} does not answer: {daemon.first_line(error)}", detail=str(error)
            ) from error
        self._versions = {"libvirt": _dotted(library), "qemu": _dotted(emulator)}

    def close(self) -> None:
        try:
            self._handle.close()
        except libvirt.libvirtError:
            return  # it has gone before us

    def versions(self) -> dict[str, str]:
        """Versions of the daemon's library and of its QEMU, dotted."""
        return dict(self._versions)

    def check(self) -> None:
        """LabGoneError where libvirtd does not answer any more."""
        call("libvirt does not say its version", self._handle.getLibVersion)

    def define(self, xml: str) -> Domain:
        """Define (or redefine) a persistent domain. RefusedError says which element."""
        flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        handle = call("libvirt refuses the domain", self._handle.defineXMLFlags, xml, flags)
        return Domain(handle, self._uri, self._start_flags)

    def restore(self, path: str) -> None:
        """Start the domain that a file of libvirt's format holds, with its CPUs stopped."""
        flags = libvirt.VIR_DOMAIN_SAVE_PAUSED
        call("libvirt does not restore a guest", self._handle.restoreFlags, path, None, flags)

    def start_network(self, xml: str) -> None:
        """Define a network and start it."""
        call(
            "the lab's network does not start", lambda: self._handle.networkDefineXML(xml).create()
        )

    def require_network(self, name: str) -> str:
        """A network's XML; UsageError where it is unknown (with those that are) or not active."""
        known = {
            network.name(): network for network in call("no networks", self._handle.listAllNetworks)
        }
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"libvirt has no network {name!r}", hint=f"it has: {there}; give --network"
            )
        if not known[name].isActive():
            raise UsageError(f"network {name!r} is not active", hint=f"virsh net-start {name}")
        return str(call(f"network {name!r} has no XML", known[name].XMLDesc))

    def require_pool(self, name: str) -> None:
        """UsageError where the storage pool is unknown (with those that are) or not active."""
        known = {pool.name(): pool for pool in call("no pools", self._handle.listAllStoragePools)}
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
        handle = call(what, self._handle.storagePoolLookupByName, pool)
        return str(call(what, handle.createXML, xml).path())

    def upload_volume(self, path: str, source: Path) -> None:
        """Fill a volume from a file of this machine."""
        with open(source, "rb") as file:
            stream = self._handle.newStream(0)
            volume = self._volume(path)
            call(f"no upload to {path}", volume.upload, stream, 0, source.stat().st_size)
            call(
                f"no upload to {path}", stream.sendAll, lambda _s, count, _o: file.read(count), None
            )
            call(f"no upload to {path}", stream.finish)

    def volume_allocation(self, path: str) -> int:
        """Bytes that a volume takes up in its pool."""
        _, _, allocation = call(f"volume {path} is lost", self._volume(path).info)
        return int(allocation)

    def delete_volume(self, path: str) -> None:
        call(f"volume {path} stays", self._volume(path).delete)

    def pool_of(self, path: str) -> str:
        """The pool of a volume. RefusedError where it is in none."""
        return str(call(f"no pool of {path}", self._volume(path).storagePoolLookupByVolume).name())

    def volumes(self, pool: str) -> set[str]:
        """Names of a pool's volumes; none where there is no such pool."""
        what = f"storage pool {pool} is not read"
        for handle in call(what, self._handle.listAllStoragePools):
            if handle.name() == pool:
                return set(call(what, handle.listVolumes))
        return set()

    def remove_volume(self, pool: str, name: str) -> None:
        """Delete a volume of a pool by its name."""

        def delete() -> None:
            self._handle.storagePoolLookupByName(pool).storageVolLookupByName(name).delete()

        call(f"volume {name} in pool {pool} stays", delete)

    def marked(self) -> list[Marked]:
        """The domains with our mark, running or not: not a copy of one, which has another name."""
        found = []
        for handle in call("domains are not listed", self._handle.listAllDomains):
            try:
                kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
                said = mark(call("no mark", handle.metadata, kind, METADATA))
                if said.get("name") == handle.name() and "run" in said:
                    disks = disk_files(call("no XML", handle.XMLDesc))
                    found.append(Marked(handle.name(), said["run"], said.get("owner", ""), disks))
            except RefusedError:
                continue  # it has no mark of ours, or has gone since it was listed
        return found

    def remove_guest(self, name: str) -> None:
        """End a domain, if it runs, and undefine it."""
        handle = call(f"guest {name} is lost", self._handle.lookupByName, name)
        domain = Domain(handle, self._uri, self._start_flags)
        domain.destroy()
        domain.undefine()

    def _volume(self, path: str) -> Any:
        return call(f"no volume {path}", self._handle.storageVolLookupByPath, path)


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"

"""Checks of a package's catalog: what it covers, for which Windows, and what its signature is worth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from virtproof.windows import pe
from virtproof.windows.catalog import Catalog
from virtproof.windows.looking import NotApplicable, catalogs, signatures
from virtproof.windows.package import Package
from virtproof.windows.platform import Arch, Windows
from virtproof.windows.signature import SignatureClass

_LINE_ENDS = ((b"\r\n", "CRLF"), (b"\n", "LF"))


def catalog_covers_sys(package: Package) -> list[str]:
    """The catalog has the digest of every file that the INF installs."""
    found, seen = [], False
    for _, inf, name, catalog in catalogs(package):
        for file in package.sources(inf):
            seen = True
            data = package.read(file)
            if not any(catalog.holds(digest) for digest in _digests(data, catalog)):
                found.append(f"{name} does not have the digest of {file}")
    if not seen:
        raise NotApplicable("the INF installs no file that is there")
    return found


def catalog_covers_inf(package: Package) -> list[str]:
    """The catalog has the digest of the INF as it lies there, byte by byte."""
    found = []
    for inf_name, _, name, catalog in catalogs(package):
        data = package.read(inf_name)
        if not _holds_raw(catalog, data):
            found.append(
                f"{name} does not have the digest of {inf_name}{_explained(catalog, data)}"
            )
    return found


def catalog_os(package: Package) -> list[str]:
    """The catalog is for this Windows and architecture, and so is each of its files."""
    found = []
    windows, arch = package.place.windows, package.place.arch
    for inf_name, _, name, catalog in catalogs(package):
        systems = catalog.systems
        if not any(names_system(system, windows, arch) for system in systems):
            said = ", ".join(systems) or "nothing"
            found.append(f"OS attribute of {name} is {said}: not {windows.title} on {arch}")
        for member in catalog.of_file(inf_name):
            kernels = [kernel.strip() for kernel in member.values.get("OSAttr", "").split(",")]
            if windows.kernel not in kernels:
                said = member.values.get("OSAttr") or "nothing"
                found.append(f"OSAttr of {inf_name} in {name} is {said}: not {windows.kernel}")
                break
    return found


def names_system(system: str, windows: Windows, arch: Arch) -> bool:
    """Whether a name of the OS attribute means this Windows. From 10.0 on, any release of it does.

    ``_v100_X64_RS5``, ``Server_v100_X64_21H2``: ten, architecture, release; x86 is not named.
    """
    if windows.in_catalog:
        mine = [one for one in windows.in_catalog if one.endswith("X64") == (arch is Arch.AMD64)]
        return system in mine
    parts = system.removeprefix("Server").lower().split("_")
    if parts[:2] != ["", "v100"]:
        return False
    named = parts[2] if parts[2:] and parts[2] in ("x64", "arm64", "arm") else ""
    return named == arch.in_catalog.lower()


def signature_class(package: Package) -> list[str]:
    """The signature is one that this Windows loads a driver by: Microsoft's, from Windows 10 on."""
    found = []
    for _, _, name, catalog in catalogs(package):
        signature = catalog.signature
        kind = signature.kind if signature else SignatureClass.UNSIGNED
        if kind is SignatureClass.UNSIGNED:
            found.append(f"{name} is not signed")
        elif signature is not None and not signature.complete:
            raise NotApplicable("the chain has no end")
        elif kind is SignatureClass.TEST and signature is not None:
            found.append(f"{name} is test-signed: {signature.chain[-1]!r} is no root of Windows")
        elif kind is SignatureClass.VENDOR and package.place.windows.major >= 10 and signature:
            found.append(f"{name} is signed by {signature.signer!r} alone, and not by Microsoft")
    return found


def signature_chain(package: Package) -> list[str]:
    """What was signed is unchanged, by a certificate whose issuers lead to a root."""
    return [
        f"{name}: {fault}"
        for name, signature in signatures(package)
        for fault in (*signature.faults, *signature.chain_faults)
    ]


def signature_expired(package: Package) -> list[str]:
    """Each certificate was in its time when it signed; without a time stamp, now."""
    found = []
    for name, signature in signatures(package):
        if signature.expired:
            how = f"signed {signature.stamped:%Y-%m-%d}" if signature.stamped else "no time stamp"
            found.append(f"{name}: {signature.expired} ({how})")
    return found


def _digests(data: bytes, catalog: Catalog) -> Iterator[bytes]:
    for algorithm in catalog.algorithms:
        if pe.is_pe(data):
            yield pe.authenticode(data, algorithm)
        yield hashlib.new(algorithm, data).digest()


def _holds_raw(catalog: Catalog, data: bytes) -> bool:
    return any(catalog.holds(hashlib.new(one, data).digest()) for one in catalog.algorithms)


def _explained(catalog: Catalog, data: bytes) -> str:
    """Why, where that can be told: the line ends were changed after signing."""
    plain = data.replace(b"\r\n", b"\n")
    for end, name in _LINE_ENDS:
        if _holds_raw(catalog, plain.replace(b"\n", end)):
            return f", but of the same text with {name} at the ends of lines"
    return ""

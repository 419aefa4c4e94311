"""The Windows that a driver may be for: names on the medium, versions, architectures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Arch(StrEnum):
    """Architectures by their folders' names."""

    X86 = "x86"
    AMD64 = "amd64"
    ARM64 = "ARM64"

    @property
    def in_catalog(self) -> str:
        """Its part in a catalog's OS attribute of Windows 10 and later; x86 has none."""
        return {Arch.X86: "", Arch.AMD64: "X64", Arch.ARM64: "ARM64"}[self]


@dataclass(frozen=True, slots=True)
class Windows:
    """A Windows by its folder's name. ``build`` is the last one known; 0 before builds mattered."""

    name: str
    title: str
    major: int
    minor: int
    build: int = 0
    server: bool = False
    # What a catalog's OS attribute calls it, a name for each architecture; empty from 10.0 on.
    in_catalog: tuple[str, ...] = ()

    @property
    def kernel(self) -> str:
        """As a catalog's OSAttr has it: 2 stands for NT."""
        return f"2:{self.major}.{self.minor}"

    @property
    def version(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.build


WINDOWS: tuple[Windows, ...] = (
    Windows("xp", "Windows XP", 5, 1, in_catalog=("XPX86", "XPX64")),
    Windows(
        "2k3",
        "Windows Server 2003",
        5,
        2,
        server=True,
        in_catalog=("Server2003X86", "Server2003X64"),
    ),
    Windows(
        "2k8",
        "Windows Server 2008",
        6,
        0,
        server=True,
        in_catalog=("Server2008X86", "Server2008X64", "VistaX86", "VistaX64"),
    ),
    Windows("w7", "Windows 7", 6, 1, in_catalog=("7X86", "7X64")),
    Windows(
        "2k8R2",
        "Windows Server 2008 R2",
        6,
        1,
        server=True,
        in_catalog=("Server2008R2X64", "7X64"),
    ),
    Windows("w8", "Windows 8", 6, 2, in_catalog=("8X86", "8X64")),
    Windows("2k12", "Windows Server 2012", 6, 2, server=True, in_catalog=("Server2012X64", "8X64")),
    Windows("w8.1", "Windows 8.1", 6, 3, in_catalog=("_v63", "_v63_X64")),
    Windows(
        "2k12R2",
        "Windows Server 2012 R2",
        6,
        3,
        server=True,
        in_catalog=("_v63_Server_X64", "_v63_X64"),
    ),
    Windows("w10", "Windows 10", 10, 0, 19045),
    Windows("2k16", "Windows Server 2016", 10, 0, 14393, server=True),
    Windows("2k19", "Windows Server 2019", 10, 0, 17763, server=True),
    Windows("2k22", "Windows Server 2022", 10, 0, 20348, server=True),
    Windows("w11", "Windows 11", 10, 0, 26200),
    Windows("2k25", "Windows Server 2025", 10, 0, 26100, server=True),
)
_BY_NAME = {windows.name.lower(): windows for windows in WINDOWS}
_ARCHES = {arch.lower(): arch for arch in Arch}
ROOT_ARCHES = {"i386": Arch.X86, "amd64": Arch.AMD64, "arm64": Arch.ARM64}


def windows_of(folder: str, arch: Arch | None = None) -> Windows | None:
    """The Windows that a folder's name stands for, in any case. XP on amd64 is of 2003's version."""
    found = _BY_NAME.get(folder.lower())
    if found is not None and found.name == "xp" and arch is Arch.AMD64:
        return replace(found, minor=2)
    return found


def arch_of(folder: str) -> Arch | None:
    return _ARCHES.get(folder.lower())

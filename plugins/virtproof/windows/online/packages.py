"""Which package of virtio-win's medium is a running Windows', and what version it must then have."""

from __future__ import annotations

from dataclasses import dataclass

from virtproof.errors import UsageError
from virtproof.windows import inf, models
from virtproof.windows.drivers import driver_of
from virtproof.windows.iso import Medium
from virtproof.windows.online.facts import System

# By the first build of each: folders of clients' and of servers' drivers.
FOLDERS = (
    (26100, "w11", "2k25"),
    (22000, "w11", "2k22"),
    (20348, "w10", "2k22"),
    (17763, "w10", "2k19"),
    (14393, "w10", "2k16"),
    (10240, "w10", "2k16"),
    (9600, "w8.1", "2k12R2"),
    (9200, "w8", "2k12"),
    (7600, "w7", "2k8R2"),
)
ARCHITECTURES = {"AMD64": "amd64", "X86": "x86", "ARM64": "ARM64"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A driver as it must be once it is installed. ``package``: the INF's path as Windows writes it."""

    service: str
    package: str
    version: str
    ids: tuple[str, ...]


def wanted(medium: Medium, folder: str, system: System) -> Wanted:
    """The package of a driver (by its folder, as viostor) for that Windows; UsageError where it has none."""
    driver = driver_of(folder)
    if driver is None:
        raise UsageError(f"virtio-win has no driver {folder!r}")
    windows = folder_of(system)
    arch = ARCHITECTURES.get(system.architecture.upper(), system.architecture)
    path = "/".join((driver.folder, windows, arch, driver.inf))
    found = next((one for one in medium.files if one.lower() == path.lower()), None)
    if found is None:
        raise UsageError(f"{medium.name} has no {path}, which this Windows takes")
    _, version = models.driver_version(inf.read(medium.read(found)))
    ids = tuple(one.ids[-1] for one in (*driver.devices, *driver.either))
    return Wanted(driver.service, found.replace("/", "\\"), models.dotted(version), ids)


def folder_of(system: System) -> str:
    """The medium's name of a Windows, by its build; its brand says whether it is a server."""
    server = "server" in system.caption.lower()
    for build, client, servers in FOLDERS:
        if system.build >= build:
            return servers if server else client
    raise UsageError(f"virtio-win's drivers for build {system.build} of Windows are not known")

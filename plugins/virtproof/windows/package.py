"""A driver package: what lies in ``DRIVER/WINDOWS/ARCH`` of a medium, read when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from virtproof.errors import PackageError
from virtproof.windows import catalog, inf, models, pe
from virtproof.windows.catalog import Catalog
from virtproof.windows.certificates import Trust
from virtproof.windows.drivers import COPIED, DRIVERS, Driver, driver_of
from virtproof.windows.inf import Inf
from virtproof.windows.iso import Medium, MediumError
from virtproof.windows.platform import ROOT_ARCHES, Arch, Windows, arch_of, windows_of


@dataclass(frozen=True, slots=True)
class Place:
    """For which driver, Windows and architecture a package is; its text is the id."""

    driver: str  # as the folder is spelled
    windows: Windows
    arch: Arch

    def __str__(self) -> str:
        return f"{self.driver}/{self.windows.name}/{self.arch}"


class Package:
    """A package. Files are found in any case; what cannot be read raises PackageError, with the name."""

    def __init__(self, medium: Medium, place: Place, paths: Iterable[str], trust: Trust) -> None:
        self.place = place
        self._medium, self._trust = medium, trust
        self._paths = {path.rpartition("/")[2].lower(): path for path in paths}
        self._catalogs: dict[str, Catalog] = {}
        self._executables: dict[str, pe.Pe] = {}

    def __repr__(self) -> str:
        return f"Package({self.place})"

    @property
    def driver(self) -> Driver | None:
        """What is known of the driver; None for one that is not in the list."""
        return driver_of(self.place.driver)

    @property
    def names(self) -> tuple[str, ...]:
        """The files, as they are spelled; none where the whole package is missing."""
        return tuple(path.rpartition("/")[2] for path in self._paths.values())

    def has(self, name: str) -> bool:
        return name.lower() in self._paths

    def read(self, name: str) -> bytes:
        """A file's bytes, which are not kept: a medium has hundreds of MiB of them."""
        return self._medium.read(self._paths[name.lower()])

    @cached_property
    def infs(self) -> dict[str, Inf]:
        """The INFs that can be read, by name."""
        found = {}
        for name in self.inf_names:
            try:
                found[name] = self.inf(name)
            except PackageError:
                continue  # the check that reads them says why
        return found

    @property
    def inf_names(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.names if name.lower().endswith(".inf")))

    def inf(self, name: str) -> Inf:
        """The INF of that name; PackageError if it is none."""
        return inf.read(self.read(name))

    def catalog_of(self, found: Inf) -> str | None:
        """The name of an INF's catalog, if it is there."""
        name = models.catalog_name(found, self.place.arch)
        return name if name is not None and self.has(name) else None

    def catalog(self, name: str) -> Catalog:
        """The catalog of that name; PackageError, with the name, if it is none."""
        key = name.lower()
        if key not in self._catalogs:
            try:
                self._catalogs[key] = catalog.read(self.read(name), self._trust)
            except catalog.CatalogError as error:
                raise PackageError(f"{name}: {error}") from None
        return self._catalogs[key]

    def sources(self, found: Inf) -> tuple[str, ...]:
        """Of the files that an INF installs, those that are there."""
        names = models.source_files(found, self.place.arch)
        return tuple(name for name in names if self.has(name))

    def executable(self, name: str) -> pe.Pe:
        """A .sys, .dll or .exe; PackageError, with the name, if it is none."""
        key = name.lower()
        if key not in self._executables:
            try:
                self._executables[key] = pe.read(self.read(name))
            except pe.PeError as error:
                raise PackageError(f"{name}: {error}") from None
        return self._executables[key]


def packages(medium: Medium, trust: Trust) -> list[Package]:
    """Those of a medium, in the order of their ids, and an empty one for each that should be there.

    A driver should be there for each Windows and architecture of 10.0 or later that another driver is there
    for. MediumError where there is none at all.
    """
    found: dict[tuple[str, str, Arch], tuple[Place, list[str]]] = {}
    for path in medium.files:
        place = _place(path)
        if place is not None:
            key = place.driver.lower(), place.windows.name, place.arch
            found.setdefault(key, (place, []))[1].append(path)
    if not found:
        raise MediumError(
            f"{medium.name}: there is no driver on it",
            hint="drivers lie in DRIVER/WINDOWS/ARCH, as in viostor/w11/amd64",
        )
    platforms = {(place.windows, place.arch) for place, _ in found.values()}
    known = {place.driver.lower(): place.driver for place, _ in found.values()}
    for driver in DRIVERS:
        for windows, arch in platforms:
            key = driver.folder.lower(), windows.name, arch
            if key[0] in known and key not in found and driver.expected(windows, arch):
                found[key] = Place(known[key[0]], windows, arch), []
    made = [Package(medium, place, paths, trust) for place, paths in found.values()]
    return sorted(made, key=lambda package: str(package.place).lower())


def _place(path: str) -> Place | None:
    parts = path.split("/")
    if len(parts) != 4:
        return None
    arch = arch_of(parts[2])
    windows = windows_of(parts[1], arch)
    return None if windows is None or arch is None else Place(parts[0], windows, arch)


def copies(medium: Medium) -> list[tuple[str, str]]:
    """Files of the storage drivers' second tree, ``amd64/w11/viostor.sys``, each with its original's path.

    The original may be missing.
    """
    spelled = {path.lower(): path for path in medium.files}
    found = []
    for path in medium.files:
        parts = path.split("/")
        if len(parts) != 3 or parts[0].lower() not in ROOT_ARCHES or not windows_of(parts[1]):
            continue
        arch = ROOT_ARCHES[parts[0].lower()]
        for driver in COPIED:
            if parts[2].lower().startswith(f"{driver}."):
                original = f"{driver}/{parts[1]}/{arch}/{parts[2]}".lower()
                found.append((path, spelled.get(original, original)))
    return found

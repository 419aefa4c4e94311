"""What several checks look at: a package's INFs, the .sys files they install, catalogs, signatures."""

from __future__ import annotations

from collections.abc import Iterator

from virtproof.windows import models, pe
from virtproof.windows.catalog import Catalog
from virtproof.windows.inf import Inf
from virtproof.windows.package import Package
from virtproof.windows.signature import Signature


class NotApplicable(Exception):  # noqa: N818  # it is no error
    """The package has nothing that the check is about; the text says what is lacking."""


def printable(text: str) -> str:
    """A line that does nothing to a terminal: names and texts of a medium are anybody's."""
    return "".join(one if one.isprintable() else "?" for one in text)


def readable(package: Package) -> dict[str, Inf]:
    if not package.infs:
        raise NotApplicable("there is no INF that can be read")
    return package.infs


def hardware_ids(inf: Inf, package: Package) -> Iterator[str]:
    for model in models.models(inf, package.place.windows, package.place.arch):
        yield from model.ids


def drivers(inf: Inf, package: Package) -> Iterator[tuple[str, pe.Pe]]:
    for file in package.sources(inf):
        if file.lower().endswith(".sys"):
            yield file, package.executable(file)


def catalogs(package: Package) -> list[tuple[str, Inf, str, Catalog]]:
    """INF's name, INF, catalog's name, catalog: of each INF that can be read and has its catalog."""
    found = []
    for inf_name, inf in readable(package).items():
        name = package.catalog_of(inf)
        if name is not None:
            found.append((inf_name, inf, name, package.catalog(name)))
    if not found:
        raise NotApplicable("there is no catalog")
    return found


def signatures(package: Package) -> list[tuple[str, Signature]]:
    found = [(name, one.signature) for _, _, name, one in catalogs(package) if one.signature]
    if not found:
        raise NotApplicable("the catalog is not signed")
    return found

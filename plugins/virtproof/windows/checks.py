"""What must be so of a driver package, a check a name. None of them needs Windows.

A check gives the defects it finds, each a line. One that has nothing to look at, mostly since another
check has already said why, raises NotApplicable.
"""

from __future__ import annotations

from collections.abc import Callable

from virtproof.errors import PackageError
from virtproof.windows import catalog_checks, file_checks
from virtproof.windows.looking import NotApplicable as NotApplicable
from virtproof.windows.looking import printable
from virtproof.windows.package import Package

Check = Callable[[Package], list[str]]

CHECKS: dict[str, Check] = {
    "files-complete": file_checks.files_complete,
    "inf-parses": file_checks.inf_parses,
    "ids-complete": file_checks.ids_complete,
    "driverver-matches-sys": file_checks.driverver_matches_sys,
    "catalog-covers-sys": catalog_checks.catalog_covers_sys,
    "catalog-covers-inf": catalog_checks.catalog_covers_inf,
    "catalog-os": catalog_checks.catalog_os,
    "signature-class": catalog_checks.signature_class,
    "signature-chain": catalog_checks.signature_chain,
    "signature-expired": catalog_checks.signature_expired,
    "pe-architecture": file_checks.pe_architecture,
}


def checks_of(package: Package) -> tuple[str, ...]:
    """The checks' names; of a package that is missing as a whole, the one that says so."""
    return tuple(CHECKS) if package.names else ("files-complete",)


def defects(package: Package, check: str) -> list[str]:
    """What the check finds; a file that cannot be read is a defect, too."""
    try:
        return [printable(line) for line in CHECKS[check](package)]
    except PackageError as error:
        return [printable(str(error))]

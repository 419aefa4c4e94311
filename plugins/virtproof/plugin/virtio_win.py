"""What a user gives of virtio-win: its ISO or a folder like it. A test for each package and check of it.

What reads it is imported where it was given: other runs need not wait for its libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from virtproof.errors import PackageError

if TYPE_CHECKING:
    from virtproof.windows.iso import Medium
    from virtproof.windows.package import Package

NO_MEDIUM = "needs virtio-win's drivers: --virtio-win=virtio-win.iso (or a folder like it)"


@dataclass(frozen=True)
class DriverMedium:
    """The medium that was given, and the packages on it."""

    medium: Medium
    packages: tuple[Package, ...]


@dataclass(frozen=True)
class DriverCheck:
    """One check of one package, or of the medium; its text is the test's id."""

    name: str
    ask: Callable[[], list[str]]

    def __str__(self) -> str:
        return f"windows/{self.name}"

    def hold(self) -> None:
        """Nothing, if there is no defect. PackageError for the defects, a skip where it does not apply."""
        from virtproof.windows.looking import NotApplicable

        __tracebackhide__ = True
        try:
            found = self.ask()
        except NotApplicable as reason:
            pytest.skip(str(reason))
        if found:
            raise PackageError(found[0], detail="\n".join(found[1:]))


MEDIUM = pytest.StashKey[DriverMedium | None]()


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--virtio-win",
        metavar="ISO|DIR",
        help="virtio-win's ISO, or a folder like it: are its driver packages whole? No Windows is needed",
    )
    group.addoption(
        "--virtio-win-trust",
        metavar="PEM",
        action="append",
        default=[],
        help="trust this root like Microsoft's own, for drivers that you sign yourself; repeatable",
    )


def read_medium(config: pytest.Config) -> DriverMedium | None:
    """What the option names, read as far as its directories; UsageError for what is no medium."""
    name = config.getoption("--virtio-win")
    if name is None:
        return None
    from virtproof.windows.certificates import trust
    from virtproof.windows.iso import open_medium
    from virtproof.windows.package import packages

    here: Path = config.invocation_params.dir
    trusted = trust([here / pem for pem in config.getoption("--virtio-win-trust")])
    medium = open_medium(here / name)
    return DriverMedium(medium, tuple(packages(medium, trusted)))


def generate(metafunc: pytest.Metafunc) -> None:
    """Parameters of ``package_check`` and ``medium_check``; without a medium, one that is skipped."""
    for fixture, made in (("package_check", _of_packages), ("medium_check", _of_medium)):
        if fixture not in metafunc.fixturenames:
            continue
        medium = metafunc.config.stash[MEDIUM]
        if medium is None:
            skip = pytest.mark.skip(reason=NO_MEDIUM)
            metafunc.parametrize(fixture, [pytest.param(None, marks=skip, id="windows/virtio-win")])
        else:
            metafunc.parametrize(fixture, made(medium), ids=str)


def _of_packages(given: DriverMedium) -> list[DriverCheck]:
    from virtproof.windows.checks import checks_of, defects

    def one(package: Package, check: str) -> DriverCheck:
        return DriverCheck(f"{package.place}/{check}", lambda: defects(package, check))

    return [one(package, check) for package in given.packages for check in checks_of(package)]


def _of_medium(given: DriverMedium) -> list[DriverCheck]:
    from virtproof.windows.medium_checks import MEDIUM_CHECKS, medium_defects

    def one(check: str) -> DriverCheck:
        return DriverCheck(f"medium/{check}", lambda: medium_defects(given.medium, check))

    return [one(check) for check in MEDIUM_CHECKS]

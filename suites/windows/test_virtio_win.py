"""virtio-win's driver packages, offline: is each whole, of one version, signed, and for what it says?"""

from __future__ import annotations

from virtproof.plugin.virtio_win import DriverCheck


def test_package(package_check: DriverCheck) -> None:
    """Each check of ``virtproof.windows.checks``, on the package of each driver, Windows and architecture."""
    package_check.hold()


def test_medium(medium_check: DriverCheck) -> None:
    """The medium as a whole: label, name, installer, trees, and which drivers there are."""
    medium_check.hold()

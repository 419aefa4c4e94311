"""A Windows that is switched off: could it boot from virtio? Read from its registry, without a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.windows.bootstart import STORAGE_IDS, Check, Finding, WindowsFacts, judge, ready
from virtproof.windows.image import inspect

STATE = (Check.AWAKE, Check.NTFS_CLEAN, Check.HIVES_WHOLE)
DRIVER = (Check.SERVICE, Check.BOOT_START, Check.START_OVERRIDE, Check.DRIVER_FILE, Check.IDS)


@pytest.fixture(scope="module")
def findings(windows_facts: WindowsFacts) -> list[Finding]:
    return judge(windows_facts)


@pytest.mark.parametrize("check", STATE, ids=str)
def test_installation(findings: list[Finding], check: Check) -> None:
    """It was shut down wholly, and its file system and hives were closed."""
    (found,) = (one for one in findings if one.check is check)
    assert found.ok, found.detail


@pytest.mark.parametrize("driver", STORAGE_IDS)
@pytest.mark.parametrize("check", DRIVER, ids=str)
def test_boot_driver(findings: list[Finding], driver: str, check: Check) -> None:
    """A boot disk's driver is started by the boot loader, and known for its devices' ids."""
    found = {one.check: one for one in findings if one.driver == driver}
    if not found[Check.SERVICE].ok:
        pytest.skip(f"{driver} is not installed")
    assert found[check].ok, found[check].detail


def test_one_boot_driver_is_ready(findings: list[Finding]) -> None:
    """Without viostor or vioscsi, the first boot from virtio is stop 0x7B."""
    assert any(ready(findings, driver) for driver in STORAGE_IDS), [
        f"{one.driver} {one.check}: {one.detail}" for one in findings if not one.ok
    ]


def test_image_is_only_read(windows_image: Path) -> None:
    """Reading a user's image leaves it as it was."""
    before = windows_image.stat()
    inspect(windows_image)
    after = windows_image.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)

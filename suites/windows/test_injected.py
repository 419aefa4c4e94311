"""The drivers are installed while Windows is switched off, in an overlay, and read back from its registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from virtproof.windows.bootstart import NOT_FATAL, judge, ready
from virtproof.windows.image import inspect
from virtproof.windows.injection import Injected


def test_injected_windows_is_ready_for_viostor(
    windows_image: Path, injected_windows: Injected, remark: Callable[[str], None]
) -> None:
    """virt-v2v's work, as the boot loader will find it; the user's own image is as it was."""
    before = windows_image.stat()
    findings = judge(inspect(injected_windows.overlay, overlay=True))
    assert ready(findings, "viostor"), [one.detail for one in findings if not one.ok]
    after = windows_image.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    seen = [one.detail for one in findings if not one.ok and one.check in NOT_FATAL]
    remark("; ".join((*seen, *injected_windows.known_faults, *injected_windows.warnings)))

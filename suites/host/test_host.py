"""The host can run guests, and says what it runs them on."""

from __future__ import annotations

import pytest

from virtproof.guest.guest import Guest
from virtproof.plugin.run import Run
from virtproof.spec import Accel

LIBVIRT_FLOOR = (9, 0, 0)  # the claim's own floor, 0.4.4, is long behind every distribution


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


@pytest.mark.claim("HOST-1")
def test_accelerator_boots_a_kernel(virtproof_run: Run) -> None:
    """The accelerator in use has booted a kernel: opening a device node proves nothing."""
    verdict = virtproof_run.accelerator
    answered = {attempt.accel: attempt.answered for attempt in verdict.tried}
    assert answered.get(verdict.accel), verdict.why


@pytest.mark.claim("HOST-1")
def test_accelerator_that_hangs_is_named_and_not_used(virtproof_run: Run) -> None:
    """What was tried and did not answer is not in use, and the reason is told."""
    verdict = virtproof_run.accelerator
    mute = [attempt for attempt in verdict.tried if not attempt.answered]
    if not mute:
        pytest.skip("every accelerator that this host has answered")
    assert verdict.accel not in {attempt.accel for attempt in mute}
    assert all(attempt.accel.value in verdict.why and attempt.why for attempt in mute)


@pytest.mark.claim("HOST-2")
def test_libvirt_is_recent_enough(virtproof_run: Run, emulated_guest: Guest) -> None:
    """libvirtd's own version, asked over the connection that runs the guests."""
    del emulated_guest
    assert version(virtproof_run.versions["libvirt"]) >= LIBVIRT_FLOOR


@pytest.mark.claim("NET-6")
def test_run_names_what_it_runs_on(virtproof_run: Run, emulated_guest: Guest) -> None:
    """Accelerator with its reason, QEMU, libvirt and both kernels are known by name."""
    versions = virtproof_run.versions
    assert version(versions["qemu"])
    assert version(versions["libvirt"])
    assert virtproof_run.accelerator.why
    distribution, kernel = emulated_guest.identity
    assert distribution
    assert kernel == emulated_guest.kernel.release


@pytest.mark.claim("NET-6")
def test_accelerator_is_the_one_that_was_said(emulated_guest: Guest, accel: Accel) -> None:
    """libvirt's domain type is that of the accelerator that the header of the run names."""
    kind = "kvm" if accel is Accel.KVM else "qemu"
    xml = emulated_guest.domain.xml()
    assert f"<domain type='{kind}'" in xml

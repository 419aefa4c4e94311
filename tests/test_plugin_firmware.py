"""Which firmware and machine a test's guest gets: the image's own, unless the test says another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtproof.plugin import guests
from virtproof.plugin.kernels import Kernels
from virtproof.spec import Accel, DiskBus, Firmware, GuestSpec, Machine


def _unasked(*_: Any) -> Any:
    raise AssertionError("no kernel is under test")


def spec(boots: Firmware, /, **axes: Any) -> GuestSpec:
    """Of a run whose images boot by ``boots``."""
    run: Any = SimpleNamespace(
        accelerator=SimpleNamespace(accel=Accel.TCG),
        image=lambda name: SimpleNamespace(name=name, firmware=boots),
        kernels=Kernels({}, *3 * (_unasked,)),
    )
    return guests._spec(run, "an-image", axes)


def test_an_image_of_bios_is_on_pc() -> None:
    made = spec(Firmware.BIOS)
    assert (made.machine, made.firmware, made.disk) == (Machine.PC, Firmware.BIOS, DiskBus.IDE)


def test_an_image_of_uefi_is_on_q35_with_its_root_on_sata() -> None:
    made = spec(Firmware.UEFI)
    assert (made.machine, made.firmware, made.disk) == (Machine.Q35, Firmware.UEFI, DiskBus.SATA)
    assert spec(Firmware.UEFI, disk=DiskBus.VIRTIO).disk is DiskBus.VIRTIO


def test_what_the_test_says_counts() -> None:
    assert spec(Firmware.UEFI, firmware=Firmware.BIOS).machine is Machine.PC
    made = spec(Firmware.BIOS, firmware=Firmware.UEFI, machine=Machine.Q35, disk=DiskBus.NVME)
    assert (made.firmware, made.disk) == (Firmware.UEFI, DiskBus.NVME)


def test_what_the_image_s_machine_has_not_is_a_skip_with_its_reason() -> None:
    with pytest.raises(pytest.skip.Exception) as skipped:
        spec(Firmware.UEFI, disk=DiskBus.IDE)
    assert "an-image boots by UEFI, on q35: machine q35 has no IDE controller" in str(skipped.value)
    with pytest.raises(pytest.skip.Exception, match="uefi has no driver for the LSI"):
        spec(Firmware.UEFI, disk=DiskBus.SCSI)

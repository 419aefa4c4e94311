"""A Windows that runs is moved to virtio, and back between its kinds; each step is checked from inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virtproof.guest.failure import BootFailedError
from virtproof.guest.screen import READER
from virtproof.guest.windows import WindowsGuest
from virtproof.host import find_program
from virtproof.spec import Accel, DiskBus
from virtproof.windows.bootstart import WindowsFacts, judge, ready
from virtproof.windows.online import plan
from virtproof.windows.online.conductor import OTHER, Conductor

BUSES = (DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI)
ConductorFor = Callable[..., Conductor]


@pytest.mark.claim("WIN-1", "WIN-2")
@pytest.mark.boots(3)
@pytest.mark.parametrize("bus", BUSES, ids=str)
def test_switch(conductor_for: ConductorFor, bus: DiskBus) -> None:
    """Drivers installed for a disk that nobody needs, then root and NIC on virtio, twice booted."""
    conductor_for(bus, nic=True).carry_out(plan.switch(nic=True))


@pytest.mark.claim("WIN-1")
def test_without_drivers_it_stops(windows_facts: WindowsFacts, windows_guest: WindowsGuest) -> None:
    """The control: a Windows that knows no virtio disk, switched all the same, is seen to stop."""
    if ready(judge(windows_facts), "viostor"):
        pytest.skip("the image has viostor already")
    if windows_guest.spec.accel is not Accel.KVM and find_program(READER) is None:
        pytest.skip(f"needs KVM's crash registers, or {READER} to read the screen (tesseract-ocr)")
    windows_guest.move()
    with pytest.raises(BootFailedError) as failed:
        windows_guest.start()
    found = failed.value.diagnosis
    assert (found.name, found.line.split()[1]) == ("windows-stop", "0x0000007b")


@pytest.mark.boots(3)
def test_switch_with_devices_from_the_start(conductor_for: ConductorFor) -> None:
    """For machines that no disk is plugged into while they run."""
    conductor_for(DiskBus.VIRTIO, nic=False).carry_out(plan.switch(nic=False, cold=True))


@pytest.mark.slow
@pytest.mark.boots(4)
def test_switch_by_way_of_safe_mode(
    conductor_for: ConductorFor, windows_guest: WindowsGuest
) -> None:
    """Safe mode starts every boot driver; only the agent answers in it."""
    if windows_guest.login.channel != "agent":
        pytest.skip("in safe mode there is the agent alone: --windows-channel agent")
    conductor_for(DiskBus.VIRTIO, nic=True).carry_out(plan.switch(nic=True, safe_mode=True))


@pytest.mark.slow
@pytest.mark.boots(6)
@pytest.mark.parametrize("bus", BUSES, ids=str)
def test_switch_between_virtio_disks(
    conductor_for: ConductorFor, windows_guest: WindowsGuest, bus: DiskBus
) -> None:
    """From one kind of virtio disk to the other, which stops a Windows as the first switch would."""
    first = conductor_for(bus, nic=False)
    first.carry_out(plan.switch(nic=False))
    windows_guest.end(first.windows)
    other = next(one for one in BUSES if one is not bus)
    conductor_for(other, nic=False).carry_out(plan.switch(nic=False))


@pytest.mark.slow
@pytest.mark.boots(6)
@pytest.mark.parametrize(
    "steps", [plan.verified, plan.reinstalled], ids=["verifier", "reinstalled"]
)
def test_switched(conductor_for: ConductorFor, steps: Callable[[], tuple[plan.Step, ...]]) -> None:
    """Under Driver Verifier; and with the NIC's driver removed and installed again."""
    conductor = conductor_for(DiskBus.VIRTIO, nic=True)
    conductor.carry_out(plan.switch(nic=True))
    conductor.carry_out(steps())


@pytest.mark.slow
@pytest.mark.boots(6)
def test_upgrade_and_downgrade(conductor_for: ConductorFor) -> None:
    """From the other ISO's drivers to those of the ISO under test, and the NIC's back."""
    conductor = conductor_for(DiskBus.VIRTIO, nic=True, begin=OTHER)
    conductor.carry_out(plan.switch(nic=True))
    conductor.carry_out(plan.upgraded())
    conductor.carry_out(plan.downgraded())

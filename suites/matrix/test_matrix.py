"""What a kernel works on: the buses and machines it boots from, the devices it drives, the way to virtio.

The kernel is asked first what it has. Without the driver, a cell is not supported, which is no fault and no
success; with it, the driver must bind and the device must work.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from suites.matrix.looking import (
    check_mode,
    check_queues,
    given,
    look,
    look_at_nic,
    negotiated,
    reach_gateway,
    work,
)

from virtproof.guest.guest import Guest
from virtproof.matrix.cells import DeviceCell, RootCell, SwitchCell
from virtproof.matrix.selection import Home
from virtproof.matrix.verdicts import Verdict, bound, lacking, not_supported
from virtproof.plugin.cells import Cell
from virtproof.spec import DiskBus, NicModel

PACKED_SINCE = (5, 0)
pytestmark = pytest.mark.boots(1)  # all alike: workers keep the order, an image after another


def settle(cell: Cell, check: str, verdict: Verdict) -> None:
    """Skip what is not supported, fail what is broken."""
    if verdict.name != "works":
        cell(check, verdict.name, verdict.reason)


def refuse_packed(guest: Guest, cell: Cell, check: str) -> None:
    """Packed rings have no module of their own: Linux has them since 5.0."""
    if guest.kernel.version < PACKED_SINCE:
        cell(check, "not-supported", "packed rings came with Linux 5.0")


def test_device(device_cell: DeviceCell, explored: Guest, cell: Cell) -> None:
    """A running guest is given the device: the kernel's driver takes it, and it works; then it goes again."""
    guest, check = explored, device_cell.check
    cell(check, "works")
    missing = lacking(device_cell.modules, guest.kernel.supports)
    if device_cell.packed:
        refuse_packed(guest, cell, check)
    with given(guest, device_cell) as place:
        seen = look(guest, device_cell, patient=not missing)
        settle(cell, check, bound(missing, device_cell.device.drivers, seen.driver))
        work(guest, device_cell, seen)
        check_mode(guest, device_cell.virtio, packed=device_cell.packed, at=place)
        cell(check, "works", features=negotiated(guest, at=place))


def test_root(
    root_cell: RootCell,
    home: Home,
    explored: Guest,
    ready_guest: Callable[..., Guest],
    cell: Cell,
) -> None:
    """A guest boots with its root and its NIC on these; both are driven by what should drive them."""
    check = root_cell.check
    cell(check, "works")
    if missing := lacking(root_cell.modules, explored.kernel.supports):
        settle(cell, check, not_supported(missing))
    if root_cell.packed:
        refuse_packed(explored, cell, check)
    # One on what the image was made on is running already.
    guest = explored
    if root_cell != home.cell:
        guest = ready_guest(**root_cell.fields).boot()
    settle(cell, check, bound((), root_cell.disk.drivers, guest.block.root_disk.driver))
    settle(cell, check, bound((), root_cell.nic.drivers, look_at_nic(guest).driver))
    reach_gateway(guest)
    check_mode(guest, root_cell.virtio, packed=root_cell.packed)
    if root_cell.queues > 1:
        check_queues(guest, root_cell.queues)
    cell(check, "works", features=negotiated(guest))


def test_root_switches(
    switch_cell: SwitchCell,
    home: Home,
    explored: Guest,
    ready_guest: Callable[..., Guest],
    cell: Cell,
) -> None:
    """An installed system, its initramfs prepared, boots from a virtio disk after its domain was edited."""
    check = switch_cell.check
    cell(check, "works")
    if missing := lacking(switch_cell.modules, explored.kernel.supports):
        settle(cell, check, not_supported(missing))
    guest = ready_guest(**{**home.cell.fields, "disk": switch_cell.source})
    guest.switch(disk=switch_cell.target, nic=NicModel.VIRTIO)
    root = guest.block.root_disk
    settle(cell, check, bound((), switch_cell.target.drivers, root.driver))
    assert root.name.startswith("vd") == (switch_cell.target is DiskBus.VIRTIO)
    assert guest.system.failed_units == ()
    cell(check, "works", features=negotiated(guest))

"""The matrix runs only where it is asked for: each of its cells is a guest that boots, or a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtproof.guest.guest import Guest
from virtproof.matrix.selection import Home
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.matrix import home as home_of
from virtproof.plugin.ready import ReadyRoots, prepare
from virtproof.plugin.run import Run
from virtproof.spec import DataDisk, DiskBus, GuestSpec, Machine

HERE = Path(__file__).parent
# Buses whose controllers cannot be plugged into a running guest: it has a disk on each from its start.
COLD = tuple(
    DataDisk(bus, f"cold{bus}") for bus in (DiskBus.IDE, DiskBus.SATA, DiskBus.SCSI, DiskBus.USB)
)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this directory out of a run that neither names it nor gives a profile."""
    if config.getoption("--matrix") is not None:
        return None
    named = (
        Path(config.invocation_params.dir, arg.split("::")[0]).resolve() for arg in config.args
    )
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture
def home(image_name: str) -> Home:
    """What the image under test was made for."""
    return home_of(image_name)


@pytest.fixture(scope="session")
def at_hand() -> list[Guest]:
    """The guest that was explored last."""
    return []


@pytest.fixture
def explored(
    shared_guest_on: GuestFactory, image_name: str, home: Home, at_hand: list[Guest]
) -> Guest:
    """A running guest on what its image was made on: its kernel is asked, and it is given devices.

    Shared by the cells of an image; those of many images would be too many to keep.
    """
    if at_hand and at_hand[0].spec.image != image_name:
        at_hand.pop().close()
    cold = COLD if home.machine is Machine.PC else ()
    at_hand[:] = [shared_guest_on(**home.cell.fields, data_disks=cold)]
    return at_hand[0]


@pytest.fixture(scope="session")
def ready_roots(virtproof_run: Run) -> ReadyRoots:
    """Root disks that boot from every bus; one an image."""
    return ReadyRoots(virtproof_run)


@pytest.fixture
def ready_guest(
    virtproof_run: Run,
    ready_roots: ReadyRoots,
    explored: Guest,
    defined_guest: GuestFactory,
    guest_on: GuestFactory,
) -> Callable[..., Guest]:
    """Makes guests, off, whose root disk boots from every bus that the kernel knows."""

    def factory(**fields: Any) -> Guest:
        if virtproof_run.options.libvirt is None:
            ready = ready_roots.of(explored.spec)
            guest = defined_guest(**fields)
            guest.rebase(ready.path)
            return guest
        # Disks of a user's libvirt are in no cache of ours: each guest is prepared by itself.
        own = explored.spec
        guest = guest_on(machine=own.machine, firmware=own.firmware, disk=own.disk)
        prepare(guest)
        guest.become(GuestSpec(**{"image": own.image, "accel": own.accel, **fields}))
        return guest

    return factory

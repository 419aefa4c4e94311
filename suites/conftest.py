"""Guests that the suites share, each named after the state a test finds it in."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from virtproof.guest.guest import Guest
from virtproof.images.store import PreparedImage
from virtproof.kernel import expect
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.options import read_options
from virtproof.plugin.run import Run
from virtproof.spec import DataDisk, DiskBus, NicModel

# What the claims are about; other buses are in the matrix.
BUSES = tuple(bus for bus in DiskBus if bus not in (DiskBus.USB, DiskBus.NVME))
# One data disk a bus; the serial tells it apart in the guest.
DATA_DISKS = tuple(DataDisk(bus, f"data{bus.replace('-', '')}") for bus in BUSES)
READ_ONLY = DataDisk(DiskBus.VIRTIO, "readonly", readonly=True)


def pytest_configure(config: pytest.Config) -> None:
    """These suites always leave a JUnit file beside the other results."""
    if not config.option.xmlpath and not hasattr(config, "workerinput"):
        config.option.xmlpath = str(read_options(config).out / "junit.xml")


@pytest.fixture
def ide_image(image: PreparedImage) -> PreparedImage:
    """The image under test, if it can boot from IDE: an image made on virtio alone need not."""
    if image.installed_on == "virtio":
        pytest.skip(f"{image.name} was installed on virtio: its initramfs need not know IDE")
    return image


@pytest.fixture
def sibling(virtproof_run: Run, image_name: str):  # a function, typed within
    """The image made like the one under test but otherwise (``virtio``, ``dracut``): its name."""

    def named(suffix: str) -> str:
        base, at, kernel = image_name.partition("@")
        name = f"{base}-{suffix}{at}{kernel}"
        if not virtproof_run.in_catalog(name):
            pytest.skip(f"the catalog has no image {name}")
        return name

    return named


@pytest.fixture
def emulated_guest(shared_guest_on: GuestFactory) -> Guest:
    """A running guest without any virtio device: IDE and RTL8139. Shared: read only.

    The NIC is not asked for: a kernel without a driver of it has others to be seen.
    """
    return shared_guest_on(disk=DiskBus.IDE)


def has_files(guest: Guest) -> bool:
    """Whether the image has the running kernel's files: not where QEMU booted one without its modules."""
    return not guest.spec.kernel or bool(guest.support.modules)


def need_modules(guest: Guest) -> None:
    """Skip where QEMU booted a kernel whose modules the image has not: its files say nothing of it."""
    if not has_files(guest):
        pytest.skip(f"booted directly: the image has no modules of {guest.support.release}")


def need_driver(guest: Guest, drivers: Iterable[str]) -> None:
    """Skip where the guest's kernel has none of these: no failure of what is under test, and no success."""
    if not has_files(guest):
        registered = guest.runner.run("ls /sys/bus/pci/drivers /sys/bus/virtio/drivers")
        if not set(drivers) & set(registered.stdout.split()):
            missing = " nor ".join(drivers)
            pytest.skip(f"booted directly: no {missing} is built in or came with the initrd")
        return
    found = expect.driver(guest.support, drivers)
    if not found.yes:
        pytest.skip(f"not supported by this kernel: {found.why}")


@pytest.fixture
def virtio_guest(shared_guest_on: GuestFactory) -> Guest:
    """A running guest with a virtio NIC and a data disk on every bus. Shared: put back what changes."""
    return shared_guest_on(
        disk=DiskBus.IDE, nic=NicModel.VIRTIO, data_disks=(*DATA_DISKS, READ_ONLY)
    )

"""Fixtures that give guests, named after the state that a test finds them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from virtproof.errors import UsageError
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.images.store import PreparedImage
from virtproof.lab.base import Lab
from virtproof.matrix.selection import Asked
from virtproof.measure.store import clean_line
from virtproof.plugin import evidence, matrix
from virtproof.plugin.run import Run
from virtproof.spec import Accel, DiskBus, Firmware, GuestSpec, Machine

RUN = pytest.StashKey[Run]()
USED = pytest.StashKey[list[Guest]]()
REMARK = pytest.StashKey[str]()


class GuestFactory(Protocol):
    """Axes by name (fields of GuestSpec) to a guest."""

    def __call__(self, **axes: Any) -> Guest: ...


@pytest.fixture(scope="session")
def virtproof_run(request: pytest.FixtureRequest) -> Run:
    """The session's resources: accelerator, lab, image store."""
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def accel(virtproof_run: Run) -> Accel:
    """The accelerator that guests run on."""
    return virtproof_run.accelerator.accel


@pytest.fixture
def lab(virtproof_run: Run) -> Lab:
    """The lab: network, storage, the way in. A test's, as another may follow one that was killed."""
    return virtproof_run.lab


@pytest.fixture(scope="session")
def image_name(request: pytest.FixtureRequest) -> str:
    """The image under test; each ``--image`` gives a run of the test (see ``generate``)."""
    return str(request.param)


@pytest.fixture(scope="session")
def image(virtproof_run: Run, image_name: str) -> PreparedImage:
    """The image under test, prepared."""
    return virtproof_run.image(image_name)


def _spec(run: Run, image_name: str, axes: dict[str, Any]) -> GuestSpec:
    """The guest that a test asks for, on the firmware that its image boots by unless the test says another.

    An image that boots by UEFI is on q35, its root on SATA where nothing is said; a test that wants what
    that machine has not (IDE), or what a kernel under test has no driver for, is skipped.
    """
    axes = {"image": image_name, "accel": run.accelerator.accel, **axes}
    firmware = run.image(run.kernels.of(axes["image"])[0]).firmware
    uefi = {"firmware": Firmware.UEFI, "machine": Machine.Q35, "disk": DiskBus.SATA}
    known = "firmware" in axes or firmware is Firmware.BIOS
    try:
        spec = GuestSpec(**(({} if known else uefi) | axes))
    except UsageError as error:
        if known:
            raise
        pytest.skip(f"{axes['image']} boots by UEFI, on q35: {error.what}")
    if why := run.kernels.lacking(spec, nic="nic" in axes):
        pytest.skip(f"not supported by this kernel: {why}")
    return spec if spec.kernel else spec.but(**run.kernels.fields(spec.image, spec.accel))


def _made(node: pytest.Item, run: Run, spec: GuestSpec) -> Guest:
    """A guest, defined; where a kernel under test did not come up, the guest that tells why is the test's."""
    try:
        return run.guest(spec)
    except BootFailedError:
        used(node).extend(run.kernels.installing[-1:])
        raise


@pytest.fixture
def defined_guest(
    request: pytest.FixtureRequest, virtproof_run: Run, image_name: str
) -> Iterator[GuestFactory]:
    """Makes guests that are defined and not started; thrown away after the test."""
    made: list[Guest] = []

    def factory(**axes: Any) -> Guest:
        guest = _made(request.node, virtproof_run, _spec(virtproof_run, image_name, axes))
        made.append(guest)
        used(request.node).append(guest)
        return guest

    yield factory
    for guest in made:
        if request.node.stash.get(KEEP, False):
            virtproof_run.keep(guest)
        else:
            guest.close()


@pytest.fixture
def guest_on(virtproof_run: Run, defined_guest: GuestFactory) -> GuestFactory:
    """Makes guests that are up: ``guest_on(disk=DiskBus.IDE)``; thrown away after the test.

    A copy of a guest that was saved when it was up, unless ``--cold`` was given.
    """

    def factory(**axes: Any) -> Guest:
        return virtproof_run.boot(defined_guest(**axes))

    return factory


@pytest.fixture(scope="session")
def _shared() -> dict[GuestSpec, Guest]:
    """The guests that tests share; the run closes them with all others."""
    return {}


@pytest.fixture
def shared_guest_on(
    request: pytest.FixtureRequest,
    virtproof_run: Run,
    image_name: str,
    _shared: dict[GuestSpec, Guest],
) -> GuestFactory:
    """Makes booted guests that tests share, for tests that only read or put back what they change."""

    def factory(**axes: Any) -> Guest:
        spec = _spec(virtproof_run, image_name, axes)
        guest = _shared.get(spec)
        if guest is not None and not _fits(guest, spec):
            guest.close()
            guest = None
        if guest is None:
            guest = _shared[spec] = _made(request.node, virtproof_run, spec)
            used(request.node).append(guest)
            virtproof_run.boot(guest)
        elif guest not in used(request.node):
            used(request.node).append(guest)
        return guest

    return factory


@pytest.fixture
def remark(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the test's record: its ``reason``, unless a failure has another."""

    def say(line: str) -> None:
        request.node.stash[REMARK] = clean_line(line)

    return say


@pytest.fixture
def evidence_directory(request: pytest.FixtureRequest, virtproof_run: Run) -> Path:
    """The test's own directory of evidence, for what only the test knows of; made when asked for."""
    return evidence.make(evidence.place(virtproof_run.options.out, request.node.nodeid))


def _fits(guest: Guest, spec: GuestSpec) -> bool:
    """Whether a shared guest is still what is asked for, and runs; those of a dead lab were closed."""
    return guest.spec == spec and guest.is_defined and guest.state == "running"


KEEP = pytest.StashKey[bool]()


def used(node: pytest.Item) -> list[Guest]:
    """The guests that a test has used so far."""
    return node.stash.setdefault(USED, [])


def generate(metafunc: pytest.Metafunc, images: tuple[str, ...], asked: Asked) -> None:
    """One run of a test for each image under test, if it asks for a guest; or for each cell of it."""
    if matrix.generate(metafunc, images, asked):
        return
    if "image_name" in metafunc.fixturenames:
        ids = [name.rsplit("/", 1)[-1] for name in images]
        metafunc.parametrize("image_name", images, ids=ids, indirect=True, scope="session")

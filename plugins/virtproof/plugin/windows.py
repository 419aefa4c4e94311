"""What a user gives of Windows: an image of theirs, which is only ever read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from virtproof.errors import MissingToolError, UsageError
from virtproof.images import installed
from virtproof.images.cache import default_cache
from virtproof.plugin import windows_online
from virtproof.plugin.virtio_win import NO_MEDIUM
from virtproof.spec import Accel
from virtproof.windows import image, injection
from virtproof.windows.appliance import KernelTree
from virtproof.windows.bootstart import WindowsFacts

if TYPE_CHECKING:  # which reads the options
    from virtproof.plugin.run import Run

NO_IMAGE = "needs a disk with Windows: --windows-image=win.qcow2"


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--windows-image",
        metavar="FILE|NAME",
        help="a qcow2 or raw disk with a Windows that was shut down, or the name of one that was installed "
        "by `images build windows`: is it ready for virtio? It is only read",
    )
    windows_online.add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(windows_online, "virtproof-windows-online")  # its fixtures
    config.addinivalue_line(
        "markers", "slow: hours of a Windows guest's; left out unless --windows-slow is given"
    )


def read_image(config: pytest.Config) -> Path | None:
    """The disk that the option names, absolute; UsageError where there is none."""
    name = config.getoption("--windows-image")
    if name is None:
        return None
    if (disk := installed.disk(default_cache(), name)) is not None:
        return disk
    path: Path = (config.invocation_params.dir / name).resolve()
    if not path.is_file():
        raise UsageError(f"--windows-image {name}: there is no such file, and no installed Windows")
    return path


@pytest.fixture(scope="session")
def windows_image(request: pytest.FixtureRequest) -> Path:
    """The user's Windows, a file that nobody writes to; without one the test is skipped."""
    path = read_image(request.config)
    if path is None:
        pytest.skip(NO_IMAGE)
    return path


@pytest.fixture(scope="session")
def windows_facts(windows_image: Path) -> WindowsFacts:
    """What the registry of the user's Windows says."""
    return image.inspect(windows_image)


@pytest.fixture(scope="module")
def injected_windows(
    request: pytest.FixtureRequest,
    windows_image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> injection.Injected:
    """The user's Windows with the drivers of --virtio-win installed by virt-v2v, in an overlay."""
    name = request.config.getoption("--virtio-win")
    if name is None:
        pytest.skip(NO_MEDIUM)
    try:
        injection.installed_version()
    except MissingToolError as error:
        pytest.skip(f"the drivers cannot be installed offline: {error}")
    # Asked for here: a test that is skipped for want of an image is no test of guests.
    run: Run = request.getfixturevalue("virtproof_run")
    store, accel = run.store, run.accelerator.accel
    return injection.inject(
        windows_image,
        request.config.invocation_params.dir / name,
        tmp_path_factory.mktemp("injected") / "windows.qcow2",
        lambda scratch: KernelTree(*store.kernel_tree(scratch)),
        kvm=accel is Accel.KVM,
        say=run.progress.long,
    )

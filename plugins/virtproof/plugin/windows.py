"""What a user gives of Windows: an image of theirs, which is only ever read."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.errors import UsageError
from virtproof.windows import image
from virtproof.windows.bootstart import WindowsFacts

NO_IMAGE = "needs a disk with Windows: --windows-image=win.qcow2"


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--windows-image",
        metavar="FILE",
        help="a qcow2 or raw disk with a Windows that was shut down: is it ready for virtio? It is only read",
    )


def read_image(config: pytest.Config) -> Path | None:
    """The file that the option names, absolute; UsageError where there is none."""
    name = config.getoption("--windows-image")
    if name is None:
        return None
    path: Path = (config.invocation_params.dir / name).resolve()
    if not path.is_file():
        raise UsageError(f"--windows-image {name}: there is no such file")
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

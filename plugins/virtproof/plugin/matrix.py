"""The matrix as options and parameters: ``--disk nvme,virtio`` to cells, cells to runs of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from virtproof.errors import UsageError
from virtproof.images import catalog, foreign
from virtproof.matrix.cells import Cell
from virtproof.matrix.listing import lines
from virtproof.matrix.selection import Asked, Home, Matrix, Profile, select
from virtproof.spec import Axis, DiskBus, Firmware, Machine, NicModel, VirtioMode

# What a test asks for -> the cells that it is run with, each once an image.
FIXTURES = {"root_cell": "roots", "device_cell": "devices", "switch_cell": "switches"}
AXES: dict[str, type[Axis]] = {
    "machine": Machine,
    "firmware": Firmware,
    "disk": DiskBus,
    "nic": NicModel,
    "virtio": VirtioMode,
}
MOST_QUEUES = 16
EMPTY = "virtproof-no-cells"


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--matrix",
        metavar="|".join(Profile),
        help="which cells: small (some minutes an image), given (the product of the values given below), "
        "pairwise (every pair of values) or full (default: given where a value is, else small)",
    )
    group.addoption(
        "--list-matrix",
        action="store_true",
        help="print the cells, and of each that is left out why; start nothing",
    )
    for name, axis in AXES.items():
        group.addoption(
            f"--{name}",
            action="append",
            metavar=name.upper(),
            help=f"cells of this {name} only: {', '.join(axis)}; repeatable, or separated by commas",
        )
    group.addoption(
        "--packed", action="store_true", help="cells whose virtio devices have packed rings only"
    )
    group.addoption(
        "--queues",
        action="append",
        metavar="N",
        help="cells with N queues of each virtio device, and as many processors; likewise",
    )


def read(config: pytest.Config) -> Asked:
    """What the options ask for; UsageError with the nearest name for a typo."""
    values: dict[str, tuple[Any, ...]] = {}
    for name, axis in AXES.items():
        if words := list(_words(config, name)):
            values[name] = tuple(dict.fromkeys(_parsed(name, axis, word) for word in words))
    if config.getoption("--packed"):
        values["packed"] = (True,)
    if words := list(_words(config, "queues")):
        values["queues"] = tuple(dict.fromkeys(_queues(word) for word in words))
    wanted = config.getoption("--matrix")
    if wanted is None:
        return Asked(Profile.GIVEN if values else Profile.SMALL, values)
    return Asked(Profile.parse(wanted), values)


def _words(config: pytest.Config, name: str) -> Iterator[str]:
    for text in config.getoption(f"--{name}") or ():
        yield from (word.strip() for word in text.split(","))


def _parsed(name: str, axis: type[Axis], word: str) -> Axis:
    try:
        return axis.parse(word)
    except UsageError as error:
        raise UsageError(f"--{name}: {error.what}", hint=error.hint) from None


def _queues(word: str) -> int:
    if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= MOST_QUEUES:
        raise UsageError(f"--queues {word}: no such number", hint=f"1 to {MOST_QUEUES}")
    return int(word)


def home(image: str) -> Home:
    """What the catalog says of an image; a file is taken for one that was installed on virtio."""
    if foreign.is_file_name(image):
        return Home(disk=DiskBus.VIRTIO)
    entry = catalog.load()[image]
    firmware = getattr(entry, "firmware", Firmware.BIOS)
    boots = tuple(Firmware) if firmware == "both" else (Firmware(firmware),)
    return Home(boots, DiskBus(getattr(entry, "installed_on", DiskBus.VIRTIO)))


def matrix_of(asked: Asked, image: str) -> Matrix:
    return select(asked, home(image))


def listing(asked: Asked, images: Sequence[str]) -> Iterator[str]:
    """The lines of ``--list-matrix``."""
    for image in images:
        yield from lines(_short(image), asked.profile, matrix_of(asked, image))


def generate(metafunc: pytest.Metafunc, images: tuple[str, ...], asked: Asked) -> bool:
    """A run of the test for each cell of each image, where it asks for cells; false where it does not."""
    kinds = [name for name in FIXTURES if name in metafunc.fixturenames]
    if not kinds:
        return False
    (kind,) = kinds
    parameters = [
        pytest.param(image, cell, id=f"{_short(image)}/{cell.id}", marks=_mark(cell))
        for image in images
        for cell in getattr(matrix_of(asked, image), FIXTURES[kind])
    ] or [pytest.param(images[0], None, id=EMPTY)]
    names = ("image_name", kind)
    metafunc.parametrize(names, parameters, indirect=["image_name"], scope="session")
    return True


def _mark(cell: Cell) -> pytest.MarkDecorator:
    """The cell's values, for ``-m "cell(disk='virtio')"``."""
    values = {k: v.value if isinstance(v, Axis) else v for k, v in cell.axes.items()}
    return pytest.mark.cell(**values)


def arrange(items: list[pytest.Item]) -> None:
    """Drop the tests for which no cell was asked; then one image's cells after another's.

    pytest groups tests by each parameter of a session, hence by cell before image, and a guest of each image
    would be kept or made anew for each cell.
    """
    gone = [item for item in items if item.name.endswith(f"[{EMPTY}]")]
    if gone:
        gone[0].config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]
    places = [place for place, item in enumerate(items) if _image(item)]
    images = list(dict.fromkeys(_image(items[place]) for place in places))
    in_order = sorted(
        (items[place] for place in places), key=lambda item: images.index(_image(item))
    )
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


def _image(item: pytest.Item) -> str:
    """The image of a test that is run with a cell; empty of another test."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or not FIXTURES.keys() & callspec.params.keys():
        return ""
    return str(callspec.params["image_name"])


def _short(image: str) -> str:
    return image.rsplit("/", 1)[-1]

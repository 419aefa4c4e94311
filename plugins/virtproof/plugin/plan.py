"""The options of a comparison: two sides, how many pairs of sessions, which jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from virtproof.errors import UsageError
from virtproof.sides import Side, parse_side
from virtproof.spec import CacheMode, DataDisk, DiskBus, GuestSpec, IoMode, NicModel
from virtproof.workload.job import Job
from virtproof.workload.profiles import compared

SERIAL, SIZE_MIB = "work", 128
FEWEST = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared: A and B, how many pairs of sessions, the jobs of each session."""

    sides: tuple[Side, Side]
    pairs: int
    jobs: tuple[Job, ...]


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--a",
        metavar="SIDE",
        help="side A: FIELD=VALUE,... of a guest (image, kernel, initrd, qemu, nic, cpus ...) "
        "or, as data.FIELD, of the disk that is measured (data.bus, data.cache ...); 'same' changes nothing",
    )
    group.addoption("--b", metavar="SIDE", help="side B, which is held against side A")
    group.addoption(
        "--pairs", default="10", metavar="N", help="sessions of each side (default: 10)"
    )
    group.addoption(
        "--workload",
        metavar="JOB,...",
        help="what is measured (default: TCP both ways, reads and writes, sequential and random)",
    )


def read_plan(config: pytest.Config, image: Callable[[str, str], str]) -> Plan | None:
    """What the options ask for; UsageError for what cannot be compared.

    ``image`` checks the name of one, which an option has given.
    """
    a, b = config.getoption("--a"), config.getoption("--b")
    if a is None and b is None:
        return None
    if a is None or b is None:
        raise UsageError(
            "a comparison has two sides", hint="give --a and --b; 'same' is one as it is"
        )
    pairs = config.getoption("--pairs")
    if not pairs.isascii() or not pairs.isdigit() or int(pairs) < FEWEST:
        raise UsageError(f"--pairs {pairs}: at least {FEWEST} are needed for an interval")
    if getattr(config.option, "numprocesses", None):
        raise UsageError("sides are compared alone, without workers", hint="give -n 0")
    sides = (_side("A", a, image), _side("B", b, image))
    return Plan(sides, int(pairs), compared(config.getoption("--workload")))


def _side(name: str, text: str, image: Callable[[str, str], str]) -> Side:
    """A guest on virtio, with a virtio disk to work on, where the text has nothing else."""
    try:
        spec, data = parse_side(text)
        if "image" in spec:
            spec["image"] = image(spec["image"], "image")
        data = {"bus": DiskBus.VIRTIO, "size_mib": SIZE_MIB, "cache": CacheMode.NONE, **data}
        if data["cache"] in (CacheMode.NONE, CacheMode.DIRECTSYNC):
            data.setdefault("io", IoMode.NATIVE)
        axes = {"nic": NicModel.VIRTIO, "data_disks": (DataDisk(serial=SERIAL, **data),), **spec}
        GuestSpec(**{"image": "any", **axes})
    except UsageError as error:
        raise UsageError(f"--{name.lower()} {text}: {error.what}", hint=error.hint) from None
    return Side(name, axes, SERIAL, text.strip())

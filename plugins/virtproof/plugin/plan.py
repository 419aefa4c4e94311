"""The options of a comparison: two sides, how many pairs of sessions, which jobs."""

from __future__ import annotations

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
    """What is compared: sides as they were written, pairs of sessions, jobs of each session."""

    a: str
    b: str
    pairs: int
    jobs: tuple[Job, ...]

    @property
    def sides(self) -> list[Side]:
        return [_side("A", self.a), _side("B", self.b)]


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


def read_plan(config: pytest.Config) -> Plan | None:
    """What the options ask for; UsageError for what cannot be compared."""
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
    plan = Plan(a, b, int(pairs), compared(config.getoption("--workload")))
    assert plan.sides  # reads them
    return plan


def _side(name: str, text: str) -> Side:
    """A guest on virtio, with a virtio disk to work on, where the text has nothing else."""
    try:
        spec, data = parse_side(text)
        data = {"bus": DiskBus.VIRTIO, "size_mib": SIZE_MIB, "cache": CacheMode.NONE, **data}
        if data["cache"] in (CacheMode.NONE, CacheMode.DIRECTSYNC):
            data.setdefault("io", IoMode.NATIVE)
        axes = {"nic": NicModel.VIRTIO, "data_disks": (DataDisk(serial=SERIAL, **data),), **spec}
        GuestSpec(**{"image": "any", **axes})
    except UsageError as error:
        raise UsageError(f"--{name.lower()} {text}: {error.what}", hint=error.hint) from None
    return Side(name, axes, SERIAL, text.strip())

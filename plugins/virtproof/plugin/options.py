"""Command line options of the plugin, checked before anything starts."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from virtproof.errors import UsageError
from virtproof.images import catalog, foreign, installed
from virtproof.images.kernels import KernelUnderTest
from virtproof.images.store import default_cache, default_image
from virtproof.matrix.selection import Asked
from virtproof.plugin import (
    choosing,
    kernel_options,
    matrix,
    plan,
    sharding,
    virtio_win,
    windows,
    windows_online,
)
from virtproof.workload.profiles import Effort

ACCELERATORS = ("auto", "kvm", "tcg")
MOST_PATIENCE = 1000.0


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("virtproof", "guests on virtio")
    group.addoption(
        "--image",
        action="append",
        metavar="NAME|FILE",
        help="image to boot guests from: a catalog name or a qcow2/raw file; repeatable. A pattern as "
        "'debian-*' is all that the catalog can build of that name, all-built those that are "
        "built already (default: the catalog's image for this distribution)",
    )
    group.addoption(
        "--accel",
        default="auto",
        metavar="auto|kvm|tcg",
        help="accelerator; auto takes KVM only after a kernel was seen to boot on it (default: auto)",
    )
    group.addoption(
        "--libvirt", metavar="URI", help="run guests on this libvirt instead of a private lab"
    )
    group.addoption(
        "--network",
        metavar="NAME",
        help="libvirt network for guests, with --libvirt (default: default)",
    )
    group.addoption(
        "--pool", metavar="NAME", help="storage pool for disks, with --libvirt (default: default)"
    )
    kernel_options.add_options(group)
    _add_effort(group)
    sharding.add_options(group)
    of_windows = parser.getgroup("virtproof-windows", "Windows (pytest -k windows)")
    virtio_win.add_options(of_windows)
    windows.add_options(of_windows)
    matrix.add_options(parser.getgroup("virtproof-matrix", "the matrix (./run matrix)"))
    plan.add_options(parser.getgroup("virtproof-compare", "comparing guests (./run compare)"))
    _add_results(group)


def _add_results(group: pytest.OptionGroup) -> None:
    """What a run leaves."""
    group.addoption("--out", default="out", metavar="DIR", help="where results go (default: out)")
    group.addoption(
        "--keep-guest",
        action="store_true",
        help="leave the guests of a failed test running and print how to reach them",
    )


def _add_effort(group: pytest.OptionGroup) -> None:
    """What may take longer than a plain run."""
    group.addoption(
        "--cold", action="store_true", help="boot every guest, instead of copying one that is up"
    )
    group.addoption(
        "--nested",
        action="store_true",
        help="also run suites/nested: guests inside of a guest, on KVM of its own (takes minutes)",
    )
    group.addoption(
        "--throughput",
        default="quick",
        metavar="quick|nightly|release",
        help="how much is measured: quick for a yes or no beside other tests; nightly and release "
        "measure alone and for long (default: quick)",
    )
    group.addoption(
        "--control",
        metavar="NAME|FILE",
        help="an image that never changes: measured beside the one under test, for ./run history",
    )
    group.addoption(
        "--deadline-factor",
        default="1",
        metavar="N",
        help="multiply the deadlines for guests and for the accelerator's probe by N (default: 1)",
    )


@dataclass(frozen=True, slots=True)
class Options:
    """The options, typed. ``images`` are catalog names or absolute paths of files, each with ``@RELEASE``
    behind it where it is to run a kernel of ``kernels``, which are by release."""

    images: tuple[str, ...]
    accel: str
    libvirt: str | None
    network: str
    pool: str
    out: Path
    keep_guest: bool
    cache: Path
    cold: bool = False
    nested: bool = False
    deadline_factor: float = 1.0
    throughput: Effort = Effort.QUICK
    compare: plan.Plan | None = None
    control: str = ""
    matrix: Asked = field(default_factory=Asked)
    shard: sharding.Shard | None = None
    kernels: Mapping[str, KernelUnderTest] = field(default_factory=dict)


def read_options(config: pytest.Config) -> Options:
    """UsageError (with the nearest names) for what cannot be."""
    accel = config.getoption("--accel")
    if accel not in ACCELERATORS:
        raise UsageError(f"--accel {accel}: no such accelerator", hint="one of auto, kvm, tcg")
    uri = config.getoption("--libvirt")
    for name in ("--network", "--pool"):
        if config.getoption(name) and not uri:
            raise UsageError(f"{name} goes with --libvirt", hint="the private lab has its own")
    control = config.getoption("--control")
    windows.read_image(config)
    windows_online.read_options(config)
    names = config.getoption("--image") or [default_image()]
    chosen = [one for name in names for one in choosing.expand(name)]
    known = [_known_image(config, name, "--image") for name in dict.fromkeys(chosen)]
    kernels = kernel_options.read_kernels(config)
    return Options(
        images=tuple(f"{name}@{one}" for one in kernels for name in known) or tuple(known),
        accel=accel,
        libvirt=uri,
        network=config.getoption("--network") or "default",
        pool=config.getoption("--pool") or "default",
        out=_out(config),
        keep_guest=bool(config.getoption("--keep-guest")),
        cache=default_cache(),
        cold=bool(config.getoption("--cold")),
        nested=bool(config.getoption("--nested")),
        deadline_factor=_factor(config.getoption("--deadline-factor")),
        throughput=_effort(config),
        compare=plan.read_plan(config, partial(_known_image, config)),
        control=_known_image(config, control, "--control") if control else "",
        matrix=matrix.read(config),
        shard=sharding.read(config),
        kernels=kernels,
    )


def _effort(config: pytest.Config) -> Effort:
    """How much is measured; UsageError where what must be alone would not be."""
    text = config.getoption("--throughput")
    try:
        effort = Effort.parse(text)
    except UsageError as error:
        raise UsageError(f"--throughput {text}: no such effort", hint=error.hint) from None
    if effort is not Effort.QUICK and getattr(config.option, "numprocesses", None):
        raise UsageError(
            f"--throughput {effort} measures alone, and {config.option.numprocesses} workers would not be",
            hint="give -n 0",
        )
    return effort


def _factor(text: str) -> float:
    """What deadlines are multiplied by; UsageError for what would make none of them a deadline."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MOST_PATIENCE:
        raise UsageError(
            f"--deadline-factor {text}: no such factor",
            hint=f"a number above 0, at most {MOST_PATIENCE:.0f}",
        )
    return number


def _out(config: pytest.Config) -> Path:
    """The results' directory, absolute; it may be missing. UsageError where a file is in its place."""
    out: Path = (config.invocation_params.dir / config.getoption("--out")).resolve()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is not a directory", hint="give another one")
    return out


def require_out(out: Path) -> None:
    """UsageError where the results' directory cannot be made or written to. Nothing is left of trying:
    a run that has no results makes none."""
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise UsageError(
                f"--out {out} is a directory that cannot be written to", hint="give another one"
            )
    except OSError as error:
        raise UsageError(
            f"--out {out} cannot be made: {error.strerror}", hint="give another directory"
        ) from None
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _known_image(config: pytest.Config, name: str, option: str) -> str:
    """A catalog name as it is, a file by its absolute path; UsageError for neither."""
    if not foreign.is_file_name(name):
        entries = catalog.load()
        if name not in entries:
            installed.refuse(default_cache(), name)
        return catalog.find(entries, name).name
    path = (config.invocation_params.dir / name).resolve()
    if not path.is_file():
        raise UsageError(f"{option} {name}: there is no such file", hint="or give a catalog name")
    return str(path)

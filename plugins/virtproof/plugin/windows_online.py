"""What a user gives of a Windows that shall run: how it is reached, what is kept of it; and that Windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from virtproof.errors import UsageError
from virtproof.plugin.virtio_win import NO_MEDIUM
from virtproof.spec import DiskBus, Firmware, GuestSpec, Machine
from virtproof.windows.online.channels import Channel
from virtproof.windows.online.transcript import Recording

if TYPE_CHECKING:  # libraries that other runs need not wait for, and what reads the options
    from virtproof.guest.windows import WindowsGuest
    from virtproof.images.store import PreparedImage
    from virtproof.plugin.run import Run
    from virtproof.windows.iso import Medium
    from virtproof.windows.online.conductor import Conductor
    from virtproof.windows.online.runner import PowerShell

PASSWORD = "VIRTPROOF_WINDOWS_PASSWORD"  # its name
NO_FILE = (
    "needs virtio-win's ISO as a file, which Windows reads from its CD-ROM: --virtio-win=X.iso"
)
NO_OTHER = "needs another ISO of virtio-win's to come from and go back to: --virtio-win-other=X.iso"
NOT_SLOW = "takes hours: --windows-slow"
DRIVERS = {DiskBus.VIRTIO: "viostor", DiskBus.VIRTIO_SCSI: "vioscsi"}


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--windows-channel",
        choices=[one.value for one in Channel],
        default=Channel.AGENT.value,
        help="how a running Windows is asked: QEMU's guest agent on COM2 (default), WinRM, or SSH",
    )
    group.addoption(
        "--windows-user",
        default="Administrator",
        metavar="USER",
        help=f"for WinRM and SSH; the password is read from {PASSWORD} in the environment",
    )
    group.addoption(
        "--windows-firmware",
        choices=[one.value for one in Firmware],
        default=Firmware.BIOS.value,
        help="what the Windows boots by; uefi has a q35 machine with its disk on SATA",
    )
    group.addoption(
        "--virtio-win-other",
        metavar="ISO",
        help="a second ISO, for the upgrade from it and the way back",
    )
    group.addoption("--windows-slow", action="store_true", help="run what takes hours, too")
    group.addoption(
        "--record",
        metavar="DIR",
        help="write what each question to a Windows was answered there, a file a test, to send it to others",
    )


def read_options(config: pytest.Config) -> None:
    """UsageError for what cannot be."""
    channel = Channel(config.getoption("--windows-channel"))
    if channel is not Channel.AGENT and not os.environ.get(PASSWORD):
        raise UsageError(
            f"--windows-channel {channel} needs a password", hint=f"{PASSWORD} in the environment"
        )
    record = config.getoption("--record")
    if record is not None and (config.invocation_params.dir / record).is_file():
        raise UsageError(f"--record {record} is a file", hint="a directory")
    other = config.getoption("--virtio-win-other")
    if other is not None and not (config.invocation_params.dir / other).is_file():
        raise UsageError(f"--virtio-win-other {other}: there is no such file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of two things that lack, the image is told first; and without one, no claim was tried."""
    image, slow = config.getoption("--windows-image"), config.getoption("--windows-slow")
    for item in items:
        if "windows_image" not in getattr(item, "fixturenames", ()):
            continue
        if not image:
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "claim"]
        elif not slow and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason=NOT_SLOW))


@pytest.fixture
def windows_media(request: pytest.FixtureRequest, windows_image: Path) -> tuple[Path, ...]:
    """virtio-win's ISO under test, and the other one, where it was given."""
    del windows_image  # the first that is asked for
    names = [request.config.getoption(name) for name in ("--virtio-win", "--virtio-win-other")]
    if names[0] is None:
        pytest.skip(NO_MEDIUM)
    paths = tuple((request.config.invocation_params.dir / name).resolve() for name in names if name)
    if not paths[0].is_file():
        pytest.skip(NO_FILE)
    return paths


@pytest.fixture
def windows_recorder(request: pytest.FixtureRequest) -> Callable[[PowerShell], PowerShell]:
    """Puts a recording around a channel, where ``--record`` was given."""
    record = request.config.getoption("--record")
    if record is None:
        return lambda shell: shell
    from virtproof.plugin.evidence import directory_name

    folder: Path = request.config.invocation_params.dir / record
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{directory_name(request.node.nodeid)}.jsonl"
    path.unlink(missing_ok=True)
    secret = os.environ.get(PASSWORD, "")
    return lambda shell: Recording(shell, path, secret)


@pytest.fixture
def windows_guest(
    request: pytest.FixtureRequest,
    windows_image: Path,
    windows_recorder: Callable[[PowerShell], PowerShell],
    tmp_path: Path,
) -> Iterator[WindowsGuest]:
    """The user's Windows in a machine with IDE (SATA) and RTL8139, on an overlay; it is off."""
    from virtproof.plugin.guests import used

    # Asked for here: a test that is skipped for want of an image is no test of guests.
    run: Run = request.getfixturevalue("virtproof_run")
    guest = _guest(run, request.config, windows_image, windows_recorder, tmp_path)
    run.guests.append(guest)
    used(request.node).append(guest)
    guest.say = lambda doing: run.progress.step(f"{windows_image.name}: {doing}")
    try:
        guest.define()
        yield guest
    finally:
        guest.close()


def _guest(
    run: Run,
    config: pytest.Config,
    image: Path,
    wrap: Callable[[PowerShell], PowerShell],
    scratch: Path,
) -> WindowsGuest:
    from virtproof.guest.windows import Login, WindowsGuest

    option = config.getoption
    firmware = Firmware(option("--windows-firmware"))
    devices: dict[str, Any] = {"firmware": firmware}
    if firmware is Firmware.UEFI:
        devices |= {"machine": Machine.Q35, "disk": DiskBus.SATA}
    accel = run.accelerator.accel
    spec = GuestSpec(str(image), accel=accel, cpus=2, memory_mib=4096, **devices)
    channel, user = Channel(option("--windows-channel")), option("--windows-user")
    login = Login(channel, user, os.environ.get(PASSWORD, ""), wrap)
    base, lab = _base(run, image, firmware, scratch), run.lab
    return WindowsGuest(spec, base, lab, run.connection, login, run.options.deadline_factor)


def _base(run: Run, image: Path, firmware: Firmware, scratch: Path) -> PreparedImage:
    """The user's disk as what overlays are made on, which is a qcow2: of a raw one, an overlay in between."""
    from virtproof.images import foreign
    from virtproof.images.store import PreparedImage

    unknown: dict[str, Any] = {"digest": "", "initramfs": "unknown", "installed_on": "unknown"}
    size, kind = image.stat().st_size, foreign.check(image).format
    base = PreparedImage(
        image.name, image, kind, Path(), **unknown, agent=True, size_bytes=size, firmware=firmware
    )
    if kind == "qcow2":
        return base
    between = scratch / "windows.qcow2"
    run.store.overlay(base, between)
    return replace(base, path=between, format="qcow2")


@pytest.fixture
def windows_media_read(windows_media: tuple[Path, ...]) -> tuple[Medium, ...]:
    """The same media, read on the host: which package is whose, and of what version."""
    from virtproof.windows.iso import open_medium

    return tuple(map(open_medium, windows_media))


@pytest.fixture
def conductor_for(
    windows_media: tuple[Path, ...],
    windows_media_read: tuple[Medium, ...],
    windows_guest: WindowsGuest,
) -> Callable[..., Conductor]:
    """Makes who carries plans out on the user's Windows: ``conductor_for(DiskBus.VIRTIO, nic=True)``."""
    from virtproof.guest.windows import GuestMachine
    from virtproof.windows.online.conductor import Conductor

    windows_guest.media = windows_media

    def make(bus: DiskBus, *, nic: bool, begin: int = 0) -> Conductor:
        if begin >= len(windows_media_read):
            pytest.skip(NO_OTHER)
        windows_guest.bus, windows_guest.with_nic = bus, nic
        machine = GuestMachine(windows_guest)
        return Conductor(
            machine, windows_media_read, DRIVERS[bus], nic=nic, begin=begin, say=windows_guest.say
        )

    return make

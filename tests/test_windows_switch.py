"""The way to virtio carried out on a simulated Windows: every check passes there, and each can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from simulated_windows import MEDIA, Defects, Paper, Simulated, Stopped
from virtproof.errors import CommandError, UsageError
from virtproof.windows.online import plan
from virtproof.windows.online.conductor import OTHER, Conductor, NotSwitchedError
from virtproof.windows.online.facts import System
from virtproof.windows.online.judge import CHECKS, Check
from virtproof.windows.online.packages import folder_of, wanted
from virtproof.windows.online.plan import Action, Step
from virtproof.windows.online.probes import Windows
from virtproof.windows.online.runner import PowerShell
from virtproof.windows.online.transcript import Recording, Replay

WHOLE = plan.switch(nic=True)


def conductor(machine: Simulated, begin: int = 0) -> Conductor:
    return Conductor(machine, MEDIA, machine.target, nic=machine.with_nic, begin=begin)


@pytest.mark.parametrize("target", ["viostor", "vioscsi"])
@pytest.mark.parametrize("nic", [True, False])
@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("safe_mode", [True, False])
def test_a_sound_windows_is_switched(target: str, nic: bool, cold: bool, safe_mode: bool) -> None:
    machine = Simulated(target=target, with_nic=nic)
    conductor(machine).carry_out(plan.switch(nic=nic, cold=cold, safe_mode=safe_mode))
    assert machine.root == target
    assert machine.nic == ("netkvm" if nic else "rtl8139")
    assert machine.boots == (4 if safe_mode else 3)
    assert ("boot in safe mode" in machine.log) == safe_mode
    assert machine.log[-1] == "boot"


SEEN_BY = {
    "wrong_version": Check.DRIVER_VERSION,
    "unsigned": Check.DRIVER_SIGNED,
    "problem": Check.NO_PROBLEM,
    "override": Check.BOOT_START,
    "old_nic_stays": Check.OLD_NIC_GONE,
    "address_lost": Check.ADDRESS_KEPT,
    "crash": Check.NO_CRASH,
    "test_signing": Check.SIGNATURES_WANTED,
    "stays_on_ide": Check.ROOT_ON_DRIVER,
    "nic_without_driver": Check.NIC_ON_DRIVER,
    "not_installed": Check.DUMMY_SEEN,
    "stays_in_safe_mode": Check.NORMAL_MODE,
}


@pytest.mark.parametrize("defect", [one.name for one in fields(Defects)])
def test_each_defect_is_found_by_its_check(defect: str) -> None:
    machine = Simulated(defects=replace(Defects(), **{defect: True}))
    steps = plan.switch(nic=True, safe_mode=defect == "stays_in_safe_mode")
    with pytest.raises(NotSwitchedError, match=r"^Windows, step \d+ \([a-z-]+\): ") as found:
        conductor(machine).carry_out(steps)
    assert str(found.value).split(": ")[1] == SEEN_BY[defect]
    assert "\n" not in str(found.value)


def test_every_check_has_a_defect() -> None:
    told = {*SEEN_BY.values(), Check.DRIVER_BOUND}  # which the next one is about
    assert told == set(Check) == set(CHECKS)


def test_a_driver_that_nothing_is_bound_to_is_said() -> None:
    steps = [Step(Action.BOOT), Step(Action.REMEMBER), Step(Action.LOOK, (Check.DRIVER_BOUND,))]
    with pytest.raises(NotSwitchedError, match="no device is bound to viostor") as found:
        conductor(Simulated()).carry_out(steps)
    assert "netkvm" not in found.value.detail  # for which there is no device yet


def test_without_a_disk_that_nobody_needs_it_stops() -> None:
    """Why the plan adds one: a plan without it ends as a Windows does."""
    steps = [replace(one, checks=()) for one in WHOLE if one.action is not Action.ADD_DUMMY]
    machine = Simulated()
    with pytest.raises(Stopped, match="0x0000007b"):
        conductor(machine).carry_out(steps)
    assert machine.boots == 1


def test_without_a_medium_nothing_is_installed() -> None:
    steps = [one for one in WHOLE if one.action is not Action.ADD_MEDIUM]
    with pytest.raises(CommandError, match="no CD-ROM has the package"):
        conductor(Simulated()).carry_out(steps)


def test_safe_mode_is_prepared_and_left() -> None:
    machine = Simulated()
    conductor(machine).carry_out(plan.switch(nic=False, safe_mode=True))
    told = [one for one in machine.log if not one.startswith("boot")]
    assert [one.split()[0] for one in told] == ["reg", "reg", "bcdedit", "bcdedit"]
    assert told[0].endswith(r"SafeBoot\Minimal\QEMU-GA /ve /d Service /f")
    assert told[2:] == [
        "bcdedit /set {current} safeboot minimal",
        "bcdedit /deletevalue {current} safeboot",
    ]


@pytest.mark.parametrize(("first", "other"), [("viostor", "vioscsi"), ("vioscsi", "viostor")])
def test_from_one_virtio_disk_to_the_other(first: str, other: str) -> None:
    """On one machine, one switch after the other; the other driver too is started only once it had a disk."""
    machine = Simulated(target=first, with_nic=False)
    conductor(machine).carry_out(plan.switch(nic=False))
    machine.target = other
    conductor(machine).carry_out(plan.switch(nic=False))
    assert (machine.root, machine.boots) == (other, 6)

    unprepared = Simulated(target=first, with_nic=False)
    conductor(unprepared).carry_out(plan.switch(nic=False))
    unprepared.target = other
    unprepared.switch()
    with pytest.raises(Stopped):
        unprepared.boot()


def test_driver_verifier() -> None:
    machine = Simulated()
    one = conductor(machine)
    one.carry_out(WHOLE)
    one.carry_out(plan.verified())
    told = [line for line in machine.log if line.startswith("verifier")]
    assert told == ["verifier /standard /driver viostor.sys netkvm.sys", "verifier /reset"]
    machine.defects.crash = True
    with pytest.raises(NotSwitchedError, match="no-crash: .*stop 0xD1"):
        one.carry_out(plan.verified())


def test_the_nics_driver_is_removed_and_installed_again() -> None:
    machine = Simulated()
    one = conductor(machine)
    one.carry_out(WHOLE)
    one.carry_out(plan.reinstalled())
    assert machine.packages["netkvm"] == "100.2.0.0"
    steps = [step for step in plan.reinstalled() if step.action is not Action.INSTALL_NIC]
    with pytest.raises(NotSwitchedError, match="no device is bound to netkvm"):
        one.carry_out(steps)
    with pytest.raises(CommandError, match=r"no package netkvm.inf is in the driver store"):
        one.carry_out(plan.reinstalled())


def test_upgrade_and_downgrade() -> None:
    machine = Simulated()
    one = conductor(machine, OTHER)
    one.carry_out(WHOLE)
    assert set(machine.packages.values()) == {"100.1.0.0"}
    one.carry_out(plan.upgraded())
    assert set(machine.packages.values()) == {"100.2.0.0"}
    one.carry_out(plan.downgraded())
    assert machine.packages == {"viostor": "100.2.0.0", "netkvm": "100.1.0.0"}


def test_an_upgrade_that_does_nothing_and_a_downgrade_that_is_refused() -> None:
    machine = Simulated()
    one = conductor(machine, OTHER)
    one.carry_out(WHOLE)
    machine.defects.not_installed = True
    with pytest.raises(NotSwitchedError, match="driver-version: .*100.1.0.0, the medium's is"):
        one.carry_out(plan.upgraded())
    machine.defects.not_installed = False
    one.carry_out(plan.upgraded())
    steps = [step for step in plan.downgraded() if step.action is not Action.REMOVE]
    with pytest.raises(NotSwitchedError, match="driver-version"):
        one.carry_out(steps)


def test_a_nic_that_was_not_switched_is_not_changed() -> None:
    one = conductor(Simulated(with_nic=False))
    one.carry_out(plan.switch(nic=False))
    with pytest.raises(UsageError, match="the NIC was not switched"):
        one.carry_out(plan.reinstalled())


def test_a_windows_that_is_off_is_not_asked() -> None:
    with pytest.raises(UsageError, match="is off"):
        conductor(Simulated()).carry_out([Step(Action.LOOK, (Check.NO_CRASH,))])


# --- transcripts of a whole switch ------------------------------------------------------------


class Transcript:
    """In the place of a machine: what a Windows said at a switch, in its order."""

    def __init__(self, replay: Replay, mac: str) -> None:
        self.mac = mac
        self._windows = Windows(replay)

    def boot(self) -> Windows:
        return self._windows

    def shut_down(self, windows: Windows) -> None:
        """Nothing; nor do the others."""

    def add_dummy(self, serial: str) -> None: ...
    def add_medium(self, which: int) -> None: ...
    def switch(self) -> None: ...


def recorded(path: Path, defects: Defects) -> Simulated:
    wrap: Callable[[PowerShell], PowerShell] = lambda shell: Recording(shell, path)  # noqa: E731
    return Simulated(defects=defects, wrap=wrap)


def test_a_switch_is_replayed_from_its_transcript(tmp_path: Path) -> None:
    path = tmp_path / "switch.jsonl"
    machine = recorded(path, Defects())
    conductor(machine).carry_out(WHOLE)
    replay = Replay(path)
    Conductor(Transcript(replay, machine.mac), MEDIA, "viostor", nic=True).carry_out(WHOLE)
    assert replay.left == 0


def test_a_failure_is_replayed_too(tmp_path: Path) -> None:
    path = tmp_path / "switch.jsonl"
    machine = recorded(path, Defects(old_nic_stays=True))
    with pytest.raises(NotSwitchedError) as seen:
        conductor(machine).carry_out(WHOLE)
    again = Conductor(Transcript(Replay(path), machine.mac), MEDIA, "viostor", nic=True)
    with pytest.raises(NotSwitchedError) as replayed:
        again.carry_out(WHOLE)
    assert str(replayed.value) == str(seen.value)


# --- the medium -------------------------------------------------------------------------------


def system(**values: object) -> System:
    told = System("Windows 11", "10.0", 26100, 1, "AMD64", "5.1", "", "")
    return replace(told, **values)


@pytest.mark.parametrize(
    ("build", "caption", "folder"),
    [
        (26100, "Microsoft Windows 11 Pro", "w11"),
        (26100, "Microsoft Windows Server 2025 Standard", "2k25"),
        (20348, "Microsoft Windows Server 2022 Datacenter", "2k22"),
        (19045, "Microsoft Windows 10 Pro", "w10"),
        (17763, "Microsoft Windows Server 2019 Standard", "2k19"),
        (9600, "Microsoft Windows Server 2012 R2", "2k12R2"),
        (7601, "Microsoft Windows 7", "w7"),
    ],
)
def test_the_folder_of_a_windows(build: int, caption: str, folder: str) -> None:
    assert folder_of(system(build=build, caption=caption)) == folder


def test_a_windows_too_old_and_a_medium_that_has_not_its_driver() -> None:
    with pytest.raises(UsageError, match="build 2600"):
        folder_of(system(build=2600))
    with pytest.raises(UsageError, match="virtio-win-0.iso has no viostor/w11/amd64/viostor.inf"):
        wanted(Paper(lacks="viostor"), "viostor", system())
    with pytest.raises(UsageError, match="has no viostor/w11/IA64/viostor.inf"):
        wanted(Paper(), "viostor", system(architecture="IA64"))
    found = wanted(Paper(), "NetKVM", system())
    assert found.package == r"NetKVM\w11\amd64\netkvm.inf"
    assert (found.version, found.service) == ("100.2.0.0", "netkvm")

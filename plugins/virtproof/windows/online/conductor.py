"""A plan carried out: on a machine from outside, in its Windows from inside, with checks after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from virtproof.errors import CommandError, GuestError, UsageError
from virtproof.windows.iso import Medium
from virtproof.windows.online.judge import DUMMY, Aim, Seen, faults, look, nic_of
from virtproof.windows.online.packages import Wanted, wanted
from virtproof.windows.online.plan import Step
from virtproof.windows.online.probes import Windows

# What a Windows in safe mode must start for us to speak to it there.
ALLOWED = ("QEMU-GA", "Serial")
UNDER_TEST, OTHER = 0, 1  # virtio-win's media
VERIFIER = (0, 2)  # done; done with the next boot


class Machine(Protocol):
    """The machine that a Windows runs on. ``mac`` is its NIC's, which a switch keeps."""

    mac: str

    def boot(self) -> Windows:
        """Start it and wait until its Windows answers; an error that names the stop where it does not."""
        ...

    def shut_down(self, windows: Windows) -> None:
        """Wholly, and not to a fast start-up."""
        ...

    def add_dummy(self, serial: str) -> None:
        """An empty disk of the kind that the root disk is switched to."""
        ...

    def add_medium(self, which: int) -> None:
        """Put virtio-win's ISO into a CD-ROM; 0 is the ISO under test, 1 the other."""
        ...

    def switch(self) -> None:
        """Move root disk (and NIC) to virtio, while it is off."""
        ...


class NotSwitchedError(GuestError):
    """A check failed after a step; ``detail`` has all that is wrong."""


class Conductor:
    """Carries plans out, one after another, on one machine.

    ``driver`` is the disk's (viostor, vioscsi); ``nic``: whether its NIC is switched too; ``begin``: the
    medium that it is switched with.
    """

    def __init__(
        self,
        machine: Machine,
        media: tuple[Medium, ...],
        driver: str,
        *,
        nic: bool,
        begin: int = UNDER_TEST,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._machine = machine
        self._media = media
        self._driver = driver
        self._nic = nic
        self._say = say
        self._medium = begin
        self._windows: Windows | None = None
        self._before: Seen | None = None
        self._aim: Aim | None = None

    def carry_out(self, plan: Iterable[Step]) -> None:
        """Every step; NotSwitchedError with the first one whose checks find something."""
        for number, step in enumerate(plan, start=1):
            self._say(f"step {number}: {step.action}")
            getattr(self, f"_{step.action.replace('-', '_')}")()
            if step.checks:
                self._hold(step, f"step {number} ({step.action})")

    def _hold(self, step: Step, where: str) -> None:
        seen = look(self.windows)
        aim = self._aim or self._aimed(seen)
        wrong = [f"{one}: {said}" for one in step.checks for said in faults(one, seen, aim)]
        if wrong:
            raise NotSwitchedError(f"Windows, {where}: {wrong[0]}", detail="\n".join(wrong))

    def _aimed(self, seen: Seen) -> Aim:
        """What this Windows must come to have, by the medium that it is given."""
        medium = self._media[self._medium]
        nic = wanted(medium, "NetKVM", seen.system) if self._nic else None
        disk = wanted(medium, self._driver, seen.system)
        self._aim = Aim(disk, nic, self._machine.mac, self._before)
        return self._aim

    @property
    def windows(self) -> Windows:
        """The Windows that runs now."""
        if self._windows is None:
            raise UsageError("the plan asks a Windows that is off")
        return self._windows

    # -- the actions -----------------------------------------------------------------------------

    def _boot(self) -> None:
        self._windows = self._machine.boot()

    def _shut_down(self) -> None:
        self._machine.shut_down(self.windows)
        self._windows = None

    def _remember(self) -> None:
        self._before = look(self.windows)
        self._aim = None
        self._aimed(self._before)

    def _look(self) -> None:
        """The checks do it."""

    def _add_dummy(self) -> None:
        self._machine.add_dummy(DUMMY)

    def _add_medium(self) -> None:
        self._machine.add_medium(self._medium)

    def _install(self) -> None:
        for one in self._drivers():
            self.windows.install(one.package)

    def _drivers(self) -> list[Wanted]:
        assert self._aim is not None  # a plan remembers before it installs
        return [self._aim.disk, *([self._aim.nic] if self._aim.nic else [])]

    def _safe_mode(self) -> None:
        for name in ALLOWED:
            key = rf"HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\Minimal\{name}"
            self.windows.program("reg", "add", key, "/ve", "/d", "Service", "/f")
        self.windows.program("bcdedit", "/set", "{current}", "safeboot", "minimal")

    def _normal_mode(self) -> None:
        self.windows.program("bcdedit", "/deletevalue", "{current}", "safeboot")

    def _switch(self) -> None:
        self._machine.switch()

    def _restore_address(self) -> None:
        old = nic_of(self._before, self._machine.mac) if self._before else None
        if old is not None and old.static:
            self.windows.set_address(old)

    def _verify(self) -> None:
        files = [f"{one.service.lower()}.sys" for one in self._drivers()]
        self.windows.program("verifier", "/standard", "/driver", *files, good=VERIFIER)

    def _stop_verifying(self) -> None:
        self.windows.program("verifier", "/reset", good=VERIFIER)

    def _install_nic(self) -> None:
        self.windows.install(self._nic_wanted().package)

    def _nic_wanted(self) -> Wanted:
        if self._aim is None or self._aim.nic is None:
            raise UsageError("the plan changes a NIC's driver, and the NIC was not switched")
        return self._aim.nic

    def _remove(self) -> None:
        name = self._nic_wanted().package.rpartition("\\")[2].lower()
        found = [one.inf for one in self.windows.packages() if one.original.lower() == name]
        if not found:
            raise CommandError(f"Windows: no package {name} is in the driver store")
        for inf in found:
            self.windows.remove(inf)

    def _take_old_medium(self) -> None:
        """Only the NIC's driver is to be of it."""
        disk = self._drivers()[0]
        self._take(OTHER)
        assert self._aim is not None
        self._aim = replace(self._aim, disk=disk)

    def _take_new_medium(self) -> None:
        self._take(UNDER_TEST)

    def _take(self, medium: int) -> None:
        self._medium = medium
        self._machine.add_medium(medium)
        assert self._aim is not None  # a plan remembers before it takes another medium
        assert self._before is not None
        self._aimed(self._before)

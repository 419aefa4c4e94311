"""A running Windows: its facts, one a method, asked anew each time; and the few things done to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from virtproof.errors import CommandError
from virtproof.windows.drivers import DRIVERS
from virtproof.windows.online import facts, scripts
from virtproof.windows.online.runner import PowerShell
from virtproof.windows.online.shapes import one, rows

SERVICES = tuple(driver.service for driver in DRIVERS)
DONE, DONE_AFTER_REBOOT, NO_MORE_ITEMS = 0, 3010, 259
# 259: the package is there already, and no device wants it more than what it has.
PNPUTIL = (DONE, DONE_AFTER_REBOOT, NO_MORE_ITEMS)
INSTALL_S = 300.0  # on KVM; scaled by the channel
SLOW_S = 180.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program of Windows' ended. ``file`` is what it was given of a medium, where it was."""

    status: int
    output: str
    file: str

    @property
    def reboot(self) -> bool:
        """Whether it takes effect after a reboot only."""
        return self.status == DONE_AFTER_REBOOT


class Windows:
    """A running Windows behind a channel. What it says in another shape is a CommandError of one line."""

    def __init__(self, shell: PowerShell) -> None:
        self._shell = shell

    def system(self) -> facts.System:
        return one(facts.System, self._shell.run_powershell(scripts.SYSTEM), "system")

    def drivers(self) -> tuple[facts.BoundDriver, ...]:
        """Drivers that are bound to devices, of all devices."""
        answer = self._shell.run_powershell(scripts.DRIVERS, SLOW_S)
        return rows(facts.BoundDriver, answer, "drivers")

    def devices(self) -> tuple[facts.Device, ...]:
        """Devices, those that are not there any more too."""
        return rows(facts.Device, self._shell.run_powershell(scripts.DEVICES, SLOW_S), "devices")

    def disks(self) -> tuple[facts.Disk, ...]:
        return rows(facts.Disk, self._shell.run_powershell(scripts.DISKS), "disks")

    def nics(self) -> tuple[facts.Nic, ...]:
        return rows(facts.Nic, self._shell.run_powershell(scripts.NICS), "nics")

    def crashes(self) -> tuple[facts.Crash, ...]:
        """Crashes and losses of power that the event log has, the latest 50 of each kind."""
        return rows(facts.Crash, self._shell.run_powershell(scripts.CRASHES), "crashes")

    def packages(self) -> tuple[facts.Package, ...]:
        """Third parties' packages in the driver store."""
        return rows(facts.Package, self._shell.run_powershell(scripts.PACKAGES, SLOW_S), "packages")

    def services(self, names: Iterable[str] = SERVICES) -> dict[str, facts.Service]:
        """The services of that name that there are."""
        answer = self._shell.run_powershell(scripts.services(names))
        return {found.name: found for found in rows(facts.Service, answer, "services")}

    def install(self, package: str) -> Outcome:
        """Install a package of the medium; CommandError with pnputil's status where it does not."""
        return self._done(scripts.install(package), f"pnputil /add-driver {package}")

    def remove(self, inf: str) -> Outcome:
        return self._done(scripts.remove(inf), f"pnputil /delete-driver {inf}")

    def program(self, name: str, *arguments: str, good: tuple[int, ...] = (DONE,)) -> Outcome:
        """Run one of Windows' own programs; CommandError where its status is not among the good ones."""
        script = scripts.program(name, *arguments)
        return self._done(script, " ".join((name, *arguments)), good)

    def set_address(self, nic: facts.Nic) -> None:
        """Give the adapter that has a NIC's MAC now the static address that the NIC had."""
        ip, _, prefix = nic.static[0].partition("/")
        gateway = next(iter(nic.gateways), "")
        self._done(scripts.set_address(nic.mac, ip, int(prefix), gateway, nic.dns), "the address")

    def _done(self, script: str, what: str, good: tuple[int, ...] = PNPUTIL) -> Outcome:
        outcome = one(Outcome, self._shell.run_powershell(script, INSTALL_S), "outcome")
        if outcome.status not in good:
            said = outcome.output[-200:]
            raise CommandError(f"Windows: {what}: status {outcome.status}: {said}")
        return outcome

"""The guest's distribution and the state of its services. Source: testinfra, systemctl."""

from __future__ import annotations

import re

from testinfra.host import Host

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import clean
from virtproof.probe.testinfra_backend import host_over

_FAILED = "systemctl list-units --failed --no-legend --plain --no-pager --full"


class SystemProbe:
    """What the guest is. testinfra keeps what it read; ``refresh`` makes it forget."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.refresh()

    def refresh(self) -> None:
        self._host = host_over(self._runner)

    @property
    def host(self) -> Host:
        """The testinfra Host, for every other fact that testinfra has."""
        return self._host

    @property
    def distribution(self) -> str:
        """ID of os-release, in lower case; ``linux`` where the guest says none.

        >>> system.distribution
        'debian'
        """
        return clean(str(self._host.system_info.distribution or "linux"), 64)

    @property
    def version(self) -> str:
        """VERSION_ID of os-release; empty where there is none (a rolling distribution).

        >>> system.version
        '12'
        """
        return clean(str(self._host.system_info.release or ""), 64)

    @property
    def arch(self) -> str:
        """As ``uname -m``.

        >>> system.arch
        'x86_64'
        """
        return clean(str(self._host.system_info.arch or ""), 64)

    @property
    def failed_units(self) -> tuple[str, ...]:
        """Names of systemd's failed units, read anew each time; () where there is no systemd.

        >>> system.failed_units
        ()
        """
        if not self._host.exists("systemctl"):
            return ()
        lines = self._runner.run(_FAILED, timeout_s=60).stdout.splitlines()
        units = tuple(line.split()[0] for line in lines if line.strip())
        for unit in units:
            if re.fullmatch(r"[\w:.@\\-]{1,256}", unit) is None:
                raise CommandError(
                    f"systemctl named a unit {clean(unit, 80)!r}, expected NAME.TYPE"
                )
        return units

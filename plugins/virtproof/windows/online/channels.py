"""The ways to PowerShell in a running Windows; one contract, whatever the way."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from virtproof.errors import GuestError
from virtproof.guest.shell import CommandResult, Runner
from virtproof.windows.online.runner import OverShell


class Channel(StrEnum):
    """``--windows-channel``. The agent needs neither a NIC nor a password, so that it outlives a switch."""

    AGENT = "agent"
    WINRM = "winrm"
    SSH = "ssh"

    @property
    def port(self) -> int:
        """TCP port in the guest; 0 for the agent, whose port is serial."""
        return {Channel.AGENT: 0, Channel.WINRM: 5985, Channel.SSH: 22}[self]


class NotLetInError(GuestError):
    """Windows is up, and does not take the user or the password."""

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"{channel} does not let us in",
            hint="--windows-user, and VIRTPROOF_WINDOWS_PASSWORD in the environment",
        )


class Executes(Protocol):
    """What runs a program of Windows' without a shell: the guest agent, WinRM."""

    def execute(
        self, program: str, arguments: Sequence[str], timeout_s: float | None = None
    ) -> CommandResult: ...


def over(channel: Executes) -> OverShell:
    """PowerShell over the guest agent or WinRM."""
    return OverShell(channel.execute)


def over_ssh(runner: Runner) -> OverShell:
    """PowerShell over SSH, whose shell may be cmd.exe or PowerShell: no argument needs a quote in either."""

    def execute(program: str, arguments: Sequence[str], timeout_s: float | None) -> CommandResult:
        return runner.run(" ".join((program, *arguments)), check=False, timeout_s=timeout_s)

    return OverShell(execute)

"""Commands in a guest: the Runner protocol, its result, and the quoting that all runners share."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import Protocol

from virtproof.errors import CommandError


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did: exit status and both streams, decoded as UTF-8 with replacement."""

    command: str
    status: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs shell commands as root in a guest, whatever the channel (SSH, guest agent)."""

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        """Run ``command`` by ``/bin/sh -c``; each ``%s`` takes one of ``args``, quoted.

        Raises CommandError where ``check`` is true and the exit status is not 0, GuestError where the
        guest is gone or the deadline (seconds, scaled to the accelerator by the runner) passed.
        """
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write ``data`` to a file of the guest, whole."""
        ...


def quote(command: str, args: tuple[object, ...]) -> str:
    """``command`` with each ``%s`` replaced by a shell-quoted argument; without arguments, as it is."""
    if not args:
        return command
    return command % tuple(shlex.quote(str(arg)) for arg in args)


def checked(result: CommandResult, check: bool) -> CommandResult:
    """The result, or a CommandError that carries command, status and output."""
    if check and result.status != 0:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        last = f": {said[-1][:200]}" if said else ""
        raise CommandError(
            f"in the guest, {result.command[:200]!r} exited with {result.status}{last}",
            detail=f"stdout:\n{result.stdout}\nstderr:\n{result.stderr}",
        )
    return result


class Recorded:
    """A runner that keeps a transcript: one line a command, with its status and seconds."""

    def __init__(self, runner: Runner, channel: str, transcript: list[str]) -> None:
        self._runner = runner
        self._channel = channel
        self._transcript = transcript

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        begin = time.monotonic()
        outcome = "no answer"
        try:
            result = self._runner.run(command, *args, check=False, timeout_s=timeout_s)
            outcome = f"status {result.status}"
        finally:
            seconds = time.monotonic() - begin
            line = f"[{self._channel}] {outcome} {seconds:.2f} s: {quote(command, args)}"
            self._transcript.append(line)
        return checked(result, check)

    def put(self, path: str, data: bytes) -> None:
        self._runner.put(path, data)
        self._transcript.append(f"[{self._channel}] put {len(data)} bytes: {path}")

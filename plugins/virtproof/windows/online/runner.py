"""PowerShell in a running Windows: the Runner protocol, the envelope of a script, and its answer.

A script's answer leaves Windows as base64 of UTF-8 JSON between two marks, and so passes through every code
page, console width and locale unhurt; what else is printed (banners, warnings) is not looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Protocol

from virtproof.errors import CommandError, UsageError
from virtproof.guest.shell import CommandResult

PROGRAM = "powershell.exe"
SCRIPT_S = 60.0  # on KVM; scaled to the accelerator
# What cmd.exe takes, which is the shell of Windows' sshd; guest-exec and WinRM would take more.
LONGEST_COMMAND = 8191
LARGEST_ANSWER = 8 << 20  # bytes of JSON
BEGIN, END = "<<virtproof:", ":virtproof>>"
OPTIONS = (
    *("-NoLogo", "-NoProfile", "-NonInteractive"),
    *("-ExecutionPolicy", "Bypass", "-OutputFormat", "Text"),
)
# "@(...)" in a hash table, or PowerShell 5 makes no array of a single answer.
ENVELOPE = """$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
try{$a=@{value=@(&{
%s
})}}catch{$a=@{error="$_";at="$($_.InvocationInfo.ScriptLineNumber)"}}
$j=ConvertTo-Json $a -Depth 6 -Compress
[Console]::Out.Write('%s'+[Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($j))+'%s')"""


class PowerShell(Protocol):
    """Runs scripts as an administrator in a running Windows, whatever the channel."""

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        """What the script leaves on its pipeline, as parsed JSON: a list, be it of one or of none.

        The script's first line is ``# NAME``, by which a transcript knows it. CommandError where it fails
        or answers what is no JSON, GuestError where Windows is gone or the deadline (seconds, scaled to
        the accelerator by the channel) has passed.
        """
        ...


class OverShell:
    """Scripts by ``powershell.exe -EncodedCommand``, through what runs a program with arguments."""

    def __init__(self, execute: Callable[[str, tuple[str, ...], float], CommandResult]) -> None:
        self._execute = execute

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        name = name_of(script)
        done = self._execute(PROGRAM, arguments(script), timeout_s or SCRIPT_S)
        return answer_of(name, done)


def name_of(script: str) -> str:
    """The name in a script's first line, ``# NAME``."""
    first = script.lstrip().partition("\n")[0]
    if not first.startswith("# ") or not first[2:].strip():
        raise UsageError("a script of PowerShell has no name", hint="its first line is '# NAME'")
    return first[2:].strip()


def arguments(script: str) -> tuple[str, ...]:
    """The arguments of powershell.exe. UsageError where the script is longer than a command line."""
    text = ENVELOPE % (script.strip(), BEGIN, END)
    encoded = base64.b64encode(text.encode("utf-16-le")).decode()
    found = (*OPTIONS, "-EncodedCommand", encoded)
    length = len(" ".join((PROGRAM, *found)))
    if length > LONGEST_COMMAND:
        raise UsageError(
            f"the script {name_of(script)!r} makes a command of {length} characters",
            hint=f"cmd.exe takes {LONGEST_COMMAND}: split it",
        )
    return found


def answer_of(name: str, done: CommandResult) -> Any:
    """The value in a script's output. CommandError in one line for everything else."""
    what = f"Windows: {name}"
    begin, end = done.stdout.rfind(BEGIN), done.stdout.rfind(END)
    if begin < 0 or end < begin:
        raise CommandError(
            f"{what}: PowerShell gave no answer (status {done.status}){_last(done)}",
            hint="it takes powershell.exe 3.0 or later",
            detail=f"stdout:\n{done.stdout[:4000]}\nstderr:\n{done.stderr[:4000]}",
        )
    try:
        data = base64.b64decode("".join(done.stdout[begin + len(BEGIN) : end].split()))
        if len(data) > LARGEST_ANSWER:
            raise CommandError(f"{what}: an answer of {len(data) >> 20} MiB")
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise CommandError(f"{what}: the answer is no JSON{_last(done)}") from None
    if not isinstance(answer, dict) or not {"value", "error"} & answer.keys():
        raise CommandError(f"{what}: the answer has neither a value nor an error")
    if "error" in answer:
        said = clean(str(answer["error"]))
        raise CommandError(f"{what}: {said} (line {clean(str(answer.get('at', '?')))})")
    return answer["value"]


def clean(text: str, longest: int = 300) -> str:
    """One line that does nothing to a terminal: what a guest says is anybody's."""
    line = " ".join(text.split())[:longest]
    return "".join(one if one.isprintable() else "?" for one in line)


def _last(done: CommandResult) -> str:
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f": {clean(said[-1], 200)}" if said else ""

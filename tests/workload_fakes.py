"""A guest and a lab for workloads that only say what they were told to say, and remember what was run."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.workload.job import Ends

DATA = Path(__file__).parent / "data" / "workload"


def text(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def answer(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(name))
    return found


def packed(said: str | bytes) -> str:
    data = said if isinstance(said, bytes) else said.encode()
    return base64.b64encode(gzip.compress(data)).decode()


@dataclass
class Says:
    """A runner whose commands end as ``answer`` has it; by default, each prints a version."""

    answer: Callable[[str], tuple[int, str]] = lambda _command: (0, "tool 1.0\n")
    ran: list[str] = field(default_factory=list)

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        del timeout_s
        line = quote(command, args)
        self.ran.append(line)
        status, out = self.answer(line)
        return checked(CommandResult(line, status, out, ""), check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError((path, data))


@dataclass
class Clock:
    """Each look finds half a second of processor time more."""

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def ends(runner: Says | None = None, far: str = "", disk: str = "/dev/vda") -> Ends:
    """Between a guest that says ``runner`` and a lab in which every command prints ``far``."""

    def run(*argv: str, timeout_s: float) -> CommandResult:
        del timeout_s
        return CommandResult(" ".join(argv), 0, far, "")

    return Ends(runner or Says(), run, Clock(), address="198.18.0.2", disk=disk)

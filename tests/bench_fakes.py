"""Guests that are none, for ``bench``: they know when they were open, and jobs whose figures are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.spec import GuestSpec
from virtproof.workload.job import Ends, Figure, Outcome


class FakeGuest:
    """What a bench asks of a guest. Its tools end with its fleet's status."""

    def __init__(self, fleet: Fleet, axes: dict[str, Any]) -> None:
        self._fleet = fleet
        self.axes = axes
        self.spec = GuestSpec("debian-12")
        self.identity = ("Debian GNU/Linux 12", "6.1.0")
        self.runner = self
        self.lab = SimpleNamespace(run=fleet.far)
        self.domain = SimpleNamespace(cpu_time_s=lambda: 0.0)
        self.block = SimpleNamespace(disk_by_serial=lambda serial: SimpleNamespace(name=serial))
        self.filled: list[str] = []
        fleet.guests.append(self)
        fleet.open += 1
        fleet.most_open = max(fleet.most_open, fleet.open)

    def close(self) -> None:
        self._fleet.open -= 1

    def address(self) -> str:
        return "198.18.0.2"

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        del timeout_s
        if " of=" in command:
            self.filled.append(str(args[0]))
        status = self._fleet.status if "--version" in command else 0
        result = CommandResult(quote(command, args), status, "tool 1.0\n", "")
        return checked(result, check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError((path, data))


def no_far(*argv: str, timeout_s: float) -> CommandResult:
    raise AssertionError((argv, timeout_s))


@dataclass
class Fleet:
    """Makes guests, as the fixture ``guest_on`` does."""

    status: int = 0
    far: Callable[..., Any] = no_far
    guests: list[FakeGuest] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    def __call__(self, **axes: Any) -> FakeGuest:
        return FakeGuest(self, axes)


# By what a side's axes say; tests measure those sides by name.
SIDES = {1: "ide", 2: "virtio", 3: "sata"}


@dataclass(frozen=True)
class Known:
    """A job whose rate is known by the side that it is run on."""

    name: str = "rate"
    rate: Callable[[str], float] = lambda _side: 100.0
    unit: str = "1/s"
    raw: str = "raw"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"tool": "known", "depth": 3}

    def run(self, ends: Ends) -> Outcome:
        guest = ends.guest
        assert isinstance(guest, FakeGuest)
        side = SIDES.get(guest.axes.get("disk", 0), "")
        figure = Figure(self.name, self.unit, "higher", self.rate(side), (1.0, 2.0))
        return Outcome((figure,), "known 1.0", self.raw)

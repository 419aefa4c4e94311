"""Waiting for SSH: for what may still come up, not for what refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import cast

import paramiko
import pytest

from virtproof.deadline import Deadline
from virtproof.guest.reach import wait_for_ssh
from virtproof.guest.ssh import Ssh

REFUSED = ConnectionRefusedError(111, "Connection refused")
NO_KEY = paramiko.AuthenticationException("Authentication failed.")
MUTE = TimeoutError("timed out")
BUSY = paramiko.SSHException("Error reading SSH protocol banner")


class Server:
    """Answers in turn; the last answer for ever. None lets in."""

    def __init__(self, *answers: Exception | None) -> None:
        self.tries = 0
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))

    def open(self) -> None:
        self.tries += 1
        if (answer := next(self._answers)) is not None:
            raise answer


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Time that passes by sleeping alone."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return lambda: now[0]


def wait(server: Server, refusals_s: float = 6.0) -> str:
    return wait_for_ssh(cast(Ssh, server), Deadline.after(120.0), refusals_s)


@pytest.mark.parametrize("refusal", [REFUSED, NO_KEY])
def test_what_refuses_is_not_waited_for(clock: Callable[[], float], refusal: Exception) -> None:
    server = Server(refusal)
    assert wait(server) == str(refusal)
    assert 6.0 <= clock() < 7.0
    assert server.tries > 5


@pytest.mark.parametrize("fault", [MUTE, BUSY, OSError(113, "No route to host"), EOFError()])
def test_what_does_not_answer_is_waited_for(clock: Callable[[], float], fault: Exception) -> None:
    assert wait(Server(fault)) == (str(fault) or "EOFError")
    assert clock() >= 120.0


def test_a_server_that_starts_late_is_reached(clock: Callable[[], float]) -> None:
    """Refusals count from the last other answer on: a server that restarts refuses for a moment."""
    late = [*[MUTE] * 100, *[REFUSED] * 15, BUSY, *[REFUSED] * 15, None]
    assert wait(Server(*late)) == ""
    assert clock() > 30.0


def test_a_guest_that_may_still_be_booting_may_refuse(clock: Callable[[], float]) -> None:
    assert wait(Server(*[NO_KEY] * 200, None), math.inf) == ""
    assert clock() > 50.0

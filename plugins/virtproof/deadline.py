"""Deadlines that scale with the accelerator, and the one way to wait: polling until a deadline."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from virtproof.spec import Accel

# Software emulation was seen to be 5 to 12 times slower than KVM on boots; shared machines add to that.
SCALE = {Accel.KVM: 1.0, Accel.TCG: 6.0}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time (monotonic seconds) that a wait must not pass."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at


def wait_for(poll: Callable[[], T | None], deadline: Deadline, interval_s: float) -> T | None:
    """The first answer of ``poll`` that is not None; None when the deadline passed without one."""
    while True:
        answer = poll()
        if answer is not None or deadline.passed:
            return answer
        time.sleep(min(interval_s, deadline.left_s))


def within(seconds: float, function: Callable[[], T]) -> T:
    """What ``function`` returns or raises; TimeoutError where it does neither in time.

    It then goes on in a thread that nobody waits for, but the processes it has started are ended: for
    calls into C that know no time-out, as libvirt's to a host that is not there.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # noqa: BLE001  # raised again for the caller
            answers.put((None, error))

    before = _children()
    threading.Thread(target=call, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        for pid in _children() - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # an answer without an error is T


def _children() -> set[int]:
    """This process's children, of any of its threads."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            found.update(map(int, file.read_text().split()))
    return found

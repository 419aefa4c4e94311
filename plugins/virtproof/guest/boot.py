"""One start of a guest: its two serial ports from the first byte, and the wait until it is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from virtproof.deadline import Deadline
from virtproof.diagnose import interrogate
from virtproof.diagnose.diagnosis import fatal
from virtproof.guest.agent import Agent
from virtproof.guest.console import Console, SocketPort
from virtproof.guest.domain import Domain

BOOT_S = 60.0  # on KVM; scaled to the accelerator
ASK_S = 5.0
SETTLE_S = 1.0
SYNC_S = 0.5
PROMPT_POLL_S = 0.2
TAIL = 65536  # bytes of console that the waiter looks at
# Waits in the guest, so that the host need not poll: done once the init system has finished.
# In emergency mode the agent may answer: what started before the failure goes on.
WAIT_UP = """command -v systemctl >/dev/null || exit 0
case $(systemctl is-system-running --wait) in maintenance|stopping|offline) exit 1;; esac"""


class Boot:
    """The consoles and the control channel of one start."""

    def __init__(self, domain: Domain, scale: float, agent_socket: str = "") -> None:
        self._domain = domain
        self._scale = scale
        self._agent_socket = agent_socket
        self.started = False
        self.preface = ""  # what the console of a restored guest had said before it was saved
        self.shell_answers = ""
        # When it began and ended, by time.monotonic; while it lives, the end is infinite.
        self.span = (0.0, 0.0)
        self.console: Console
        self.agent: Agent

    def start(self, start: Callable[[], None]) -> None:
        """Bring the domain up paused, by ``start``; open both ports, let it run.

        RefusedError where libvirt or QEMU refuses.
        """
        start()
        self.console = self._domain.console("serial0")
        socket = self._agent_socket
        port = Console(SocketPort(socket)) if socket else self._domain.console("serial1")
        self.agent = Agent(port, self._scale, self._halted)
        self.started = True
        self.span = (time.monotonic(), math.inf)
        self._domain.resume()

    def _halted(self) -> str:
        """QEMU pauses a guest whose disk it cannot write: then nobody waits for an answer."""
        if self._domain.state()[0] != "paused":
            return ""
        return "the guest is paused, as it is when the host has no room for its disk"

    def wait_until_up(self) -> bool:
        """Wait for the agent and then for the init system; false where the boot is over instead."""
        deadline = Deadline.after(BOOT_S * self._scale)
        while not self.agent.sync(Deadline.after(min(SYNC_S, deadline.left_s))):
            if deadline.passed or self.over():
                return False
        waiting = self.agent.call("guest-exec", path="/bin/sh", arg=["-c", WAIT_UP])["pid"]
        while not (status := self.agent.call("guest-exec-status", pid=waiting)).get("exited"):
            if deadline.passed or self.over():
                return False
            self.console.wait_beyond(self.console.size, SYNC_S)
        if status.get("exitcode") == 0:
            return not self.over()
        settled = Deadline.after(SETTLE_S * self._scale)  # the console says why, a moment later
        while not self.over() and not settled.passed:
            self.console.wait_beyond(self.console.size, PROMPT_POLL_S)
        return False

    def over(self) -> bool:
        """Whether this boot has ended badly: domain gone, panic, or a shell that waits for somebody.

        Asks a shell that stands on the console what it knows, once.
        """
        state, _ = self._domain.state()
        if state != "running":
            self.console.join(ASK_S)
            return True
        tail = self._text_since(max(0, self.console.size - TAIL))
        if fatal(tail) is None:
            return False
        if not self.shell_answers:
            self._interrogate(tail)
        return True

    def _interrogate(self, tail: str) -> None:
        """Type the questions at the shell that stands on the console; keep what it answered."""
        settled = Deadline.after(SETTLE_S * self._scale)  # a prompt comes after the words about it
        while (prompt := interrogate.prompt(tail)) is None and not settled.passed:
            if (
                not self.console.wait_beyond(self.console.size, PROMPT_POLL_S)
                and self.console.closed
            ):
                return
            tail = self._text_since(max(0, self.console.size - TAIL))
        if prompt is None or not prompt.answers:
            return
        deadline = Deadline.after(ASK_S * self._scale)
        begin = self.console.size
        for line in (*([""] if prompt.wake else []), *interrogate.COMMANDS):
            asked = self.console.size
            self.console.send(line.encode() + b"\n")
            if not self._prompted(asked, deadline):
                break
        self.shell_answers = interrogate.parse(self._text_since(begin))

    def _prompted(self, position: int, deadline: Deadline) -> bool:
        """Wait for a prompt behind ``position``; false when the deadline or the guest's end is first."""
        while not deadline.passed and not self.console.closed:
            said = self._text_since(position)
            found = interrogate.prompt(said)
            if "\n" in said and found is not None and not found.wake:
                return True
            self.console.wait_beyond(self.console.size, min(PROMPT_POLL_S, deadline.left_s))
        return False

    def _text_since(self, position: int) -> str:
        return self.console.since(position).decode(errors="replace")

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.span[0]

    def console_text(self) -> str:
        """Everything on serial port 0 since this start."""
        return self.preface + (self._text_since(0) if self.started else "")

    def finish(self) -> None:
        """Wait for the last bytes of ports whose domain has ended."""
        if self.started:
            self.console.join(ASK_S)
            self.span = (self.span[0], min(self.span[1], time.monotonic()))

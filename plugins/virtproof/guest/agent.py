"""The second control channel: QEMU guest agent on an ISA serial port.

Needs neither network nor virtio nor any device under test, so it explains failures of both. The protocol
is QEMU's (qemu-ga(8), QAPI schema of the guest agent): one JSON object a line.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shlex
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from virtproof.deadline import Deadline
from virtproof.errors import CommandError, GuestError
from virtproof.guest.console import Console
from virtproof.guest.shell import CommandResult, checked, quote

COMMAND_S = 30.0  # on KVM; scaled to the accelerator
RESYNC_S = 0.4  # a guest that is booting drops what is sent before its agent opens the port
FIRST_POLL_S, LAST_POLL_S = 0.02, 0.5
HALTED_POLL_S = 2.0
RING_S = 2.0  # for which a command that rings is not asked after
# Run at a command's end: a byte on the agent's own port says so, where the host would ask again and again
# (each question is work for the agent and the journal of a guest that has other things to do).
RING = "echo >/dev/ttyS1"
# The process $1 and all below it: number, name, state, and what each of its threads waits for in the kernel.
STUCK_S = 5.0
STUCK = """known=" $1 " more=1
while [ "$more" ]; do
  more=
  for process in /proc/[0-9]*; do
    read -r stat <"$process/stat" && id=${process#/proc/} || continue
    set -- ${stat##*) }
    case $known in *" $id "*) ;; *" $2 "*) known="$known$id " more=1 ;; esac
  done
done
for id in $known; do
  for thread in /proc/$id/task/*; do
    read -r stat <"$thread/stat" || continue
    rest=${stat##*) }
    echo "${stat%)*}) ${rest%% *}"
    cat "$thread/stack"
  done
done 2>/dev/null"""
CHUNK = 48 * 1024
SENTINEL = b"\xff"  # guest-sync-delimited answers behind this byte, which is no UTF-8
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8"

T = TypeVar("T")


class Agent:
    """Runner over the guest agent; runs as root. ``scale`` multiplies every time-out.

    ``halted`` says why the guest cannot answer, if it knows; asked now and then while one waits.
    """

    name = "agent"

    def __init__(self, port: Console, scale: float, halted: Callable[[], str] = lambda: "") -> None:
        self._port = port
        self._scale = scale
        self._halted = halted
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._position = 0
        self.synchronised = False

    def sync(self, deadline: Deadline) -> bool:
        """Whether the agent answered before the deadline. Sends anew, since a booting guest drops."""
        with self._lock:
            while not self._port.closed:
                number = next(self._ids)
                start = self._port.size
                request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
                # A guest that hangs reads nothing, and the port fills with what it was asked.
                with contextlib.suppress(GuestError):
                    self._port.send(SENTINEL + json.dumps(request).encode() + b"\n")
                if self._synced(number, start, Deadline.after(min(RESYNC_S, deadline.left_s))):
                    self.synchronised = True
                    return True
                if deadline.passed:
                    return False
        return False

    def _synced(self, number: int, start: int, deadline: Deadline) -> bool:
        while True:
            data = self._port.since(start)
            mark = data.rfind(SENTINEL)
            end = data.find(b"\n", mark)
            if mark >= 0 and end >= 0 and _returned(data[mark + 1 : end]) == number:
                self._position = start + end + 1
                return True
            seen = start + len(data)
            if deadline.passed or not self._port.wait_beyond(seen, deadline.left_s):
                return False

    def call(self, execute: str, timeout_s: float = COMMAND_S, **arguments: Any) -> Any:
        """One call of the agent's own; its ``return``. CommandError with the agent's reason.

        After an answer that did not come in time, the next call finds the agent anew, so that it does
        not take a late answer for its own.
        """
        deadline = Deadline.after(timeout_s * self._scale)
        if not self.synchronised and not self.sync(deadline) and not self._port.closed:
            raise GuestError(f"the guest agent did not answer {execute} in time")
        request: dict[str, Any] = {"execute": execute}
        if arguments:
            request["arguments"] = arguments
        with self._lock:
            self._port.send(json.dumps(request).encode() + b"\n")
            line = self._line(deadline, execute)
        answer = _parse(line)
        if "error" in answer:
            error = answer["error"]
            reason = error.get("desc", "no reason") if isinstance(error, dict) else str(error)
            raise CommandError(f"guest agent: {execute}: {str(reason)[:200]}")
        if "return" not in answer:
            raise CommandError(f"guest agent: {execute}: no 'return' in {line[:120]!r}")
        return answer["return"]

    def _line(self, deadline: Deadline, what: str) -> bytes:
        while True:
            data = self._port.since(self._position)
            line, newline, _ = data.partition(b"\n")
            if newline:
                self._position += len(line) + 1
                if line.strip():
                    return line
                continue  # a command has rung
            if self._port.closed:
                raise GuestError(f"the guest went away while {what} ran")
            if deadline.passed:
                self.synchronised = False
                raise GuestError(f"the guest agent did not answer {what} in time")
            heard = self._port.wait_beyond(
                self._position + len(data), min(HALTED_POLL_S, deadline.left_s)
            )
            if not heard and (why := self._halted()):
                self.synchronised = False
                raise GuestError(f"{what}: {why}")

    def run(
        self,
        command: str,
        *args: object,
        check: bool = True,
        timeout_s: float | None = None,
        rings: bool = False,
    ) -> CommandResult:
        """As a Runner's. ``rings``: it ends with ``RING``, and nothing else runs meanwhile."""
        text = quote(command, args)
        shell = ("-c", f"export {PATH}\n{text}")
        return checked(self._execute("/bin/sh", shell, text, timeout_s, rings), check)

    def execute(
        self, program: str, arguments: Sequence[str], timeout_s: float | None = None
    ) -> CommandResult:
        """Run a program without a shell: its streams and status, whatever that is."""
        return self._execute(program, arguments, program, timeout_s)

    def _execute(
        self,
        program: str,
        arguments: Sequence[str],
        text: str,
        timeout_s: float | None,
        rings: bool = False,
    ) -> CommandResult:
        seconds = (timeout_s or COMMAND_S) * self._scale
        deadline = Deadline.after(seconds)
        pid = self._started(program, arguments)
        if rings:
            self._port.wait_beyond(self._position, min(RING_S, deadline.left_s))
        status = self._await_exit(pid, text, deadline)
        if status is None:
            raise GuestError(
                f"in the guest, {text[:200]!r} did not end within {seconds:.0f} s",
                detail=self._stuck(pid),
            )
        out, err = (_decoded(status, key) for key in ("out-data", "err-data"))
        if "exitcode" in status:
            code = _member(status, "exitcode", int)
        else:
            code = 128 + _member(status, "signal", int)
        return CommandResult(text, code, out, err)

    def _started(self, program: str, arguments: Sequence[str]) -> int:
        how: dict[str, Any] = {"path": program, "arg": [*arguments], "capture-output": True}
        return _member(self.call("guest-exec", **how), "pid", int)

    def _stuck(self, pid: int) -> str:
        """What a command that does not end waits for; empty where the guest does not say."""
        try:
            asked = self._started("/bin/sh", ("-c", STUCK, "sh", str(pid)))
            status = self._await_exit(asked, "STUCK", Deadline.after(STUCK_S * self._scale))
            return _decoded(status, "out-data") if status else ""
        except (CommandError, GuestError):
            return ""

    def _await_exit(self, pid: int, command: str, deadline: Deadline) -> dict[str, Any] | None:
        pause = FIRST_POLL_S
        while True:
            status: dict[str, Any] = self.call("guest-exec-status", pid=pid)
            if _member(status, "exited", bool):
                return status
            if deadline.passed:
                return None
            self._port.wait_beyond(self._port.size, min(pause, deadline.left_s))
            if self._port.closed:
                raise GuestError(f"the guest went away while {command[:200]!r} ran")
            pause = min(pause * 1.5, LAST_POLL_S)

    def put(self, path: str, data: bytes) -> None:
        handle = self.call("guest-file-open", path=path, mode="wb")
        try:
            for start in range(0, len(data), CHUNK):
                chunk = base64.b64encode(data[start : start + CHUNK]).decode()
                write: dict[str, Any] = {"handle": handle, "buf-b64": chunk}
                self.call("guest-file-write", **write)
        finally:
            self.call("guest-file-close", handle=handle)

    def power_off(self) -> None:
        """Ask for an orderly shutdown; the agent does not answer this one."""
        with self._lock:
            request = {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}
            self._port.send(json.dumps(request).encode() + b"\n")

    def spawn(self, command: str, *args: object) -> None:
        """Start a command and do not wait for it."""
        self.run(f"setsid sh -c {shlex.quote(quote(command, args))} >/dev/null 2>&1 </dev/null &")


def _member(answer: object, name: str, kind: type[T]) -> T:
    """A member of an answer, of the type it must have."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise CommandError(f"guest agent: no {name!r} in {str(answer)[:120]!r}")
    return value


def _decoded(status: dict[str, Any], name: str) -> str:
    """A stream of a command that has ended; empty where the agent has none."""
    encoded = _member({name: "", **status}, name, str)
    try:
        return base64.b64decode(encoded).decode(errors="replace")
    except ValueError:
        raise CommandError(f"guest agent: {name} is not base64: {encoded[:120]!r}") from None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line.lstrip(SENTINEL))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CommandError(f"guest agent: not a JSON object: {line[:120]!r}")
    return answer


def _returned(line: bytes) -> object:
    try:
        return _parse(line).get("return")
    except CommandError:
        return None

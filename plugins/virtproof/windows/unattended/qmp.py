"""QEMU's monitor protocol (QMP), as much of it as watching an installation takes."""

from __future__ import annotations

import json
import socket
from typing import Any

from virtproof.errors import ImageError

TIMEOUT_S = 60.0
LONGEST = 1 << 20


class QmpGoneError(ImageError):
    """QEMU has closed its monitor: it has ended, or is about to."""


class Qmp:
    """A connected monitor: commands, and the events that have come between their answers."""

    def __init__(self, connected: socket.socket) -> None:
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self._socket = connected
        self._socket.settimeout(TIMEOUT_S)
        try:
            self._line()  # the greeting
            self.execute("qmp_capabilities")
        except OSError as error:
            raise QmpGoneError(f"QEMU's monitor: {error}") from None

    def execute(self, command: str, **arguments: Any) -> Any:
        """What the command returns. ImageError with QEMU's words, QmpGoneError where it has gone."""
        asked = json.dumps({"execute": command, "arguments": arguments}).encode()
        try:
            self._socket.sendall(asked + b"\n")
            while "event" in (said := self._line()):
                self.events.append(said)
        except OSError as error:
            raise QmpGoneError(f"QEMU's monitor: {error}") from None
        if "error" in said:
            raise ImageError(f"QEMU: {command}: {said['error'].get('desc', '')}")
        return said.get("return")

    def take_events(self, wait_s: float) -> list[dict[str, Any]]:
        """The events since the last call; waits for one where there is none."""
        if not self.events:
            self._socket.settimeout(wait_s)
            try:
                said = self._line()
                if "event" in said:
                    self.events.append(said)
            except TimeoutError:
                pass
            except OSError as error:
                raise QmpGoneError(f"QEMU's monitor: {error}") from None
            finally:
                self._socket.settimeout(TIMEOUT_S)
        taken, self.events = self.events, []
        return taken

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            part = self._socket.recv(1 << 16)
            if not part or len(self._rest) > LONGEST:
                raise QmpGoneError("QEMU has closed its monitor")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        said = json.loads(line)
        if not isinstance(said, dict):
            raise QmpGoneError("QEMU's monitor says what is no object")
        return said

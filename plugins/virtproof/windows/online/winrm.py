"""Programs over WinRM: pypsrp's remote shell (WSMan), by NTLM with its message encryption on plain HTTP.

WinRM without TLS takes no other way by default; no setting of Windows' has to be loosened for it.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import requests
import requests.adapters
from pypsrp.exceptions import AuthenticationError, WinRMError
from pypsrp.shell import CommandState, Process, SignalCode, WinRS
from pypsrp.wsman import WSMan
from spnego.exceptions import SpnegoError
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from virtproof.deadline import Deadline
from virtproof.errors import GuestError
from virtproof.guest.shell import CommandResult
from virtproof.windows.online.channels import NotLetInError
from virtproof.windows.online.runner import clean

CONNECT_S = 5.0
POLL_S = 5  # for which the server holds a question for output back; on KVM
MOST_OUTPUT = 64 << 20  # bytes of a command, both streams
# What a server that speaks nonsense may end in, within the libraries.
NONSENSE = (
    *(ValueError, LookupError, AttributeError, TypeError, struct.error, ElementTree.ParseError),
    *(requests.RequestException, HTTPError, WinRMError, SpnegoError, OSError),
)


class Winrm:
    """WinRM of a guest, on sockets that ``connect`` makes in the guests' network."""

    def __init__(
        self,
        connect: Callable[[float], socket.socket],
        server: str,
        user: str,
        password: str,
        scale: float,
    ) -> None:
        self._scale = scale
        held_s = math.ceil(POLL_S * scale)
        self._wsman = WSMan(
            server,
            username=user,
            password=password,
            ssl=False,
            auth="ntlm",
            encryption="always",
            no_proxy=True,
            operation_timeout=held_s,
            read_timeout=held_s + 10,
        )
        session = self._wsman.transport._build_session()
        session.mount("http://", _Adapter(lambda: connect(CONNECT_S * scale)))
        self._wsman.transport.session = session

    def execute(
        self, program: str, arguments: Sequence[str], timeout_s: float | None = None
    ) -> CommandResult:
        """Run a program by cmd.exe: its streams and status. GuestError in one line for every fault."""
        seconds = (timeout_s or CONNECT_S) * self._scale
        try:
            with WinRS(self._wsman) as shell:
                process = Process(shell, program, list(arguments))
                self._run(process, Deadline.after(seconds), seconds)
        except AuthenticationError:
            raise NotLetInError("WinRM") from None
        except NONSENSE as error:
            kind, said = type(error).__name__, clean(str(error), 200)
            raise GuestError(f"WinRM of the guest: {kind}: {said}") from None
        out, err = (each.decode(errors="replace") for each in (process.stdout, process.stderr))
        return CommandResult(program, process.rc or 0, out, err)

    def _run(self, process: Process, deadline: Deadline, seconds: float) -> None:
        process.begin_invoke()
        while process.state != CommandState.DONE:
            process.poll_invoke()
            fault = ""
            if len(process.stdout) + len(process.stderr) > MOST_OUTPUT:
                fault = f"said more than {MOST_OUTPUT >> 20} MiB"
            elif deadline.passed and process.state != CommandState.DONE:
                fault = f"did not end within {seconds:.0f} s"
            if fault:
                process.shell.signal(SignalCode.TERMINATE, str(process.id))
                raise GuestError(f"in the guest, {process.executable!r} {fault}")

    def close(self) -> None:
        self._wsman.close()


class _Adapter(requests.adapters.HTTPAdapter):
    """requests on sockets that somebody else makes."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                made = connect()
                made.settimeout(self.timeout if isinstance(self.timeout, int | float) else None)
                return made

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self._pool = Pool
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": self._pool}

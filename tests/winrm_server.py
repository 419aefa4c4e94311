"""WinRM as a server has it: HTTP, NTLM by pyspnego's acceptor with its message encryption, WSMan's envelopes.

It is no Windows: the envelopes are written after MS-WSMV, and programs are run on this machine.
"""

from __future__ import annotations

import base64
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import spnego
from pypsrp.encryption import WinRMEncryption
from pypsrp.wsman import NAMESPACES as NS
from spnego.exceptions import SpnegoError

TIMED_OUT = 2150858793
DONE = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done"
ENVELOPE = (
    '<s:Envelope xmlns:s="{s}" xmlns:a="{wsa}" xmlns:w="{wsman}" xmlns:t="{wst}" xmlns:rsp="{rsp}">'
    "<s:Header><a:RelatesTo>%s</a:RelatesTo></s:Header><s:Body>%s</s:Body></s:Envelope>"
).format(**NS)


@dataclass
class Server:
    """``folder`` is where its programs lie; ``nonsense`` is said in the place of an answer."""

    folder: Path
    nonsense: bytes = b""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    plain: list[bytes] = field(default_factory=list)  # bodies that came unencrypted
    port: int = 0

    def answer(self, message: bytes) -> tuple[int, bytes]:
        envelope = ET.fromstring(message)
        action = str(envelope.findtext("s:Header/wsa:Action", namespaces=NS)).rpartition("/")[2]
        related = envelope.findtext("s:Header/wsa:MessageID", namespaces=NS)
        self.actions.append(action)
        body = envelope.find("s:Body", NS)
        assert body is not None
        status, text = getattr(self, action.lower())(body)
        return status, self.nonsense or (ENVELOPE % (related, text)).encode()

    def create(self, _body: ET.Element) -> tuple[int, str]:
        shell = str(uuid.uuid4()).upper()
        return 200, (
            '<t:ResourceCreated><a:ReferenceParameters><w:SelectorSet><w:Selector Name="ShellId">'
            f"{shell}</w:Selector></w:SelectorSet></a:ReferenceParameters></t:ResourceCreated>"
            f"<rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId></rsp:Shell>"
        )

    def command(self, body: ET.Element) -> tuple[int, str]:
        line = body.find("rsp:CommandLine", NS)
        assert line is not None
        words = [str(word.text) for word in line]
        argv = [str(self.folder / words[0]), *words[1:]]
        pipe = subprocess.PIPE
        name = str(uuid.uuid4()).upper()
        self.running[name] = subprocess.Popen(argv, stdout=pipe, stderr=pipe)
        return (
            200,
            f"<rsp:CommandResponse><rsp:CommandId>{name}</rsp:CommandId></rsp:CommandResponse>",
        )

    def receive(self, body: ET.Element) -> tuple[int, str]:
        wanted = body.find("rsp:Receive/rsp:DesiredStream", NS)
        assert wanted is not None
        name = wanted.get("CommandId", "")
        try:
            out, err = self.running[name].communicate(timeout=1)
        except subprocess.TimeoutExpired:
            return 500, _fault(TIMED_OUT)
        streams = "".join(
            f'<rsp:Stream Name="{stream}" CommandId="{name}">{base64.b64encode(data).decode()}'
            "</rsp:Stream>"
            for stream, data in (("stdout", out), ("stderr", err))
        )
        code = self.running.pop(name).returncode
        state = f'<rsp:CommandState CommandId="{name}" State="{DONE}"><rsp:ExitCode>{code}'
        end = "</rsp:ExitCode></rsp:CommandState>"
        return 200, f"<rsp:ReceiveResponse>{streams}{state}{end}</rsp:ReceiveResponse>"

    def signal(self, body: ET.Element) -> tuple[int, str]:
        found = body.find("rsp:Signal", NS)
        assert found is not None
        self.end(found.get("CommandId", ""))
        return 200, "<rsp:SignalResponse/>"

    def delete(self, _body: ET.Element) -> tuple[int, str]:
        return 200, ""

    def end(self, name: str) -> None:
        if process := self.running.pop(name, None):
            process.kill()
            process.communicate()


def _fault(code: int) -> str:
    fault = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
    return (
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Detail>"
        f'<f:WSManFault xmlns:f="{fault}" Code="{code}"><f:Message>late</f:Message>'
        "</f:WSManFault></s:Detail></s:Fault>"
    )


class _Handler(BaseHTTPRequestHandler):
    """One connection: it is let in by NTLM, and then speaks encrypted."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        self.context: Any = None
        self.encryption: WinRMEncryption | None = None

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ours: Server = self.server.ours
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if token:
            self._let_in(scheme, base64.b64decode(token))
        elif self.encryption is None:
            if body:
                ours.plain.append(body)
            self._say(401, b"", {"WWW-Authenticate": "Negotiate"})
        else:
            message = self.encryption.unwrap_message(body, "Encrypted Boundary")
            status, answer = ours.answer(message)
            kind, data = self.encryption.wrap_message(answer)
            about = f'{kind};protocol="{WinRMEncryption.SPNEGO}";boundary="Encrypted Boundary"'
            self._say(status, data, {"Content-Type": about})

    def _let_in(self, scheme: str, token: bytes) -> None:
        if self.context is None:
            options = spnego.NegotiateOptions.wrapping_winrm
            self.context = spnego.server(protocol="ntlm", options=options)
        try:
            answer = self.context.step(token)
        except SpnegoError:
            self._say(401, b"", {"WWW-Authenticate": "Negotiate"})
            return
        if self.context.complete:
            self.encryption = WinRMEncryption(self.context, WinRMEncryption.SPNEGO)
            self._say(200, b"", {})
        else:
            said = f"{scheme} {base64.b64encode(answer or b'').decode()}"
            self._say(401, b"", {"WWW-Authenticate": said})

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(folder: Path, user: str, password: str) -> Iterator[Server]:
    """A server on the loopback interface, for one account."""
    accounts = folder / "accounts"
    accounts.write_text(f":{user}:{password}\n")
    before = os.environ.get("NTLM_USER_FILE")
    os.environ["NTLM_USER_FILE"] = str(accounts)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    ours = http.ours = Server(folder, port=http.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        http.shutdown()
        http.server_close()
        for name in list(ours.running):
            ours.end(name)
        del os.environ["NTLM_USER_FILE"]
        if before is not None:
            os.environ["NTLM_USER_FILE"] = before

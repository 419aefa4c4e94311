"""Commands over SSH, the way a user would reach the guest: over the NIC under test."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from virtproof.errors import GuestError
from virtproof.guest.shell import CommandResult, checked, quote

COMMAND_S = 30.0  # on KVM; scaled to the accelerator
SSH_PORT = 22
POLL_S = 0.05
MOST_OUTPUT = 64 << 20  # bytes of a command, both streams; a guest may talk without end


class _FreshGuest(paramiko.MissingHostKeyPolicy):
    """A disposable guest's host key is as new as the guest; the network is the lab's own."""

    def missing_host_key(self, *_: object) -> None:
        return


class Ssh:
    """Runner over paramiko on a socket made in the guests' network. ``scale`` multiplies time-outs.

    Authenticates by the key, or where there is none by the password.
    """

    name = "ssh"

    def __init__(
        self,
        connect: Callable[[float], socket.socket],
        key: Path | None,
        user: str,
        scale: float,
        password: str | None = None,
    ) -> None:
        self._connect = connect
        self._key = key
        self._user = user
        self._password = password
        self._scale = scale
        self._client: paramiko.SSHClient | None = None

    def open(self) -> None:
        """Connect and authenticate once. OSError or paramiko.SSHException where the guest refuses."""
        self.close()
        patience_s = 10.0 * self._scale
        connected = self._connect(5.0)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_FreshGuest())
        try:
            client.connect(
                "guest",
                sock=connected,
                username=self._user,
                pkey=None if self._key is None else _private(self._key),
                password=self._password,
                allow_agent=False,
                look_for_keys=False,
                timeout=patience_s,
                banner_timeout=patience_s,
                auth_timeout=patience_s,
            )
        except BaseException:
            client.close()
            connected.close()
            raise
        self._client = client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def client(self) -> paramiko.SSHClient:
        """The connected client, for testinfra and for file transfer."""
        if self._client is None:
            raise GuestError("SSH to the guest is not open")
        return self._client

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        text = quote(command, args)
        seconds = (timeout_s or COMMAND_S) * self._scale
        transport = self.client.get_transport()
        if transport is None or not transport.is_active():
            raise GuestError("SSH to the guest broke off")
        end = time.monotonic() + seconds
        try:
            channel = transport.open_session(timeout=seconds)
            channel.exec_command(text)
            out, err = _drain(channel, text, end)
        except paramiko.SSHException as error:
            raise GuestError(f"SSH to the guest broke off: {error}") from error
        return checked(CommandResult(text, channel.recv_exit_status(), out, err), check)

    def put(self, path: str, data: bytes) -> None:
        sftp = self.client.open_sftp()
        try:
            with sftp.open(path, "wb") as file:
                file.set_pipelined(True)
                file.write(data)
        finally:
            sftp.close()


def _private(path: Path) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def _drain(channel: paramiko.Channel, command: str, end: float) -> tuple[str, str]:
    """Both streams to their ends, read in turn so that neither blocks the other."""
    out, err = bytearray(), bytearray()
    while True:
        moved = False
        if channel.recv_ready():
            out += channel.recv(65536)
            moved = True
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(65536)
            moved = True
        if not moved and channel.exit_status_ready() and (channel.eof_received or channel.closed):
            break
        too_much = len(out) + len(err) > MOST_OUTPUT
        if too_much or time.monotonic() > end:
            channel.close()
            fault = f"said more than {MOST_OUTPUT >> 20} MiB" if too_much else "did not end in time"
            raise GuestError(f"in the guest, {command[:200]!r} {fault}")
        if not moved:
            time.sleep(POLL_S / 5)
    return out.decode(errors="replace"), err.decode(errors="replace")

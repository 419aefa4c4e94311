"""Waiting for the network's way into a guest: its address, and an SSH server behind it."""

from __future__ import annotations

import math

import paramiko

from virtproof.deadline import Deadline, wait_for
from virtproof.guest.domain import Domain
from virtproof.guest.ssh import Ssh

LEASE_POLL_S = 0.1
SSH_POLL_S = 0.3
REFUSALS = (ConnectionRefusedError, paramiko.AuthenticationException)


def leased_address(domain: Domain, mac: str, deadline: Deadline) -> str:
    """IPv4 address that DHCP has given to a MAC; empty where it gave none before the deadline."""

    def leased() -> str | None:
        found = domain.addresses().get(mac, [])
        return found[0] if found else None

    return wait_for(leased, deadline, LEASE_POLL_S) or ""


def wait_for_ssh(ssh: Ssh, deadline: Deadline, refusals_s: float = math.inf) -> str:
    """Open SSH; empty once it is open, the last reason why not when nobody waits any longer.

    That is at the deadline; and where the guest refuses (no server at the port, or a key that is not
    taken) and has done nothing else for ``refusals_s``. What does not answer may still come up.
    """
    said, patience = "no connection", Deadline.after(refusals_s)

    def opened() -> bool | None:
        nonlocal said, patience
        try:
            ssh.open()
        except (OSError, EOFError, paramiko.SSHException) as error:
            said = str(error) or type(error).__name__
            if not isinstance(error, REFUSALS):
                patience = Deadline.after(refusals_s)
            return False if patience.passed else None
        return True

    return "" if wait_for(opened, deadline, SSH_POLL_S) else said

"""A guest: defined, started, reached, switched, thrown away. A context manager."""

from __future__ import annotations

import contextlib
import functools
import math
import secrets
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import testinfra.host

from virtproof.deadline import SCALE, Deadline, wait_for
from virtproof.diagnose.evidence import Evidence
from virtproof.errors import GuestError, LabGoneError
from virtproof.guest.boot import Boot
from virtproof.guest.changes import Changes
from virtproof.guest.checkup import CheckUp, check_up
from virtproof.guest.collect import collect
from virtproof.guest.connection import Connection
from virtproof.guest.console import Console
from virtproof.guest.domain import Domain, RefusedError
from virtproof.guest.domain_xml import Resources, domain_xml
from virtproof.guest.failure import BootFailedError
from virtproof.guest.probes import identity
from virtproof.guest.reach import leased_address, wait_for_ssh
from virtproof.guest.shell import Recorded, Runner
from virtproof.guest.ssh import SSH_PORT, Ssh
from virtproof.images.store import PreparedImage
from virtproof.lab.base import Lab
from virtproof.probe.testinfra_backend import host_over
from virtproof.spec import GuestSpec

SHUTDOWN_S = 20.0  # on KVM; these are scaled to the accelerator
ADDRESS_S = 10.0
SSH_S = 20.0
REFUSALS_S = 2.0
POLL_S = 0.1


class Guest(Changes):
    """One disposable guest. Leaves nothing: overlay, domain and data disks go when it is closed."""

    def __init__(
        self,
        spec: GuestSpec,
        image: PreparedImage,
        lab: Lab,
        connection: Connection,
        deadline_factor: float = 1.0,
    ) -> None:
        self.spec = spec
        self.image = image
        self.lab = lab
        self.connection = connection
        self.name = f"virtproof-{secrets.token_hex(5)}"
        self.mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
        self.scale = SCALE[spec.accel] * deadline_factor
        self.made_at_s = time.monotonic()
        self.say: Callable[[str], None] = lambda _doing: None  # for who watches: what takes seconds
        self.transcript: list[str] = []
        self.switches: list[tuple[str, str]] = []  # domain XML before and after each edit
        self.failures: list[BootFailedError] = []
        self.boots: list[Boot] = []
        self.identity: tuple[str | None, str | None] = (None, None)  # distribution, kernel
        self._ssh: Ssh | None = None
        self._paths: list[str] = []
        self._domain: Domain | None = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()

    # -- life ------------------------------------------------------------------------------------

    def define(self) -> Guest:
        """Make the overlay and the data disks, and define the domain; not started.

        Waits where the guests of other processes have too much of the machine's memory.
        """
        self.lab.admission.enter(self.name, self.spec.memory_mib, self.say)
        root = self.own(self.lab.storage.overlay(self.image.path, self.name))
        data = tuple(self.new_disk(disk.serial, disk.size_mib) for disk in self.spec.data_disks)
        ids = (self.name, str(uuid.uuid4()), self.mac)
        port = self.lab.agent_socket(self.name)
        own = (self.isolated, self.lab.mark(self.name))
        self.resources = Resources(*ids, self.lab.network, root, data, port, *own)
        self.domain = self.connection.define(domain_xml(self.spec, self.resources))
        return self

    def rebase(self, base: Path) -> None:
        """Give the guest, which is off, a new overlay on another disk than its image's."""
        self.lab.storage.remove(self.resources.root)
        self.lab.storage.overlay(base, self.name)

    def begin(self, start: Callable[[], None]) -> Boot:
        """A new start, not waited for: ``start`` brings the domain up with its CPUs stopped."""
        self.forget_probes()
        self._close_ssh()
        self.boots.append(Boot(self.domain, self.scale, self.resources.agent_socket))
        self.boots[-1].start(start)
        return self.boots[-1]

    def boot(self) -> Guest:
        """Start and wait until the guest is up, over the control channel.

        Up: the agent (or, in an image without one, SSH) answers and the init system has finished.
        BootFailedError, with the cause named, as soon as the guest is seen dead, stuck in a shell or
        panicked, or when the deadline has passed.
        """
        with self.lab.admission.starting():
            self.say("boots")
            try:
                boot = self.begin(self.domain.start)
            except RefusedError as error:
                self.fail(libvirt_error=error.detail or str(error))
            if not (boot.wait_until_up() if self.image.agent else self._ssh_answers(boot)):
                self.fail()
        self.say(f"is up after {boot.age_s:.0f} s")
        self.identity = identity(self.runner)
        return self

    def shut_down(self) -> None:
        """An orderly shutdown; GuestError where the guest does not go off in time."""
        deadline = Deadline.after(SHUTDOWN_S * self.scale)
        self._close_ssh()
        boot = self.boots[-1]
        if boot.agent.synchronised:
            boot.agent.power_off()
        else:
            self.domain.shutdown()
        if wait_for(lambda: self.state == "shutoff" or None, deadline, POLL_S) is None:
            raise GuestError(f"guest {self.spec.id} did not shut down within its deadline")
        boot.finish()

    def power_cut(self) -> None:
        """Pull the plug: what the guest had not flushed is lost to it."""
        self._close_ssh()
        self.domain.destroy()
        self.boots[-1].finish()

    def reboot(self) -> Guest:
        """Shut down and boot again, from a cold machine."""
        self.shut_down()
        return self.boot()

    def close(self) -> None:
        """Throw everything away; safe to call twice and on a guest that never started."""
        self._close_ssh()
        domain, self._domain = self._domain, None
        # What it has in a lab that has gone goes with that lab, or is swept.
        with contextlib.suppress(LabGoneError):
            if domain is not None:
                domain.destroy()
                domain.undefine()
            for boot in self.boots:
                boot.finish()
            while self._paths:
                self.lab.storage.remove(self._paths.pop())
        self.lab.admission.leave(self.name)

    # -- reaching it -------------------------------------------------------------------------------

    @property
    def is_defined(self) -> bool:
        """Whether there is a domain (there is none before ``define`` and after ``close``)."""
        return self._domain is not None

    @property
    def isolated(self) -> bool:
        """Whether its NICs shall be isolated: the spec wants it, and the lab's network can do it."""
        return self.spec.isolated and not self.lab.why_together

    @property
    def domain(self) -> Domain:
        """The domain as libvirt has it now; set anew when its XML is edited."""
        if self._domain is None:
            raise GuestError(f"guest {self.spec.id} is not defined (any more)")
        return self._domain

    @domain.setter
    def domain(self, defined: Domain) -> None:
        self._domain = defined

    @property
    def state(self) -> str:
        """libvirt's name of the domain's state: running, paused, shutoff, crashed."""
        return self.domain.state()[0]

    @property
    def is_up(self) -> bool:
        """Whether the guest runs and its agent has answered in this boot."""
        running = self.is_defined and self.state == "running"
        return running and self.boots[-1].started and self.boots[-1].agent.synchronised

    @property
    def runner(self) -> Runner:
        """The control channel: guest agent, or SSH in an image that has none."""
        if self.image.agent:
            return Recorded(self.boots[-1].agent, "agent", self.transcript)
        return self.ssh

    @property
    def ssh(self) -> Runner:
        """SSH over the NIC under test, as a user would reach the guest; connects on first use.

        BootFailedError with no-address, nic-driver-missing or ssh-refused where it cannot.
        """
        if self._ssh is None:
            self._open_ssh()
        assert self._ssh is not None
        return Recorded(self._ssh, "ssh", self.transcript)

    @property
    def host(self) -> testinfra.host.Host:
        """testinfra's host over SSH."""
        return host_over(self.ssh)

    @property
    def console(self) -> Console:
        """Serial port 0 of the running boot."""
        return self.boots[-1].console

    def console_text(self) -> str:
        """Everything that any boot of this guest wrote to serial port 0."""
        texts = [boot.console_text() for boot in self.boots]
        return "\n--- next start ---\n".join(texts)

    def address(self, mac: str | None = None, timeout_s: float = ADDRESS_S) -> str:
        """IPv4 address that DHCP gave to a NIC (the first one's); empty where it gave none in time."""
        deadline = Deadline.after(timeout_s * self.scale)
        return leased_address(self.domain, mac or self.mac, deadline)

    def _open_ssh(self) -> None:
        if self.boots[-1].agent.synchronised and self._nic_is_dead():
            self.fail()
        address = self.address()
        if not address:
            self.fail(address="")
        connect = functools.partial(self.lab.connect_tcp, address, SSH_PORT)
        ssh = Ssh(connect, self.image.key, "root", self.scale)
        # The init system of a guest whose agent has answered has finished: what refuses, refuses for good.
        refusals_s = REFUSALS_S * self.scale if self.boots[-1].agent.synchronised else math.inf
        said = wait_for_ssh(ssh, Deadline.after(SSH_S * self.scale), refusals_s)
        if said:
            self.fail(address=address, ssh_error=said)
        self._ssh = ssh

    def _nic_is_dead(self) -> bool:
        """Whether the guest says that no driver has taken its NIC: nobody waits for an address then."""
        return any(line.split()[-1:] == ["-"] for line in self.nic_facts().splitlines())

    def _ssh_answers(self, boot: Boot) -> bool:
        self._open_ssh()
        return not boot.over()

    def _close_ssh(self) -> None:
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None

    # -- explaining it ---------------------------------------------------------------------------

    def new_disk(self, serial: str, size_mib: int) -> str:
        """An empty disk file of this guest's, removed with it: its path, to be hot-added."""
        return self.own(self.lab.storage.blank(f"{self.name}-{serial}", size_mib))

    def own(self, path: str) -> str:
        """A disk of the lab's storage, removed with this guest."""
        self._paths.append(path)
        return path

    def check_up(self) -> CheckUp:
        """Examine the guest, which is up: what is wrong with it, by name, and all that was found."""
        self.say("is examined")
        return check_up(self)

    def evidence(self, **known: object) -> Evidence:
        """What can be told of the guest as it is now; ``known`` overrides fields of Evidence."""
        return collect(self, **known)

    def fail(self, **known: object) -> NoReturn:
        """Raise BootFailedError with the evidence of now; ``known`` as for ``evidence``."""
        self.failures.append(BootFailedError(self.spec.id, self.evidence(**known)))
        self.say(f"fails: {self.failures[-1].diagnosis.name}")
        raise self.failures[-1]

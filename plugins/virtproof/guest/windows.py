"""A guest with a Windows in it: started, reached over one of three channels, switched, thrown away."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import paramiko

from virtproof.deadline import Deadline, wait_for
from virtproof.diagnose.windows import screen_stop
from virtproof.errors import CommandError, GuestError
from virtproof.guest.checkup import CheckUp
from virtproof.guest.connection import Connection
from virtproof.guest.domain import RefusedError
from virtproof.guest.guest import ADDRESS_S, POLL_S, Guest
from virtproof.guest.screen import text_of
from virtproof.guest.ssh import Ssh
from virtproof.guest.windows_xml import dummy, for_windows, with_devices, with_medium
from virtproof.images.store import PreparedImage
from virtproof.lab.base import Lab
from virtproof.spec import DiskBus, GuestSpec, Machine, NicModel
from virtproof.transition.switching import switch_disk, switch_nic
from virtproof.windows.online import channels
from virtproof.windows.online.channels import Channel, NotLetInError
from virtproof.windows.online.probes import Windows
from virtproof.windows.online.runner import PowerShell, clean

BOOT_S = 300.0  # on KVM; these are scaled to the accelerator
SHUTDOWN_S = 180.0
SYNC_S = 1.0
REFUSED_S = 20.0  # for which accounts may be late
LOOK_S = 20.0  # between two looks at the screen, each of which takes a second
DUMMY_MIB = 1024
STOPPED = '{"type": "windows"}'


@dataclass(frozen=True, slots=True, repr=False)  # no password in a traceback
class Login:
    """How a Windows is reached. ``wrap`` goes around the channel (a recording)."""

    channel: Channel
    user: str = "Administrator"
    password: str = ""
    wrap: Callable[[PowerShell], PowerShell] = lambda shell: shell


class WindowsGuest(Guest):
    """A machine for a Windows, on an overlay of its disk. ``bus`` is what its root is switched to."""

    _next_look: Deadline | None = None

    def __init__(
        self,
        spec: GuestSpec,
        image: PreparedImage,
        lab: Lab,
        connection: Connection,
        login: Login,
        deadline_factor: float = 1.0,
    ) -> None:
        super().__init__(spec, image, lab, connection, deadline_factor)
        self.name = f"virtproof-windows-{secrets.token_hex(4)}"
        self.login = login
        self.media: tuple[Path, ...] = ()
        self.bus = DiskBus.VIRTIO
        self.with_nic = True
        self._refused: Deadline | None = None  # until when a login may be refused
        self._said: Exception | None = None  # what was heard instead of an answer

    def define(self) -> WindowsGuest:
        super().define()
        bus = "sata" if self.spec.machine is Machine.Q35 else "ide"
        xml = for_windows(self.domain.xml(inactive=True), self.spec.accel, bus)
        self.domain = self.connection.define(xml)
        return self

    # -- what only a Linux can say -----------------------------------------------------------------

    def nic_facts(self) -> str:
        return ""

    def jobs(self) -> str:
        return ""

    def check_up(self) -> CheckUp:
        raise GuestError("a Windows is not examined as a Linux is")

    # -- the machine that a plan is carried out on -----------------------------------------------

    def start(self) -> Windows:
        """Start it, and wait until PowerShell answers. BootFailedError with the cause, a stop by its code."""
        with self.lab.admission.starting():
            self.say("boots")
            deadline, self._refused = Deadline.after(BOOT_S * self.scale), None
            self._next_look = Deadline.after(LOOK_S)
            try:
                self.begin(self.domain.start)
            except RefusedError as error:
                self.fail(libvirt_error=error.detail or str(error))
            windows = self._awaited(deadline)
            if windows is None:
                self._stopped()
                self.fail()
        self.say(f"is up after {self.boots[-1].age_s:.0f} s")
        return windows

    def _stopped(self) -> None:
        """BootFailedError where it runs no more (a crash is a Windows' stop), or found nothing to boot."""
        state = self.state
        if state != "running" or self.boots[-1].over():
            self.boots[-1].finish()
            self.fail(**({"guest_panicked": STOPPED} if state == "crashed" else {}))
        if self._next_look and self._next_look.passed:
            self._next_look = Deadline.after(LOOK_S)
            self._look()

    def _look(self) -> None:
        """BootFailedError where the screen shows a stop: without KVM or a panic device, nothing else does."""
        with contextlib.suppress(RefusedError):  # it may be going off just now
            words = text_of(self.domain.screenshot())
            if screen_stop(words):
                self.boots[-1].finish()
                self.fail(screen=words)

    def _awaited(self, deadline: Deadline, interval_s: float = POLL_S) -> Windows | None:
        """The Windows; None where there was nothing to ask. GuestError with what was said at the deadline."""
        windows = wait_for(lambda: self._answering(deadline), deadline, interval_s)
        if windows is None and self._said is not None:
            said = clean(str(self._said) or type(self._said).__name__)
            raise GuestError(f"Windows does not answer over {self.login.channel}: {said}")
        return windows

    def _answering(self, deadline: Deadline) -> Windows | None:
        """The Windows, once it says its version; services come up one after another."""
        self._said = None
        self._stopped()
        try:
            shell = self._shell(deadline)
            if shell is None:
                return None
            Windows(shell).system()
        except (CommandError, GuestError, OSError, EOFError, paramiko.SSHException) as error:
            self._stopped()
            self._said = error
            self._give_up(error)
            return None
        return Windows(self.login.wrap(shell))

    def _give_up(self, error: Exception) -> None:
        """Raise what is not waited for to the deadline: a login that is refused."""
        if isinstance(error, paramiko.AuthenticationException):
            error = NotLetInError("SSH")
        if not isinstance(error, NotLetInError):
            self._refused = None
        elif self._refused is None:
            self._refused = Deadline.after(REFUSED_S * self.scale)
        elif self._refused.passed:
            raise error

    def _shell(self, deadline: Deadline) -> PowerShell | None:
        """PowerShell over the channel, or None while nobody answers there."""
        if self.login.channel is Channel.AGENT:
            agent = self.boots[-1].agent
            ready = agent.sync(Deadline.after(min(SYNC_S, deadline.left_s)))
            return channels.over(agent) if ready else None
        address = self.address(timeout_s=0.1)
        if not address:
            return None
        login, port = self.login, self.login.channel.port
        connect = functools.partial(self.lab.connect_tcp, address, port)
        if login.channel is Channel.SSH:
            self._close_ssh()
            self._ssh = Ssh(connect, None, login.user, self.scale, login.password)
            self._ssh.open()
            return channels.over_ssh(self._ssh)
        from virtproof.windows.online.winrm import Winrm  # its libraries are for this channel alone

        connect(ADDRESS_S).close()  # or each attempt waits for WinRM's own deadline
        return channels.over(Winrm(connect, address, login.user, login.password, self.scale))

    def end(self, windows: Windows) -> None:
        """Shut it down wholly (not to a fast start-up); GuestError where it does not go off."""
        begin = time.monotonic()
        windows.program("shutdown", "/s", "/t", "2")
        deadline = Deadline.after(SHUTDOWN_S * self.scale)
        if wait_for(lambda: self.state != "running" or None, deadline, POLL_S) is None:
            seconds = time.monotonic() - begin
            raise GuestError(f"Windows is not off {seconds:.0f} s after it was shut down")
        self._close_ssh()
        self.boots[-1].finish()
        if self.state == "crashed":
            self.fail(guest_panicked=STOPPED)

    def add_dummy(self, serial: str) -> None:
        """An empty disk on the bus that the root shall be on, plugged in, or put in while it is off."""
        path = self.new_disk(
            f"{serial}{len(self._paths)}", DUMMY_MIB
        )  # there may have been one before
        devices = dummy(self.bus, serial, DUMMY_MIB, path)
        if self.state == "shutoff":
            self._redefine(with_devices(self.domain.xml(inactive=True), devices))
        else:
            for device in devices:
                self.domain.attach(device)

    def add_medium(self, which: int) -> None:
        whole, cd = with_medium(self.domain.xml(inactive=True), str(self.media[which]))
        if self.state != "shutoff":
            self.domain.update(cd)
        self._redefine(whole)

    def move(self) -> None:
        """Root disk, and NIC where it shall, to virtio; it is off. BootFailedError where libvirt refuses."""
        nic = NicModel.VIRTIO if self.with_nic else self.spec.nic
        target, mac = self.root_target, self.mac

        def change(xml: str) -> str:
            xml = switch_disk(xml, target, self.bus)
            return switch_nic(xml, mac, nic) if nic else xml

        self.edit(change)
        self.spec = self.spec.switched(disk=self.bus, nic=nic)

    def _redefine(self, xml: str) -> None:
        try:
            self.domain = self.connection.define(xml)
        except RefusedError as error:
            self.fail(libvirt_error=error.detail or str(error), domain_xml=xml)


class GuestMachine:
    """A WindowsGuest as what a plan is carried out on (``conductor.Machine``)."""

    def __init__(self, guest: WindowsGuest) -> None:
        self.guest = guest
        self.mac = guest.mac
        self.boot = guest.start
        self.shut_down = guest.end
        self.add_dummy = guest.add_dummy
        self.add_medium = guest.add_medium
        self.switch = guest.move


__all__ = ["GuestMachine", "Login", "WindowsGuest"]

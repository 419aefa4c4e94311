"""What a run holds: accelerator, lab, connection, images, guests; each made when first asked for."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from virtproof.errors import LabGoneError, VirtproofError
from virtproof.guest.connection import Connection
from virtproof.guest.guest import ADDRESS_S, Guest
from virtproof.guest.warm import Host, WarmGuests
from virtproof.images import catalog
from virtproof.images.store import ImageStore, PreparedImage
from virtproof.lab import open_lab
from virtproof.lab.accel import DEADLINE_S, AccelVerdict, probe
from virtproof.lab.base import Lab
from virtproof.lab.sweeping import sweep
from virtproof.lab.user import UserLibvirt
from virtproof.plugin.kernels import Kernels
from virtproof.plugin.options import Options
from virtproof.plugin.progress import Progress
from virtproof.spec import Accel, GuestSpec

T = TypeVar("T")
# A disposable guest's address had other host keys yesterday: ssh shall neither ask nor remember.
NO_HOST_KEY = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")


class Run:
    """One session's (or one xdist worker's) resources. A fault while making one ends the session:
    ``broken`` is then the one line that says why."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.broken: VirtproofError | None = None
        self.images_s = 0.0
        self.guests: list[Guest] = []
        self._kept: list[Guest] = []
        self._lab: Lab | None = None
        self.kernels = Kernels(options.kernels, lambda: self.store, self._guest, self.boot)

    @cached_property
    def accelerator(self) -> AccelVerdict:
        """The accelerator, as probed."""
        return self._or_break(self._probe)

    def _probe(self) -> AccelVerdict:
        store = ImageStore(self.options.cache, Accel.TCG, self.progress.long)
        kernel = store.probe_kernel()
        if kernel is None and self.options.accel != "tcg":
            kernel = store.fetch_probe_kernel()
        factor = self.options.deadline_factor
        deadline_s = {accel: factor * seconds for accel, seconds in DEADLINE_S.items()}
        verdict = probe(kernel, self.options.accel, cache=self.options.cache, deadline_s=deadline_s)
        self.progress.once(f"guests run on {verdict.accel}: {verdict.why}")
        return verdict

    @cached_property
    def store(self) -> ImageStore:
        return ImageStore(self.options.cache, self.accelerator.accel, self.progress.long)

    @property
    def lab(self) -> Lab:
        """The lab, opened when first asked for; another one after ``renew`` found it gone."""
        if self._lab is None:
            self._lab = self._or_break(self._open)
        return self._lab

    @property
    def has_lab(self) -> bool:
        """Whether a lab was opened."""
        return self._lab is not None

    def _open(self) -> Lab:
        options = self.options
        lab: Lab
        if options.libvirt is None:
            lab = open_lab(options.cache, self.connect)
        else:
            connection = self.connect(options.libvirt)
            say = self.progress.long
            lab = UserLibvirt(options.libvirt, options.network, options.pool, connection, say)
        if lab.why_together:
            self.progress.once(f"guests can reach each other: {lab.why_together}")
        return lab

    def lost_lab(self) -> LabGoneError | None:
        """What there is to say of a lab that does not answer any more."""
        if self._lab is None:
            return None
        try:
            self.connection.check()
        except LabGoneError as error:
            return LabGoneError(self._lab.gone(), detail=error.detail)
        try:
            self._lab.check()
        except LabGoneError as error:
            return error
        return None

    def renew(self) -> None:
        """Between tests: give up a lab that has gone, so that those who follow get a new one."""
        lost = self.lost_lab()
        if lost is not None:
            self.progress.long(f"{lost}; the next guest gets a new lab")
            self._give_up()

    def _give_up(self) -> None:
        lab, self._lab = self._lab, None
        assert lab is not None
        if self._kept and self.options.libvirt is not None:
            lab.linger()  # they are still there, and were to stay
        self._kept.clear()
        for guest in self.guests:
            guest.close()
        lab.abandon()
        self.connection.close()

    def connect(self, uri: str) -> Connection:
        """The session's connection to libvirt; guests of it outlive us only where they are kept."""
        self.connection = Connection(uri, outlive=self.options.keep_guest)
        return self.connection

    def in_catalog(self, name: str) -> bool:
        """Whether the catalog has an image of that name."""
        return self.kernels.of(name)[0] in catalog.load()

    @cached_property
    def _warm(self) -> WarmGuests | None:
        """Saved guests; none where they are not wanted, or would have to lie in a user's libvirt."""
        if self.options.cold or self.options.libvirt is not None:
            return None
        return WarmGuests(self.store.cache, Host(self.versions))

    def boot(self, guest: Guest) -> Guest:
        """Bring up a guest that is defined: from a saved one of its kind, or by booting it."""
        return self._warm.boot(guest) if self._warm else guest.boot()

    @property
    def versions(self) -> dict[str, str]:
        """Of libvirt's daemon and its QEMU."""
        return self.connection.versions()

    def image(self, name: str) -> PreparedImage:
        """The prepared image; built first where it is missing."""
        begin = time.monotonic()
        base, kernel = self.kernels.of(name)
        try:
            prepared = self._or_break(lambda: self.store.prepared(base))
            return prepared if kernel is None else self.kernels.image(base, kernel)
        finally:
            self.images_s += time.monotonic() - begin

    def guest(self, spec: GuestSpec) -> Guest:
        """A new guest, defined, not started; closed by whoever asked for it."""
        return self._guest(spec, self.image(spec.image))

    def _guest(self, spec: GuestSpec, image: PreparedImage) -> Guest:
        lab = self.lab
        guest = Guest(spec, image, lab, self.connection, self.options.deadline_factor)
        guest.say = lambda doing: self.progress.step(f"{guest.spec.id}: {doing}")
        self.guests.append(guest)
        try:
            return guest.define()
        except BaseException:
            guest.close()  # its disks and its claim on memory are not to wait for the session's end
            raise

    @property
    def guests_s(self) -> float:
        """Seconds during which a guest or more ran."""
        boots = sorted(boot.span for guest in self.guests for boot in guest.boots)
        now, total, counted = time.monotonic(), 0.0, 0.0
        for begin, end in boots:
            until = min(end, now)
            total += max(0.0, until - max(begin, counted))
            counted = max(counted, until)
        return total

    def keep(self, guest: Guest) -> None:
        """Leave a guest running when the session ends, and say how to reach it."""
        if guest not in self._kept:
            self._kept.append(guest)

    def close(self) -> None:
        """End guests and lab; kept ones stay, with the way to them on the terminal."""
        lost = self.lost_lab()
        if lost is not None:
            self._give_up()
            self._sweep_theirs(lost)
        for guest in self.guests:
            if guest not in self._kept:
                guest.close()
        if self._lab is not None and self._kept:
            self._linger(self._lab)
        elif self._lab is not None:
            self._lab.close()

    def _sweep_theirs(self, lost: LabGoneError) -> None:
        """After a user's libvirt had gone: what this run has there is removed, if it is back."""
        if self.options.libvirt is None:
            return
        try:
            sweep(self.connect(self.options.libvirt), self.options.libvirt)
        except VirtproofError:
            command = f"./run clean --libvirt {shlex.quote(self.options.libvirt)}"
            self.progress.long(f"{lost}; what this run has there is removed by: {command}")

    def _linger(self, lab: Lab) -> None:
        """Leave kept guests as they are, and say how to reach them."""
        enter = lab.linger()
        there = f" --libvirt {shlex.quote(lab.uri)}" if self.options.libvirt else ""
        for guest in self._kept:
            # A copy of a warm guest may have failed its test before DHCP gave it an address.
            address = guest.address(timeout_s=ADDRESS_S if guest.is_up else 0.1) or "ADDRESS"
            ssh = shlex.join(["ssh", "-i", str(guest.image.key), *NO_HOST_KEY, f"root@{address}"])
            self.progress.long(
                f"kept guest {guest.spec.id}\n"
                f"  console: virsh -c '{lab.uri}' console {guest.name}\n"
                f"  ssh:     {f'{enter} {ssh}'.strip()}\n"
                f"  end it:  ./run clean{there}"
            )

    def _or_break(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except VirtproofError as error:
            self.broken = error
            raise

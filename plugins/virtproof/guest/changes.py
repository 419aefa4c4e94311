"""Changing a guest: its initramfs, its devices, its packages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Self

from virtproof.deadline import Deadline
from virtproof.errors import UsageError
from virtproof.guest.connection import Connection
from virtproof.guest.domain import Domain, RefusedError
from virtproof.guest.domain_xml import Resources, data_disk, domain_xml, text
from virtproof.guest.probes import Probes
from virtproof.guest.qemu_xml import Ring, with_ring
from virtproof.lab.base import Lab
from virtproof.spec import DataDisk, DiskBus, GuestSpec, NicModel
from virtproof.transition.preparing import Preparer, preparer_for
from virtproof.transition.switching import switch_disk, switch_nic
from virtproof.transition.updating import install_from

HOT_ADD_S = 10.0  # on KVM; scaled to the accelerator
HAND_IN_S = 60.0


class Changes(Probes):
    """What is done to a guest between its boots; the attributes are those of Guest."""

    spec: GuestSpec
    lab: Lab
    connection: Connection
    mac: str
    name: str
    scale: float
    say: Callable[[str], None]
    switches: list[tuple[str, str]]
    domain: Domain
    resources: Resources

    @property
    def state(self) -> str:
        raise NotImplementedError

    def boot(self) -> Self:
        raise NotImplementedError

    def shut_down(self) -> None:
        raise NotImplementedError

    def own(self, path: str) -> str:
        raise NotImplementedError

    def fail(self, **known: object) -> NoReturn:
        raise NotImplementedError

    def prepare_for_virtio(self, *modules: str, tool: Preparer | None = None) -> Self:
        """Put virtio drivers into the initramfs with the distribution's own tool (claim DISK-4)."""
        preparer = tool or preparer_for(self.runner)
        self.say(f"{preparer.name} makes its initramfs anew")
        preparer.prepare(
            self.runner, modules or ("virtio_pci", "virtio_blk", "virtio_scsi"), self.kernel.release
        )
        self.forget_probes()
        return self

    def switch(self, *, disk: DiskBus | None = None, nic: NicModel | None = None) -> Self:
        """Shut down, edit the domain as a user would with ``virsh edit``, boot again.

        What the spec asks of virtio (mode, packed rings) is had by the new devices too, and is forgotten
        with the last virtio device. UsageError for NVMe, which libvirt 9 has no name for.
        BootFailedError where the domain is refused or the guest does not come up on its new devices.
        """
        changes = {"disk": disk or self.spec.disk, "nic": nic or self.spec.nic}
        if disk not in (None, self.spec.disk) and DiskBus.NVME in (disk, self.spec.disk):
            raise UsageError(
                "a root disk is not switched to or from nvme", hint="libvirt 9 has no NVMe bus"
            )
        target = self.root_target
        spec = self.spec.switched(**changes)

        def edit(xml: str) -> str:
            if disk is not None:
                xml = switch_disk(xml, target, disk)
            xml = switch_nic(xml, self.mac, nic) if nic is not None else xml
            old, new = (Ring(each.virtio, each.packed) for each in (self.spec, spec))
            return xml if old == new == Ring() else with_ring(xml, new)

        self.edit(edit)
        self.spec = spec
        return self.boot()

    def become(self, spec: GuestSpec) -> Self:
        """Shut down, and put the same disks into the domain of another spec, which has as many; off."""
        self.edit(lambda _xml: domain_xml(spec, self.resources))
        self.spec = spec
        return self

    def edit(self, change: Callable[[str], str]) -> None:
        """Shut down, put the domain's persistent XML through ``change``, define it anew; not started."""
        if self.state != "shutoff":
            self.shut_down()
        before = self.domain.xml(inactive=True)
        after = change(before)
        self.switches.append((before, after))
        try:
            self.domain = self.connection.define(after)
        except RefusedError as error:
            self.fail(libvirt_error=error.detail or str(error), domain_xml=after)

    def install_packages(self, directory: Path) -> Self:
        """Install the packages of a host's directory: handed in on a hot-added virtio disk."""
        self.say("installs packages")
        with self._disk_of(directory, "packages") as device:
            install_from(self.runner, device)
        self.forget_probes()
        return self

    def hand_in(self, directory: Path, place: str) -> Self:
        """Copy what is in a host's directory to ``place`` in the guest, likewise on a virtio disk."""
        self.say("is handed files")
        with self._disk_of(directory, "files") as device:
            command = "mkdir -p %s && tar --no-same-owner -xf %s -C %s"
            self.runner.run(command, place, device, place, timeout_s=HAND_IN_S)
        return self

    @contextlib.contextmanager
    def _disk_of(self, directory: Path, serial: str) -> Iterator[str]:
        """A host's directory as a tar archive on a hot-added disk: its device in the guest."""
        path = self.own(self.lab.storage.archive(f"{self.name}-{serial}", directory))
        disk = DataDisk(DiskBus.VIRTIO, serial)
        element = text(data_disk(disk, path, "vdz"))
        self.domain.attach(element)
        found = self.block.wait_for(disk.serial, Deadline.after(HOT_ADD_S * self.scale))
        yield f"/dev/{found.name}"
        self.domain.detach(element)

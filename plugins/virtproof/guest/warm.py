"""Warm guests: a guest that is up is saved once, memory and disk, and each test gets a copy of it.

A state lies in the image cache under the digest of what it is made of, so that another image, domain,
QEMU, libvirt or processor has states of its own. It is the memory (``memory.save``), the disk as it was
then (``disk.qcow2``, an overlay on the image), and what the console had said.

The guest is saved without its NIC: a copy gets one with its own MAC, plugged in before its CPUs run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from virtproof import host
from virtproof.deadline import Deadline, wait_for
from virtproof.errors import GuestError, LabGoneError, VirtproofError
from virtproof.guest import saved
from virtproof.guest.agent import RING
from virtproof.guest.domain_xml import Resources, domain_xml, restored_xml
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.images.cache import WARM, Cache, Item
from virtproof.spec import DiskBus, Firmware, VirtioMode

FORMAT = 2  # of a state; another number makes all states of before unfit
MEMORY, DISK, CONSOLE = "memory.save", "disk.qcow2", "console.log"
UNPLUG_S, WAKE_S = 5.0, 10.0  # on KVM; scaled to the accelerator
POLL_S = 0.05
BESIDE_MIB = 256  # of a state, beside the memory: what the guest has written to its disk
MOST = 16  # states kept, beside those used within a day
DAY_S = 24 * 3600.0
# Free memory is filled with zeros, which QEMU leaves out of the file; what is cached stays so.
CALM = """sync; date >/dev/null; sleep 0.01
free=$(sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
[ "$free" -le 32768 ] ||
  dd if=/dev/zero of=/run/virtproof-zero bs=1M count=$((free / 1024 - 24)) 2>/dev/null
rm -f /run/virtproof-zero; sync"""
# The clock stood still while the guest was saved; the NIC is new and is waited for until udev has
# named it, as it is in a guest that booted.
PUT_RIGHT = f"""trap '{RING}' EXIT
date -s @%s >/dev/null
mac=%s tries=0
until [ -z "$mac" ] || [ "$tries" = 300 ]; do
  for nic in /sys/class/net/*; do
    read -r address <"$nic/address" && [ "$address" = "$mac" ] || continue
    [ -d /run/udev/data ] || break 2
    read -r number <"$nic/ifindex" && [ -e "/run/udev/data/n$number" ] && break 2
  done
  tries=$((tries + 1)); sleep 0.03
done
[ "$tries" -lt 300 ]"""
# Whether a driver has the NIC: one that none has is waited for in vain.
HAS_NIC = "grep -qix %s /sys/class/net/*/address"


@dataclass(frozen=True, slots=True)
class Host:
    """What a state depends on beside image and domain: versions, QEMU's binary, the processor."""

    versions: Mapping[str, str]

    def parts(self) -> list[Any]:
        binary = host.find_program("qemu-system-x86_64")
        program = _file(binary) if binary else []
        facts = host.record()
        # What is another user's cannot be read, and is not to be taken for damaged.
        return [dict(self.versions), program, facts["cpu_model"], facts["kernel"], os.getuid()]


class WarmGuests:
    """Starts guests from saved states, and makes the states; one a session."""

    def __init__(self, cache: Cache, on: Host) -> None:
        self._cache = cache
        self._on = on
        self._unfit: set[str] = set()

    def boot(self, guest: Guest) -> Guest:
        """Bring up a guest that was defined: a copy of a saved one, where there can be one.

        The first guest of its kind boots, is saved, and goes on as a copy. BootFailedError as of
        ``Guest.boot`` where it does not come up; what does not come up is never saved.
        """
        key = self._key(guest)
        if not _may_be_saved(guest) or key in self._unfit:
            return guest.boot()
        try:
            item = self._item(guest, key)
            with guest.lab.admission.starting():
                return self._wake(guest, item)
        except (BootFailedError, LabGoneError):
            raise
        except (VirtproofError, OSError) as error:
            guest.connection.check()  # a lab that has gone says nothing of the state
            self._unfit.add(key)
            self._cache.progress(f"no warm {guest.spec.id}, it boots: {error}")
        if guest.boots:
            guest.power_cut()
        guest.rebase(guest.image.path)
        return guest.boot()

    def _item(self, guest: Guest, key: str) -> Item:
        """The state, made of this guest where there is none; the guest is off then."""
        with self._cache.locked(f"{WARM}-{key}", f"warm {guest.spec.id}"):
            item = self._cache.get(WARM, key)
            if item is None:
                need_mib = guest.spec.memory_mib + BESIDE_MIB
                self._cache.check_space(f"saving {guest.spec.id}", need_mib)
                guest.boot()
                item = self._save(guest, key)
            return item

    def _key(self, guest: Guest) -> str:
        """The state's address. Names, addresses and paths are a copy's own and not in it."""
        spec, nothing = guest.spec, "00000000-0000-0000-0000-000000000000"
        data = tuple(f"{disk.serial} {disk.size_mib}" for disk in spec.data_disks)
        port = "port" if guest.resources.agent_socket else ""
        names = Resources("guest", nothing, "52:54:00:00:00:00", "network", "root", data, port)
        plain = domain_xml(spec, names)
        given = [_file(Path(path)) for path in (spec.emulator, spec.kernel, spec.initrd) if path]
        parts = [FORMAT, guest.image.digest, plain, *self._on.parts(), CALM, *given]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _save(self, guest: Guest, key: str) -> Item:
        """The state of a guest that is up, and off afterwards."""
        begin = time.monotonic()
        guest.runner.run(CALM, check=False)
        has_nic = guest.runner.run(HAS_NIC, guest.mac, check=False).status == 0
        address = _unplugged(guest)
        if address is None:
            raise GuestError("it does not give its NIC back")

        def keep(scratch: Path) -> dict[str, Any]:
            guest.domain.save(str(scratch / MEMORY))
            guest.boots[-1].finish()
            shutil.move(guest.resources.root, scratch / DISK)
            (scratch / CONSOLE).write_text(guest.console_text(), encoding="utf-8")
            facts = {"image": guest.image.digest, "spec": guest.spec.id}
            nic = {"nic": address, "has_nic": has_nic}
            return {**facts, **nic, "identity": list(guest.identity)}

        self._forget_old()
        item = self._cache.make(WARM, key, keep)
        guest.say(f"was saved in {time.monotonic() - begin:.1f} s")
        return item

    def _wake(self, guest: Guest, item: Item) -> Guest:
        """Restore into a guest that is defined and off."""
        begin = time.monotonic()
        os.utime(item.path)  # so that it is not among the oldest
        state = saved.read(item.path / MEMORY)
        guest.rebase(item.path / DISK)
        xml, nic = restored_xml(state.xml, guest.spec, guest.resources, item.facts["nic"])

        def start() -> None:
            place = Path(f"{guest.resources.root}.pipe")
            with saved.as_pipe(state, xml, place) as pipe:
                guest.connection.restore(str(pipe))
            if nic:
                guest.domain.attach(nic)

        boot = guest.begin(start)
        boot.preface = (item.path / CONSOLE).read_text(encoding="utf-8")
        boot.preface += "\n--- restored ---\n"
        if not boot.agent.sync(Deadline.after(WAKE_S * guest.scale)):
            raise GuestError("its agent does not answer")
        nic_of = guest.mac if item.facts["has_nic"] else ""
        told = boot.agent.run(PUT_RIGHT, f"{time.time():.3f}", nic_of, rings=True)
        guest.transcript.append(f"[agent] status {told.status}: {told.command}")
        distribution, kernel = item.facts["identity"]
        guest.identity = (distribution, kernel)
        guest.say(f"is awake after {time.monotonic() - begin:.1f} s")
        return guest

    def _forget_old(self) -> None:
        """Remove the states that were used longest ago; never one of today, which guests may be on."""
        items = sorted(self._cache.items(WARM), key=lambda path: path.stat().st_mtime)
        for path in items[: max(0, len(items) - MOST + 1)]:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > DAY_S:
                    self._cache.remove(path)


def _may_be_saved(guest: Guest) -> bool:
    """Whether the guest has the agent, which wakes it, and keeps nothing outside disk and memory.

    One with KVM of its own boots: what its guests have in the processor is not known to be saved. QEMU does
    not save an NVMe controller; and a NIC that is plugged into a copy has both interfaces of virtio.
    """
    spec = guest.spec
    whole = DiskBus.NVME not in spec.buses and spec.virtio is not VirtioMode.LEGACY
    return whole and guest.image.agent and spec.firmware is Firmware.BIOS and not spec.nested


def _file(path: Path) -> list[Any]:
    """What tells a file from the one that had its name before."""
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _unplugged(guest: Guest) -> str | None:
    """Take the NIC out of a running guest: where it stood; empty without one, None where it stays."""
    if guest.spec.nic is None:
        return ""
    nic = etree.fromstring(guest.domain.xml()).find("devices/interface")
    address = nic.find("address") if nic is not None else None
    if nic is None or address is None:
        return None
    guest.domain.detach(etree.tostring(nic, encoding="unicode"))
    gone = wait_for(
        lambda: None if re.search("<interface", guest.domain.xml()) else True,
        Deadline.after(UNPLUG_S * guest.scale),
        POLL_S,
    )
    return etree.tostring(address, encoding="unicode").strip() if gone else None

"""Disks of a guest, the driver of their controller, and the one that holds ``/``. Source: sysfs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

# "chain" is every driver from the disk up to its PCI device, each with the bus it is of. A serial is a text
# file on virtio and NVMe, on USB one of the USB device (7.x has an empty one of the disk too), and VPD page
# 0x80 (binary, hence od) on SCSI and ATA.
_SCRIPT = r"""
chain() {
  p=$1
  while [ "$p" != /sys/devices ] && [ -n "$p" ]; do
    if cd -P "$p/driver" 2>/dev/null; then
      driver=${PWD##*/}; cd -P "$p/subsystem" 2>/dev/null && say chain "${PWD##*/} $driver"
    fi
    p=${p%/*}
  done
}
serial() {
  above=$path
  until [ -r "$above/idVendor" ] || [ "$above" = /sys/devices ] || [ -z "$above" ]; do
    above=${above%/*}
  done
  for s in "$1/serial" "$1/device/serial" "$above/serial"; do
    value=; [ -r "$s" ] && IFS= read -r value 2>/dev/null <"$s"
    [ -z "$value" ] || { say serial "$value"; return; }
  done
  if [ -r "$1/device/vpd_pg80" ]; then
    page=$(od -An -v -tx1 "$1/device/vpd_pg80" 2>/dev/null | tr -d ' \n')
    [ -n "$page" ] && { say vpd80 "$page"; return; }
  fi
  udevadm info --query=property --path="$1" 2>/dev/null | while IFS== read -r key value; do
    case $key in ID_SERIAL_SHORT) say udev_serial "$value";; esac
  done
}
for d in /sys/block/*; do
  cd -P "$d" 2>/dev/null || continue
  path=$PWD
  case $path in */devices/virtual/*|*/floppy.*) continue;; esac
  kind=; [ -r "$d/device/type" ] && read -r kind <"$d/device/type"
  [ "$kind" = 5 ] && continue
  rec disk "${d##*/}"
  say path "$path"
  first size "$d/size"; first ro "$d/ro"
  first rotational "$d/queue/rotational"
  first discard_max_bytes "$d/queue/discard_max_bytes"
  first write_cache "$d/queue/write_cache"
  chain "$path"
  serial "$d"
done
climb() (
  cd -P "$1" 2>/dev/null || exit 0
  here=$PWD
  if [ -e "$here/partition" ]; then climb "${here%/*}"; exit; fi
  leaf=yes
  for s in "$here"/slaves/*; do [ -e "$s" ] && { leaf=no; climb "$s"; }; done
  [ "$leaf" = no ] || say disk "${here##*/}"
)
number=; source=
while read -r _ _ mm _ at rest; do
  [ "$at" = / ] && { number=$mm; source=${rest#* - }; }
done </proc/self/mountinfo
rec root /
say number "$number"; say source "$source"
found=$(climb "/sys/dev/block/$number")
if [ -z "$found" ]; then   # btrfs: the number is of no device, the source is
  source=${source#* }; source=${source%% *}
  dev=$(readlink -f "$source" 2>/dev/null)
  [ -n "$dev" ] && found=$(climb "/sys/class/block/${dev##*/}")
  [ -n "$found" ] && say device "${dev##*/}"
else
  link device "/sys/dev/block/$number"
fi
[ -z "$found" ] || printf '%s\n' "$found"
"""


@dataclass(frozen=True, slots=True)
class BlockDisk:
    """A whole disk (no partition, no CD-ROM, no loop device).

    ``driver`` is the controller's as sysfs names it (virtio_blk, virtio_scsi, ata_piix, ahci,
    sym53c8xx), never ``sd``. ``bus`` is virtio, scsi, ata, usb or nvme. ``write_cache`` is the
    kernel's word, ``write back`` or ``write through``. ``discard_max_bytes`` 0: no discard.
    """

    name: str
    size_bytes: int
    serial: str | None
    driver: str | None
    bus: str
    read_only: bool
    pci_address: str | None
    rotational: bool
    discard_max_bytes: int
    write_cache: str | None


APPEAR_POLL_S = 0.2


class BlockProbe:
    """The guest's disks. One command, kept until ``refresh``."""

    def __init__(self, runner: Runner) -> None:
        self._facts = Facts(runner, "block", _SCRIPT)

    def refresh(self) -> None:
        self._facts.refresh()

    @property
    def disks(self) -> tuple[BlockDisk, ...]:
        """Every disk, by name.

        >>> for d in block.disks: print(d.name, d.bus, d.driver, d.serial, d.size_bytes)
        sda scsi sym53c8xx LSI2 8388608
        sdb ata ata_piix DATA1 16777216
        sdc ata ata_piix QM00001 4294967296
        """
        return tuple(_disk(record) for record in self._facts.of_kind("disk"))

    @property
    def root_disks(self) -> tuple[BlockDisk, ...]:
        """The disks below ``/``, through partitions, device mapper and md."""
        names = self._facts.one("root").all("disk")
        return tuple(disk for disk in self.disks if disk.name in names)

    @property
    def root_disk(self) -> BlockDisk:
        """The disk that holds ``/``.

        >>> block.root_disk.driver, block.root_disk.pci_address
        ('ata_piix', '0000:00:01.1')
        """
        disks = self.root_disks
        if len(disks) != 1:
            source = self._facts.one("root").get("source") or "nothing"
            names = ", ".join(disk.name for disk in disks) or "no disk"
            raise CommandError(f"/ ({source}) is on {names}, expected one disk")
        return disks[0]

    @property
    def root_device(self) -> str:
        """The device that ``/`` is mounted from, as in /sys/class/block.

        >>> block.root_device
        'sdc1'
        """
        return self._facts.one("root").text("device")

    def disk_by_serial(self, serial: str) -> BlockDisk:
        """The disk of that serial number; CommandError that lists the serials there are.

        >>> block.disk_by_serial("DATA1").name
        'sdb'
        """
        for disk in self.disks:
            if disk.serial == serial:
                return disk
        there = ", ".join(f"{d.name}={d.serial or 'none'}" for d in self.disks) or "no disk"
        raise CommandError(f"the guest has no disk of serial {serial!r}", hint=f"it has {there}")

    def wait_for(self, serial: str, deadline: Deadline) -> BlockDisk:
        """The disk of that serial as soon as the guest shows it: hot-added ones take a moment."""

        def shown() -> BlockDisk | None:
            self.refresh()
            return next((disk for disk in self.disks if disk.serial == serial), None)

        return wait_for(shown, deadline, APPEAR_POLL_S) or self.disk_by_serial(serial)

    def wait_until_gone(self, serial: str, deadline: Deadline) -> bool:
        """Whether the guest gave the disk of that serial back before the deadline."""

        def gone() -> bool | None:
            self.refresh()
            return None if any(disk.serial == serial for disk in self.disks) else True

        return bool(wait_for(gone, deadline, APPEAR_POLL_S))


def _disk(record: Record) -> BlockDisk:
    path = record.text("path")
    bus, driver = _controller(record, path)
    addresses = _PCI_ADDRESS.findall(path)
    return BlockDisk(
        name=record.name,
        size_bytes=record.number("size") * 512,  # sysfs counts 512-byte sectors on every disk
        serial=_serial(record),
        driver=driver,
        bus=bus,
        read_only=record.text("ro") == "1",
        pci_address=addresses[-1] if addresses else None,
        rotational=record.get("rotational") == "1",
        discard_max_bytes=int(record.get("discard_max_bytes") or "0"),
        write_cache=record.get("write_cache"),
    )


def _controller(record: Record, path: str) -> tuple[str, str | None]:
    """Bus and driver of the controller: the nearest driver that is not the disk's own (sd)."""
    chain = [tuple(link.split(" ", 1)) for link in record.all("chain")]
    above = [link for link in chain if len(link) == 2 and link[0] != "scsi"]
    subsystem, driver = above[0] if above else ("", None)
    if re.search(r"/ata[0-9]+/", path):
        return "ata", driver
    if subsystem == "usb":
        return "usb", driver
    if re.search(r"/host[0-9]+/", path):
        return "scsi", driver
    if "/nvme" in path:
        return "nvme", driver
    return subsystem or "unknown", driver


def _serial(record: Record) -> str | None:
    """Serial by a text file of sysfs, by VPD page 0x80 (4 bytes of header), or by udev, so ordered."""
    if (text := record.get("serial")) is not None:
        return text.strip() or None
    page = record.get("vpd80") or ""
    if re.fullmatch(r"[0-9a-f]{2}80([0-9a-f]{2})+", page):
        raw = bytes.fromhex(page)
        serial = raw[4 : 4 + int.from_bytes(raw[2:4], "big")].decode("ascii", "replace")
        if serial.strip("\0 "):
            return "".join(c if c.isprintable() else "?" for c in serial.strip("\0 "))
    return record.get("udev_serial")

"""How a running guest fares: its kernel's complaints, clock, root, links, functions without a driver.

Source: dmesg, sysfs, /proc/self/mountinfo, ``df``, systemctl. Reading only; ``probe.exercise`` works
the disks and the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record
from virtproof.probe.virtio import TYPES, VERSION_1, feature_bits

# fd0 is left out: a floppy drive without a disk in it answers with errors, and every PC has one.
_SCRIPT = r"""
rec clock now; say epoch "$(date +%s)"
rec root /
while read -r _ _ _ _ at options rest; do
  [ "$at" = / ] && { say options "$options"; say super "${rest##* }"; }
done </proc/self/mountinfo
df -Pk / 2>/dev/null | { read -r _; read -r _ size _ free _; say size "$size"; say free "$free"; }
rec log kernel
dmesg 2>/dev/null | grep -e 'I/O error' -e 'EXT4-fs error' -e 'BTRFS error' -e 'XFS .*orrupt' \
  -e 'Remounting filesystem' -e 'timed out, .*aborting' -e 'failed command:' -e 'Medium Error' |
  grep -v 'dev fd0' | head -n 20 | while IFS= read -r line; do say line "$line"; done
for d in /sys/class/net/*; do
  [ -e "$d/device" ] || continue
  rec nic "${d##*/}"
  first mac "$d/address"; first carrier "$d/carrier"; first changes "$d/carrier_changes"
  first mtu "$d/mtu"
done
for d in /sys/bus/pci/devices/*; do
  class=; [ -r "$d/class" ] && read -r class <"$d/class"
  case $class in 0x01*|0x02*|0x0c03*) ;; *) continue;; esac
  rec function "${d##*/}"
  say class "$class"; first vendor "$d/vendor"; first device "$d/device"
  below=$d
  for v in "$d"/virtio*; do [ -e "$v/device" ] && below=$v; done
  link driver "$below/driver"
done
for d in /sys/bus/virtio/devices/*; do
  [ -e "$d/device" ] || continue
  rec virtio "${d##*/}"
  first type "$d/device"; first features "$d/features"; link driver "$d/driver"
done
rec units failed
command -v systemctl >/dev/null && systemctl list-units --failed --no-legend --plain --no-pager |
  while read -r unit _; do say unit "$unit"; done
"""


@dataclass(frozen=True, slots=True)
class Root:
    """The file system of ``/``. Sizes in KiB; ``options`` are the mount's and the file system's."""

    read_only: bool
    options: str
    size_kib: int
    free_kib: int


@dataclass(frozen=True, slots=True)
class Link:
    """A network device's link. ``carrier`` None while the device is down; ``changes`` since it came."""

    name: str
    mac: str
    carrier: bool | None
    changes: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Function:
    """A PCI function and its driver: of a NIC (class ``02``) or a disk (storage ``01``, USB ``0c03``)."""

    address: str
    id: str
    kind: str
    driver: str | None


@dataclass(frozen=True, slots=True)
class Driven:
    """A virtio device that a driver has, and whether both agreed on VIRTIO_F_VERSION_1."""

    name: str
    type: str
    version_1: bool


class HealthProbe:
    """What a running guest says of itself, by one command; each probe is one moment."""

    def __init__(self, runner: Runner) -> None:
        self._facts = Facts(runner, "health", _SCRIPT)

    @property
    def epoch_s(self) -> int:
        """The guest's clock, in seconds since 1970."""
        return self._facts.one("clock").number("epoch")

    @property
    def root(self) -> Root:
        """The file system of ``/``.

        >>> health.root.read_only
        False
        """
        record = self._facts.one("root")
        options, own = record.all("options"), record.all("super")
        last = ",".join((*options[-1:], *own[-1:]))  # of several mounts on /, the last one shows
        return Root(
            read_only="ro" in last.split(","),
            options=last,
            size_kib=record.number("size"),
            free_kib=record.number("free"),
        )

    @property
    def kernel_errors(self) -> tuple[str, ...]:
        """Lines of the kernel's log about failing disks and file systems, at most 20."""
        return self._facts.one("log").all("line")

    @property
    def links(self) -> tuple[Link, ...]:
        """Network devices that have hardware."""
        return tuple(_link(record) for record in self._facts.of_kind("nic"))

    @property
    def functions(self) -> tuple[Function, ...]:
        """PCI functions that disks and networks hang on."""
        return tuple(_function(record) for record in self._facts.of_kind("function"))

    @property
    def virtio(self) -> tuple[Driven, ...]:
        """Virtio devices that a driver has."""
        return tuple(
            Driven(
                record.name,
                TYPES.get(record.number("type", 16), "other"),
                VERSION_1 in feature_bits(record.text("features")),
            )
            for record in self._facts.of_kind("virtio")
            if record.get("driver") is not None
        )

    @property
    def failed_units(self) -> tuple[str, ...]:
        """systemd's failed units."""
        return self._facts.one("units").all("unit")


def _link(record: Record) -> Link:
    carrier = record.get("carrier")
    return Link(
        name=record.name,
        mac=record.text("mac").lower(),
        carrier=None if carrier is None else carrier == "1",
        changes=record.number("changes"),
        mtu=record.number("mtu"),
    )


def _function(record: Record) -> Function:
    vendor, device = record.number("vendor", 16), record.number("device", 16)
    kind = "nic" if record.text("class").startswith("0x02") else "disk"
    return Function(record.name, f"{vendor:04x}:{device:04x}", kind, record.get("driver"))

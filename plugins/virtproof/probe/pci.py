"""PCI devices of a guest, their drivers, and the modules that would claim them. Source: sysfs."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record

VIRTIO_VENDOR = 0x1AF4

# modules.alias has 20,000 lines: only those that name a device, or any device of a vendor that is
# there, come back. A modalias is pci:v0000VVVVd0000DDDD..., upper case.
_SCRIPT = r"""
set --
for d in /sys/bus/pci/devices/*; do
  [ -e "$d/vendor" ] || continue
  rec pci "${d##*/}"
  first vendor "$d/vendor"; first device "$d/device"; first class "$d/class"
  first modalias "$d/modalias"
  link driver "$d/driver"
  alias=; read -r alias <"$d/modalias"
  id=${alias#pci:v}; vendor=${id%%d*}; id=${id#*d}; id=${id%%sv*}
  set -- "$@" -e "pci:v${vendor}d$id" -e "pci:v${vendor}d[*]"
done
rec aliases modules.alias
grep -h "$@" -e 'pci:v[*]' "/lib/modules/$(uname -r)/modules.alias" 2>/dev/null |
  while read -r _ pattern module; do say alias "$pattern $module"; done
"""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A PCI function. ``address`` is ``0000:00:01.1``; ``class_code`` has 24 bits.

    ``modules`` are those of the running kernel whose alias claims the device. A built-in driver
    advertises none: it shows in ``driver`` once bound.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    driver: str | None
    modules: tuple[str, ...]

    @property
    def id(self) -> str:
        """Vendor and device as ``1af4:1000``."""
        return f"{self.vendor:04x}:{self.device:04x}"


class PciProbe:
    """What is on the guest's PCI buses. One command, kept until ``refresh``."""

    def __init__(self, runner: Runner) -> None:
        self._facts = Facts(runner, "pci", _SCRIPT)

    def refresh(self) -> None:
        self._facts.refresh()

    @property
    def devices(self) -> tuple[PciDevice, ...]:
        """Every function, by address.

        >>> for d in pci.devices: print(d.address, d.id, hex(d.class_code), d.driver, *d.modules)
        0000:00:00.0 8086:1237 0x60000 None
        0000:00:01.0 8086:7000 0x60100 None
        0000:00:01.1 8086:7010 0x10180 ata_piix ata_generic ata_piix
        0000:00:01.3 8086:7113 0x68000 piix4_smbus i2c_piix4
        0000:00:02.0 1000:0012 0x10000 sym53c8xx sym53c8xx
        0000:00:03.0 10ec:8139 0x20000 8139cp 8139cp 8139too
        """
        aliases = tuple(
            (pattern, module)
            for line in self._facts.one("aliases").all("alias")
            for pattern, _, module in [line.partition(" ")]
        )
        return tuple(_device(record, aliases) for record in self._facts.of_kind("pci"))

    def by_class(self, class_code: int) -> tuple[PciDevice, ...]:
        """Devices of a base class (one byte, as 0x02) or of a class and subclass (0x0200).

        >>> [d.id for d in pci.by_class(0x02)]
        ['10ec:8139']
        """
        shift = 16 if class_code <= 0xFF else 8
        return tuple(d for d in self.devices if d.class_code >> shift == class_code)

    @property
    def virtio(self) -> tuple[PciDevice, ...]:
        """Devices of virtio's vendor.

        >>> pci.virtio
        ()
        """
        return tuple(d for d in self.devices if d.vendor == VIRTIO_VENDOR)


def _device(record: Record, aliases: tuple[tuple[str, str], ...]) -> PciDevice:
    modalias = record.get("modalias") or ""
    claims = {module for pattern, module in aliases if fnmatchcase(modalias, pattern)}
    return PciDevice(
        address=record.name,
        vendor=record.number("vendor", 16),
        device=record.number("device", 16),
        class_code=record.number("class", 16),
        driver=record.get("driver"),
        modules=tuple(sorted(claims)),
    )

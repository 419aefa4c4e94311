"""Which cells a run has, by profile and by the axes that it gives; what is left out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from virtproof.errors import UsageError
from virtproof.matrix.cells import Cell, DeviceCell, RootCell, SwitchCell, device_cells
from virtproof.matrix.pairwise import covering
from virtproof.spec import Axis, DiskBus, Firmware, Machine, NicModel, VirtioMode, readable


class Profile(Axis):
    """``small``: a few minutes an image; ``given``: the product of what the options name; ``pairwise``: every
    pair of values; ``full``: every combination.
    """

    SMALL = "small"
    GIVEN = "given"
    PAIRWISE = "pairwise"
    FULL = "full"


# Root cells of the small profile, beside the image's own disk; on UEFI those on q35 alone.
SMALL = (
    RootCell(Machine.Q35, disk=DiskBus.VIRTIO_SCSI, nic=NicModel.VIRTIO, virtio=VirtioMode.MODERN),
)


@dataclass(frozen=True, slots=True)
class Home:
    """What is known of an image before it is built: what it boots by, the bus that it was installed on."""

    boots: tuple[Firmware, ...] = (Firmware.BIOS,)
    disk: DiskBus = DiskBus.IDE

    @property
    def firmware(self) -> Firmware:
        """What it boots by where nothing else is asked for."""
        return self.boots[0]

    @property
    def machine(self) -> Machine:
        return Machine.Q35 if self.firmware is Firmware.UEFI else Machine.PC

    @property
    def cell(self) -> RootCell:
        """The guest that the image was made on."""
        virtio = self.disk.is_virtio
        disk = (
            DiskBus.SATA if (self.machine, self.disk) == (Machine.Q35, DiskBus.IDE) else self.disk
        )
        nic = NicModel.VIRTIO if virtio else NicModel.RTL8139
        return RootCell(self.machine, self.firmware, disk, nic)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options ask for: a profile, and the values of each axis that is given."""

    profile: Profile = Profile.SMALL
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def wants(self, cell: Cell) -> bool:
        """Whether a cell has no value that was not asked for. Axes that it has not do not count."""
        return all(
            cell.axes[name] in values for name, values in self.values.items() if name in cell.axes
        )

    def names(self, cell: DeviceCell | SwitchCell) -> bool:
        """Whether an axis that was given is one of the cell's."""
        return any(name in cell.axes for name in self.values)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that is not run: its id, and why."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The cells of one image, and what was left out of those that were asked for."""

    roots: tuple[RootCell, ...]
    devices: tuple[DeviceCell, ...]
    switches: tuple[SwitchCell, ...]
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.roots) + len(self.devices) + len(self.switches)


def select(asked: Asked, home: Home) -> Matrix:
    """The matrix of an image."""
    left_out: dict[str, str] = {}
    roots = list(_roots(asked, home, left_out))
    if asked.profile is Profile.PAIRWISE:
        roots = covering(roots)
    given = asked.profile is Profile.GIVEN

    def chosen(cells: Iterable[DeviceCell | SwitchCell]) -> Iterator[Any]:
        for cell in cells:
            if asked.wants(cell) and (asked.names(cell) or not given):
                why = _why_not(cell, home)
                if why:
                    left_out[cell.id] = why
                else:
                    yield cell

    devices = tuple(chosen(device_cells()))
    switches = tuple(chosen([SwitchCell(home.cell.disk)]))
    lines = tuple(LeftOut(name, why) for name, why in left_out.items())
    return Matrix(tuple(roots), devices, switches, lines)


def _why_not(cell: DeviceCell | SwitchCell, home: Home) -> str:
    if isinstance(cell, SwitchCell):
        return "the image was installed on virtio" if cell.source.is_virtio else ""
    if home.machine is Machine.Q35:
        return "devices are plugged into a running guest, which the machine q35 is not made for"
    return ""


def _roots(asked: Asked, home: Home, left_out: dict[str, str]) -> Iterator[RootCell]:
    """Guests to boot, each once; on the image's own firmware."""
    if asked.profile is Profile.SMALL:
        own = [cell for cell in SMALL if home.machine in (Machine.PC, cell.machine)]
        cells = [home.cell, *(RootCell(**{**cell.axes, "firmware": home.firmware}) for cell in own)]
        yield from dict.fromkeys(cell for cell in cells if asked.wants(cell))
        return
    seen = set()
    choices = _choices(asked, home)
    for values in product(*choices.values()):
        fields = _plain(dict(zip(choices, values, strict=True)))
        name = readable(**fields)
        if name in seen:
            continue
        seen.add(name)
        try:
            cell = RootCell(**fields)
        except UsageError as error:
            left_out[name] = str(error)
            continue
        if cell.firmware not in home.boots:
            left_out[name] = f"the image boots by {' and '.join(home.boots)} only"
        else:
            yield cell


def _choices(asked: Asked, home: Home) -> dict[str, tuple[Any, ...]]:
    """The values of each axis: those given, else all, or the image's own where only the given count."""
    if asked.profile is Profile.GIVEN:
        return {**_own(asked, home), **asked.values}
    return {
        "machine": tuple(Machine),
        "firmware": home.boots,
        "disk": tuple(DiskBus),
        "nic": tuple(NicModel),
        "virtio": tuple(VirtioMode),
        "packed": (False, True),
        "queues": (0,),
        **asked.values,
    }


def _own(asked: Asked, home: Home) -> dict[str, tuple[Any, ...]]:
    """The image's own value of each axis, as it goes with what is given."""
    own = {name: (value,) for name, value in home.cell.axes.items()}
    q35 = asked.values.get("machine") == (Machine.Q35,)
    if q35 or asked.values.get("firmware") == (Firmware.UEFI,):
        own["machine"] = (Machine.Q35,)
        own["disk"] = (DiskBus.SATA,) if own["disk"] == (DiskBus.IDE,) else own["disk"]
    if asked.values.keys() & {"virtio", "packed", "queues"}:  # they are asked for on something
        own |= {"disk": (DiskBus.VIRTIO,), "nic": (NicModel.VIRTIO,)}
    return own


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Without virtio, nothing is asked of it: such guests are the same whatever is said of it."""
    if not fields["disk"].is_virtio and fields["nic"] is not NicModel.VIRTIO:
        return {**fields, "virtio": None, "packed": False, "queues": 0}
    return fields

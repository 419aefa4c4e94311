"""The matrix: what each profile holds, what is left out and why, and that every pair is held."""

from __future__ import annotations

from itertools import combinations

import pytest

from virtproof.errors import UsageError
from virtproof.matrix.cells import DeviceCell, RootCell, SwitchCell, device_cells
from virtproof.matrix.listing import FEW, lines
from virtproof.matrix.pairwise import covering, pairs
from virtproof.matrix.selection import Asked, Home, Matrix, Profile, select
from virtproof.matrix.verdicts import Verdict, bound, lacking, not_supported
from virtproof.spec import DiskBus, Firmware, Machine, NicModel, VirtioMode

IDE = Home()
VIRTIO = Home(disk=DiskBus.VIRTIO)
UEFI = Home((Firmware.UEFI,), DiskBus.IDE)
BOTH = Home(tuple(Firmware), DiskBus.VIRTIO)


def roots(matrix: Matrix) -> list[str]:
    return [cell.id for cell in matrix.roots]


def left_out(matrix: Matrix) -> dict[str, str]:
    return {left.id: left.why for left in matrix.left_out}


def given(**values: object) -> Asked:
    return Asked(Profile.GIVEN, values)  # type: ignore[arg-type]  # tuples of each axis' values


# --- cells -----------------------------------------------------------------------------------


def test_cells_have_readable_ids_and_checks() -> None:
    assert RootCell().id == "pc/ide+rtl8139"
    assert RootCell().check == "boot/pc/ide+rtl8139"
    uefi = RootCell(Machine.Q35, Firmware.UEFI, DiskBus.VIRTIO, NicModel.VIRTIO, VirtioMode.MODERN)
    assert uefi.id == "q35-uefi/virtio+virtio/modern"
    assert DeviceCell(NicModel.E1000E).id == "nic/e1000e"
    assert DeviceCell(DiskBus.VIRTIO, VirtioMode.LEGACY).id == "disk/virtio/legacy"
    assert DeviceCell(NicModel.VIRTIO, packed=True).id == "nic/virtio/packed"
    assert SwitchCell(DiskBus.IDE).id == "root/ide-to-virtio"


def test_every_device_is_a_cell_once() -> None:
    cells = device_cells()
    assert len({cell.id for cell in cells}) == len(cells) == 26
    assert len(set(cells)) == len(cells)  # pytest takes equal parameters for the same
    assert {cell.device for cell in cells} == {*DiskBus, *NicModel}


def test_a_cell_that_cannot_be_is_none() -> None:
    with pytest.raises(UsageError, match="q35 has no IDE"):
        RootCell(Machine.Q35)


@pytest.mark.parametrize("queues", [0, 1])
def test_one_queue_is_no_queue_to_speak_of(queues: int) -> None:
    assert RootCell(queues=queues).fields.keys() & {"queues", "nic_queues", "cpus"} == set()


def test_queues_are_of_what_is_virtio_and_come_with_processors() -> None:
    spec = RootCell(nic=NicModel.VIRTIO, queues=4).spec("debian-12")
    assert (spec.queues, spec.nic_queues, spec.cpus) == (0, 4, 4)
    spec = RootCell(disk=DiskBus.VIRTIO, queues=2).spec("debian-12")
    assert (spec.queues, spec.nic_queues, spec.cpus) == (2, 1, 2)


# --- profiles --------------------------------------------------------------------------------


def test_the_small_profile_is_small_and_begins_where_the_image_was_made() -> None:
    matrix = select(Asked(), IDE)
    assert roots(matrix) == [
        "pc/ide+rtl8139",
        "q35/virtio-scsi+virtio/modern",
    ]
    assert matrix.switches == (SwitchCell(DiskBus.IDE),)
    assert len(matrix.devices) == 26
    assert matrix.left_out == ()


def test_an_image_on_virtio_has_nothing_to_switch() -> None:
    matrix = select(Asked(), VIRTIO)
    assert roots(matrix)[0] == "pc/virtio+virtio"
    assert matrix.switches == ()
    assert left_out(matrix) == {"root/virtio-to-virtio": "the image was installed on virtio"}


def test_an_image_with_uefi_is_on_q35_and_told_why_nothing_is_plugged_in() -> None:
    matrix = select(Asked(), UEFI)
    assert roots(matrix) == ["q35-uefi/sata+rtl8139", "q35-uefi/virtio-scsi+virtio/modern"]
    assert matrix.devices == ()
    assert len(left_out(matrix)) == 26
    assert matrix.switches == (SwitchCell(DiskBus.SATA),)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"disk": (DiskBus.NVME,)}, ["pc/nvme+rtl8139"]),
        ({"nic": (NicModel.E1000E, NicModel.PCNET)}, ["pc/ide+e1000e", "pc/ide+pcnet"]),
        ({"machine": (Machine.Q35,)}, ["q35/sata+rtl8139"]),
        ({"virtio": (VirtioMode.LEGACY,)}, ["pc/virtio+virtio/legacy"]),
        ({"packed": (True,)}, ["pc/virtio+virtio/packed"]),
        ({"queues": (1, 2)}, ["pc/virtio+virtio", "pc/virtio+virtio/2-queues"]),
        (
            {"virtio": (VirtioMode.MODERN,), "disk": (DiskBus.USB,)},
            ["pc/usb+virtio/modern"],
        ),
    ],
    ids=str,
)
def test_what_is_given_is_what_is_run(values: dict[str, object], wanted: list[str]) -> None:
    assert roots(select(given(**values), IDE)) == wanted


def test_devices_of_an_axis_that_is_not_given_are_not_run() -> None:
    matrix = select(given(disk=(DiskBus.NVME,)), IDE)
    assert [cell.id for cell in matrix.devices] == ["disk/nvme"]
    assert matrix.switches == ()
    small = select(Asked(Profile.SMALL, {"disk": (DiskBus.NVME,)}), IDE)
    assert roots(small) == []
    assert {cell.id for cell in small.devices if cell.is_disk} == {"disk/nvme"}
    assert [cell for cell in small.devices if not cell.is_disk]


def test_what_is_given_and_cannot_be_is_left_out_with_the_specs_own_reason() -> None:
    matrix = select(given(machine=(Machine.PC, Machine.Q35), disk=(DiskBus.IDE,)), IDE)
    assert roots(matrix) == ["pc/ide+rtl8139"]
    assert left_out(matrix) == {
        "q35/ide+rtl8139": "machine q35 has no IDE controller (use machine pc, or bus sata)"
    }
    matrix = select(given(firmware=(Firmware.UEFI,)), IDE)
    assert left_out(matrix)["q35-uefi/sata+rtl8139"] == "the image boots by bios only"


def test_an_image_of_both_kinds_is_tried_on_both_where_all_is() -> None:
    assert roots(select(given(firmware=tuple(Firmware)), BOTH)) == [
        "pc/virtio+virtio",
    ]
    assert roots(select(given(firmware=(Firmware.UEFI,)), BOTH)) == ["q35-uefi/virtio+virtio"]
    assert {cell.firmware for cell in select(Asked(Profile.PAIRWISE), BOTH).roots} == {*Firmware}
    assert {cell.firmware for cell in select(Asked(), BOTH).roots} == {Firmware.BIOS}


def test_the_full_matrix_is_every_combination_that_can_be() -> None:
    matrix = select(Asked(Profile.FULL), IDE)
    assert len(set(roots(matrix))) == len(roots(matrix))
    every = {
        (machine, disk, nic)
        for machine in Machine
        for disk in DiskBus
        for nic in NicModel
        if (machine, disk) != (Machine.Q35, DiskBus.IDE)
    }
    assert {(cell.machine, cell.disk, cell.nic) for cell in matrix.roots} == every
    modes = {(c.virtio, c.packed) for c in matrix.roots if c.nic is NicModel.VIRTIO}
    assert len(modes) == 5  # three modes, and two of them with packed rings


# --- pairs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("home", [IDE, VIRTIO, UEFI], ids=["ide", "virtio", "uefi"])
def test_pairwise_holds_every_pair_that_the_full_matrix_holds(home: Home) -> None:
    full, few = (select(Asked(profile), home).roots for profile in (Profile.FULL, Profile.PAIRWISE))
    assert frozenset().union(*map(pairs, few)) == frozenset().union(*map(pairs, full))
    # What no set has fewer of: devices without virtio, and virtio's modes beside each of them.
    plain = len({cell.disk for cell in full} - {DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI})
    least = plain * 6 + 6 * len(VirtioMode) + plain * len(VirtioMode)
    assert least <= len(few) <= least + 3
    assert len(few) <= len(full) / 2


def test_a_pair_less_is_seen() -> None:
    """Control: without any one of its cells, the chosen ones do not hold all pairs."""
    few = select(Asked(Profile.PAIRWISE), IDE).roots
    every = frozenset().union(*map(pairs, few))
    needed = [
        cell for cell in few if frozenset().union(*(pairs(c) for c in few if c != cell)) != every
    ]
    assert len(needed) > len(few) / 2


def test_the_pairs_of_a_cell_are_all_of_its_values() -> None:
    cell = RootCell()
    assert pairs(cell) == frozenset(combinations(sorted(cell.axes.items(), key=lambda i: i[0]), 2))


def test_the_same_cells_are_chosen_each_time_and_none_of_none() -> None:
    cells = select(Asked(Profile.FULL), IDE).roots
    assert covering(cells) == covering(cells)
    assert covering([]) == []


# --- the list --------------------------------------------------------------------------------


def test_the_list_names_each_cell_and_each_reason_once_too_often_never() -> None:
    matrix = select(Asked(Profile.FULL), IDE)
    said = list(lines("debian-12", Profile.FULL, matrix))
    assert said[0] == f"debian-12: {len(matrix)} cells, profile full"
    assert sum(line.startswith("  boots") for line in said) == len(matrix.roots)
    reasons = {left.why for left in matrix.left_out}
    for reason in reasons:
        told = [line for line in said if line.endswith(reason)]
        count = sum(left.why == reason for left in matrix.left_out)
        assert len(told) == FEW + 1
        assert f"and {count - FEW} more" in told[-1]


def test_the_list_of_few_tells_all() -> None:
    matrix = select(given(machine=(Machine.Q35,), disk=(DiskBus.IDE,)), IDE)
    assert list(lines("x", Profile.GIVEN, matrix)) == [
        "x: 1 cell, profile given",
        "  is given      disk/ide",
        "  left out      q35/ide+rtl8139  machine q35 has no IDE controller (use machine pc, or bus sata)",
    ]


# --- verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "seen", "verdict"),
    [
        ((), "8139cp", Verdict("works")),
        ((), None, Verdict("broken", "the kernel has 8139cp or 8139too, but it did not bind")),
        ((), "e1000", Verdict("broken", "e1000 bound in the place of 8139cp or 8139too")),
        (("8139cp",), None, Verdict("not-supported", "it has no 8139cp")),
        (("8139cp",), "e1000", Verdict("not-supported", "it has no 8139cp")),
        (
            ("8139cp",),
            "8139cp",
            Verdict("broken", "the kernel was read to have no 8139cp, yet 8139cp bound"),
        ),
    ],
    ids=str,
)
def test_what_the_kernel_has_is_held_against_what_is_seen(
    missing: tuple[str, ...], seen: str | None, verdict: Verdict
) -> None:
    assert bound(missing, NicModel.RTL8139.drivers, seen) == verdict


def test_what_is_lacking_is_named_and_a_built_in_is_not_lacking() -> None:
    has = {"xhci_pci": "builtin"}.get
    assert lacking(DiskBus.USB.modules, has) == ("usb_storage",)
    assert lacking(DiskBus.USB.modules, {}.get) == ("xhci_pci", "usb_storage")
    assert (
        not_supported(("xhci_pci", "usb_storage")).reason == "it has no xhci_pci and no usb_storage"
    )

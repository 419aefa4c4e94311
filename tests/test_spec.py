"""Specs: what cannot be is refused with a hint, ids are readable, typos find their nearest name."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import time
from typing import Any

import pytest

from virtproof.deadline import SCALE, Deadline, wait_for, within
from virtproof.errors import UsageError, VirtproofError
from virtproof.spec import (
    Accel,
    Axis,
    CacheMode,
    DataDisk,
    DiskBus,
    Firmware,
    GuestSpec,
    IoMode,
    Machine,
    NicModel,
    VirtioMode,
)


def ide(count: int) -> tuple[DataDisk, ...]:
    return tuple(DataDisk(DiskBus.IDE, f"data{number}") for number in range(count))


Q35 = {"machine": Machine.Q35, "disk": DiskBus.SATA}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"machine": Machine.Q35, "disk": DiskBus.IDE},
        "machine q35 has no IDE controller (use machine pc, or bus sata)",
    ),
    (
        {**Q35, "data_disks": ide(1)},
        "machine q35 has no IDE controller (use machine pc, or bus sata)",
    ),
    ({"firmware": Firmware.UEFI}, "uefi is not offered on machine pc (use machine q35)"),
    (
        {"machine": Machine.Q35, "firmware": Firmware.UEFI, "disk": DiskBus.SCSI},
        "uefi has no driver for the LSI 53C895A of bus scsi (use bus sata or virtio)",
    ),
    (
        {"disk": DiskBus.IDE, "data_disks": ide(3)},
        "more than 3 IDE disks (the fourth place is kept for a CD-ROM)",
    ),
    (
        {"disk": DiskBus.VIRTIO, "data_disks": ide(4)},
        "more than 3 IDE disks (the fourth place is kept for a CD-ROM)",
    ),
    ({"cpus": 0}, "0 CPUs and 768 MiB cannot run a guest (at least 1 CPU and 128 MiB)"),
    ({"memory_mib": 127}, "1 CPUs and 127 MiB cannot run a guest (at least 1 CPU and 128 MiB)"),
    (
        {"data_disks": (DataDisk(DiskBus.VIRTIO, "twin"), DataDisk(DiskBus.SATA, "twin"))},
        "two data disks share a serial: twin, twin",
    ),
    (
        {"nic": NicModel.E1000, "nic_queues": 2},
        "a NIC of model e1000 cannot have 2 queues (more than one is for virtio)",
    ),
    (
        {"disk": DiskBus.SATA, "queues": 2},
        "a root disk on sata cannot have 2 queues (they are for virtio and virtio-scsi)",
    ),
    (
        {"virtio": VirtioMode.MODERN},
        "a virtio mode on a guest without a virtio device (put disk or NIC on virtio)",
    ),
    (
        {"packed": True},
        "a packed ring on a guest without a virtio device (put disk or NIC on virtio)",
    ),
    (
        {"nic": NicModel.VIRTIO, "packed": True, "virtio": VirtioMode.LEGACY},
        "legacy virtio has no packed rings (virtio transitional or modern)",
    ),
    (
        {"nic": None, "nic_queues": 2},
        "a NIC of model None cannot have 2 queues (more than one is for virtio)",
    ),
    (
        {"nic": None, "nic_bytes_per_s": 5000},
        "nic_bytes_per_s is 5000 on a NIC of model None (a NIC, and 1000 at least)",
    ),
    (
        {"nic_bytes_per_s": 999},
        "nic_bytes_per_s is 999 on a NIC of model rtl8139 (a NIC, and 1000 at least)",
    ),
]
ALLOWED: list[dict[str, Any]] = [
    {},
    Q35,
    {**Q35, "firmware": Firmware.UEFI},
    {**Q35, "firmware": Firmware.UEFI, "disk": DiskBus.SCSI, "kernel": "vmlinuz"},
    {"disk": DiskBus.IDE, "data_disks": ide(2)},
    {"disk": DiskBus.VIRTIO, "data_disks": ide(3)},
    {"cpus": 1, "memory_mib": 128},
    {"nic": None},
    {"data_disks": (DataDisk(DiskBus.VIRTIO, "one"), DataDisk(DiskBus.SATA, "two"))},
    {"nic": NicModel.VIRTIO, "nic_queues": 4},
    {"nic": NicModel.E1000, "nic_bytes_per_s": 1000},
    {"nic": NicModel.VIRTIO, "packed": True, "virtio": VirtioMode.TRANSITIONAL},
    {"data_disks": (DataDisk(DiskBus.VIRTIO_SCSI, "one"),), "virtio": VirtioMode.LEGACY},
    {"disk": DiskBus.VIRTIO_SCSI, "queues": 2},
    {"disk": DiskBus.NVME, "nic": NicModel.VMXNET3},
]


@pytest.mark.parametrize(("fields", "line"), REFUSED)
def test_what_cannot_be_is_refused_with_a_hint(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as refusal:
        GuestSpec("debian-12", **fields)
    assert str(refusal.value) == line


@pytest.mark.parametrize("fields", ALLOWED, ids=str)
def test_what_lies_just_beside_is_not(fields: dict[str, Any]) -> None:
    assert GuestSpec("debian-12", **fields).image == "debian-12"


@pytest.mark.parametrize("serial", ["", "a" * 21, "a b", "a/b", "../x", "a\n", "<a>", "größe"])
def test_a_serial_that_a_guest_would_show_otherwise_is_refused(serial: str) -> None:
    with pytest.raises(UsageError, match="is not 1 to 20 letters and digits"):
        DataDisk(DiskBus.VIRTIO, serial)


@pytest.mark.parametrize("fields", [{"iothread": True}, {"queues": 2}], ids=str)
@pytest.mark.parametrize("bus", DiskBus)
def test_queues_and_threads_are_for_virtio(bus: DiskBus, fields: dict[str, Any]) -> None:
    if bus.is_virtio:
        assert DataDisk(bus, "d", **fields).bus is bus
        return
    with pytest.raises(UsageError, match=f"disk d: {bus} has no queues and no I/O thread"):
        DataDisk(bus, "d", **fields)


@pytest.mark.parametrize("cache", CacheMode)
def test_native_io_is_for_what_passes_the_page_cache(cache: CacheMode) -> None:
    if cache in (CacheMode.NONE, CacheMode.DIRECTSYNC):
        assert DataDisk(DiskBus.IDE, "d", cache=cache, io=IoMode.NATIVE).cache is cache
        return
    with pytest.raises(UsageError, match=f"io native does not go with cache {cache}"):
        DataDisk(DiskBus.IDE, "d", cache=cache, io=IoMode.NATIVE)


def test_the_longest_serial_and_the_smallest_disk_are_allowed() -> None:
    assert DataDisk(DiskBus.VIRTIO, "a" * 20, size_mib=1).size_mib == 1


def test_a_disk_without_a_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"disk d: size_mib is 0 \(at least 1\)"):
        DataDisk(DiskBus.VIRTIO, "d", size_mib=0)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (GuestSpec("debian-12"), "debian-12/pc/ide+rtl8139/tcg"),
        (
            GuestSpec("debian-12", disk=DiskBus.VIRTIO_SCSI, nic=None, accel=Accel.KVM),
            "debian-12/pc/virtio-scsi+no-nic/kvm",
        ),
        (
            GuestSpec(
                "u", machine=Machine.Q35, firmware=Firmware.UEFI, disk=DiskBus.SATA, nic=NicModel.E1000
            ),
            "u/q35-uefi/sata+e1000/tcg",
        ),
    ],
)  # fmt: skip
def test_ids_are_readable(spec: GuestSpec, name: str) -> None:
    assert spec.id == name


def test_but_changes_only_what_it_names_and_checks_again() -> None:
    spec = GuestSpec("debian-12", cpus=2)
    changed = spec.but(disk=DiskBus.VIRTIO)
    assert changed == GuestSpec("debian-12", cpus=2, disk=DiskBus.VIRTIO)
    assert spec.disk is DiskBus.IDE
    with pytest.raises(UsageError, match="q35 has no IDE"):
        spec.but(machine=Machine.Q35)


def test_a_spec_is_frozen_and_can_be_a_key() -> None:
    spec = GuestSpec("debian-12")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.cpus = 2  # type: ignore[misc]  # that it cannot be is what is tested
    assert {spec: 1}[GuestSpec("debian-12")] == 1


@pytest.mark.parametrize(
    ("axis", "typo", "line"),
    [
        (DiskBus, "virtoi", "no DiskBus is called 'virtoi' (did you mean virtio?)"),
        (
            DiskBus,
            "virtio-scs",
            "no DiskBus is called 'virtio-scs' (did you mean virtio-scsi or virtio?)",
        ),
        (
            NicModel,
            "e100",
            "no NicModel is called 'e100' (did you mean e1000 or e1000e?)",
        ),
        (VirtioMode, "modren", "no VirtioMode is called 'modren' (did you mean modern?)"),
        (Accel, "zzz", "no Accel is called 'zzz' (one of: kvm, tcg)"),
        (Machine, "Q35", "no Machine is called 'Q35' (did you mean q35?)"),
        (Firmware, "", "no Firmware is called '' (one of: bios, uefi)"),
    ],
)
def test_a_typo_finds_the_nearest_names(axis: type[Axis], typo: str, line: str) -> None:
    with pytest.raises(UsageError) as refusal:
        axis.parse(typo)
    assert str(refusal.value) == line


@pytest.mark.parametrize("axis", [Machine, Firmware, Accel, DiskBus, NicModel, VirtioMode])
def test_every_value_parses_to_itself(axis: type[Axis]) -> None:
    assert [axis.parse(member.value) for member in axis] == list(axis)


def test_each_bus_has_libvirts_names_and_linux_drivers() -> None:
    table = {
        bus.value: (bus.libvirt_bus, bus.controller_model, bus.target_prefix, bus.drivers)
        for bus in DiskBus
    }
    assert table == {
        "ide": ("ide", None, "hd", ("ata_piix",)),
        "sata": ("sata", None, "sd", ("ahci",)),
        "scsi": ("scsi", "lsilogic", "sd", ("sym53c8xx",)),
        "usb": ("usb", None, "sd", ("usb-storage",)),
        "nvme": ("nvme", None, "sd", ("nvme",)),
        "virtio": ("virtio", None, "vd", ("virtio_blk",)),
        "virtio-scsi": ("scsi", "virtio-scsi", "sd", ("virtio_scsi",)),
    }
    assert {bus for bus in DiskBus if bus.is_virtio} == {DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI}
    assert {nic.value: nic.drivers for nic in NicModel} == {
        "rtl8139": ("8139cp", "8139too"),
        "e1000": ("e1000",),
        "e1000e": ("e1000e",),
        "ne2k_pci": ("ne2k-pci",),
        "pcnet": ("pcnet32",),
        "vmxnet3": ("vmxnet3",),
        "virtio": ("virtio_net",),
    }


def test_each_bus_and_card_names_the_modules_that_it_needs() -> None:
    """Names as modules have them: the cells of the matrix ask the kernel for these."""
    assert DiskBus.USB.modules == ("xhci_pci", "usb_storage")
    assert DiskBus.VIRTIO_SCSI.modules == ("virtio_pci", "virtio_scsi")
    assert DiskBus.NVME.modules == ("nvme",)
    assert NicModel.RTL8139.modules == ("8139cp",)
    assert NicModel.NE2K_PCI.modules == ("ne2k_pci",)
    assert NicModel.VIRTIO.modules == ("virtio_pci", "virtio_net")


def test_what_is_asked_of_virtio_goes_with_the_last_virtio_device() -> None:
    spec = GuestSpec(
        "debian-12", disk=DiskBus.VIRTIO, nic=NicModel.VIRTIO, virtio=VirtioMode.MODERN,
        packed=True, queues=2, nic_queues=2,
    )  # fmt: skip
    assert spec.axes_id == "pc/virtio+virtio/modern+packed+2-queues"
    half = spec.switched(disk=DiskBus.IDE)
    assert (half.virtio, half.packed, half.queues, half.nic_queues) == (
        VirtioMode.MODERN, True, 0, 2,
    )  # fmt: skip
    assert half.switched(nic=NicModel.E1000).axes_id == "pc/ide+e1000"
    assert spec.switched(nic=None, disk=DiskBus.VIRTIO_SCSI).queues == 2
    slow = spec.but(nic_bytes_per_s=10**6)
    assert slow.switched(nic=NicModel.E1000).nic_bytes_per_s == 10**6
    assert slow.switched(nic=None).nic_bytes_per_s == 0


# --- errors and deadlines -------------------------------------------------------------------


def test_an_error_is_one_line_with_its_hint_and_keeps_its_detail_apart() -> None:
    error = VirtproofError("it broke", hint="mend it", detail="line 1\nline 2")
    assert str(error) == "it broke (mend it)"
    assert error.detail == "line 1\nline 2"
    assert str(VirtproofError("it broke")) == "it broke"


def test_emulation_has_more_time_and_every_accelerator_some() -> None:
    assert set(SCALE) == set(Accel)
    assert SCALE[Accel.TCG] > SCALE[Accel.KVM] == 1.0


def test_a_deadline_passes_and_never_has_less_than_nothing_left() -> None:
    ahead, behind = Deadline.after(60), Deadline.after(-1)
    assert not ahead.passed
    assert 59 < ahead.left_s <= 60
    assert behind.passed
    assert behind.left_s == 0.0


def test_waiting_ends_with_the_first_answer_even_a_false_one() -> None:
    answers = iter([None, None, 0, 1])
    assert wait_for(lambda: next(answers), Deadline.after(10), 0.001) == 0


def test_waiting_ends_at_the_deadline_and_not_an_interval_later() -> None:
    begin = time.monotonic()
    assert wait_for(lambda: None, Deadline.after(0.05), 30.0) is None
    assert 0.05 <= time.monotonic() - begin < 5


def test_a_deadline_that_has_passed_still_asks_once() -> None:
    assert wait_for(lambda: "there", Deadline.after(-1), 1.0) == "there"


def test_waiting_asks_once_more_after_its_last_pause() -> None:
    asked: list[float] = []
    deadline = Deadline.after(0.05)

    def poll() -> str | None:
        asked.append(time.monotonic())
        return "late" if deadline.passed else None

    assert wait_for(poll, deadline, 30.0) == "late"
    assert len(asked) == 2


def test_within_gives_what_the_function_gives() -> None:
    assert within(10, lambda: "there") == "there"
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 // 0)


def test_within_ends_what_the_function_had_started() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def hang() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        started[0].wait()

    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        within(0.6, hang)
    assert started[0].wait(10) == -signal.SIGTERM

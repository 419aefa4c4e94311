"""A made-up run with everything in it that a report has to bear, hostile text included.

``python tests/data/report/sample.py DIRECTORY [good|bad|hostile|compare]`` writes results, evidence and the
report. ``good`` conforms; ``bad`` has failures, an error and two systems; the tests use both.
"""

from __future__ import annotations

import difflib
import json
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # however this file was loaded

import sample_figures as figures

from virtproof.measure.results import GuestRecord, RunRecord, TestRecord
from virtproof.measure.store import ResultsWriter, write_run
from virtproof.report.html import render

KERNEL = "6.1.0-28-amd64"
DEBIAN = GuestRecord(
    "debian-12",
    "Debian GNU/Linux 12 (bookworm)",
    KERNEL,
    "pc",
    "bios",
    "ide",
    "rtl8139",
    "tcg",
    1,
    768,
)
ON_VIRTIO = replace(DEBIAN, image="debian-12-virtio", disk="virtio", nic="virtio")
ALPINE = replace(
    DEBIAN, image="alpine-3.20", distribution="Alpine Linux v3.20", kernel="6.6.63-0-virt"
)
Q35 = replace(DEBIAN, machine="q35", disk="sata")
HOSTILE = (
    "<script>alert(1)</script>\x1b[31mred\x1b]0;title\x07\u202eevil\x00\"'><img src=x onerror=y>"
)

_TESTS: tuple[tuple[str, str, GuestRecord | None, float], ...] = (
    ("host/test_host.py::test_accelerator_boots_a_tiny_guest[tcg]", "HOST-1", None, 2.31),
    ("host/test_host.py::test_an_accelerator_that_hangs_is_not_used", "HOST-1", None, 1.02),
    ("host/test_host.py::test_libvirt_is_recent_enough", "HOST-2", None, 0.04),
    ("host/test_host.py::test_run_names_accelerator_and_versions", "NET-6", DEBIAN, 0.4),
    ("drivers/test_drivers.py::test_kernel_has_virtio_drivers", "GUEST-1", DEBIAN, 2.95),
    ("drivers/test_drivers.py::test_kernel_without_module_is_named", "GUEST-1", DEBIAN, 2.7),
    ("network/test_model.py::test_model_survives_the_round_trip", "NET-1", DEBIAN, 3.1),
    ("network/test_switch.py::test_network_works_after_rtl8139", "NET-2", DEBIAN, 43.7),
    ("network/test_switch.py::test_blacklisted_driver_is_diagnosed", "NET-2", DEBIAN, 51.2),
    ("network/test_driver.py::test_nic_is_bound_to_virtio_net", "NET-3", DEBIAN, 3.3),
    ("network/test_driver.py::test_rtl8139_is_not_bound_to_virtio_net", "NET-3", DEBIAN, 3.0),
    ("network/test_counters.py::test_counters_move_with_traffic", "NET-4", DEBIAN, 6.8),
    ("network/test_counters.py::test_counters_rest_without_traffic", "NET-4", DEBIAN, 5.1),
    ("network/test_log.py::test_refused_guest_quotes_the_qemu_log", "NET-5", DEBIAN, 1.9),
    ("network/test_mtu.py::test_payload_passes[576-to-guest]", "", DEBIAN, 4.4),
    ("network/test_mtu.py::test_payload_passes[9000-to-guest]", "", DEBIAN, 4.6),
    ("network/test_link.py::test_link_goes_down_and_up", "", DEBIAN, 7.2),
    ("network/test_link.py::test_hot_added_nic_gets_an_address", "", DEBIAN, 9.4),
    ("disk/test_driver.py::test_virtio_disk_is_vda", "DISK-1", DEBIAN, 3.2),
    ("disk/test_driver.py::test_ide_disk_is_on_ata_piix", "DISK-1", DEBIAN, 3.1),
    ("disk/test_address.py::test_left_over_drive_address_is_refused", "DISK-2", DEBIAN, 1.4),
    ("disk/test_address.py::test_pci_address_is_made_anew", "DISK-2", DEBIAN, 44.8),
    ("disk/test_io.py::test_flushed_data_survives_a_power_cut[ide]", "", DEBIAN, 48.2),
    ("disk/test_io.py::test_flushed_data_survives_a_power_cut[virtio]", "", DEBIAN, 46.0),
    ("disk/test_io.py::test_discard_reaches_the_host[virtio-scsi]", "", DEBIAN, 5.9),
    ("disk/test_io.py::test_readonly_disk_refuses_writes[virtio]", "", DEBIAN, 3.6),
    ("disk/test_resize.py::test_online_resize_is_seen[virtio]", "", DEBIAN, 4.8),
    ("transition/test_root.py::test_unprepared_root_is_diagnosed[ide]", "DISK-3", DEBIAN, 38.8),
    (
        "transition/test_root.py::test_prepared_root_moves[ide-virtio]",
        "DISK-3 DISK-5",
        DEBIAN,
        88.4,
    ),
    ("transition/test_root.py::test_prepared_root_moves[sata-virtio]", "DISK-3 DISK-5", Q35, 91.7),
    ("transition/test_root.py::test_prepared_root_moves[scsi-virtio]", "DISK-3 DISK-5", DEBIAN, 97),
    ("transition/test_root.py::test_prepared_root_moves[ide-virtio-scsi]", "DISK-3", DEBIAN, 90.1),
    ("transition/test_root.py::test_root_moves_back_to_ide", "", DEBIAN, 86.5),
    ("transition/test_tools.py::test_initramfs_tools_puts_drivers_in", "DISK-4", DEBIAN, 31.5),
    ("transition/test_tools.py::test_dracut_puts_drivers_in", "DISK-4", DEBIAN, 64.9),
    ("transition/test_on_virtio.py::test_needs_no_step", "DISK-6", ON_VIRTIO, 39.2),
    ("transition/test_on_virtio.py::test_kernel_update_needs_no_step", "DISK-7", ON_VIRTIO, 112.3),
    ("throughput/test_throughput.py::test_virtio_nic_outruns_emulated_ones", "PERF-1", DEBIAN, 38),
    ("throughput/test_throughput.py::test_virtio_disk_outruns_ide", "PERF-2", DEBIAN, 41.6),
)

_WINDOWS = "needs a Windows image: give one by --windows-image"
_SKIPPED = (
    ("windows/test_switch.py::test_drivers_come_first", "WIN-1", _WINDOWS),
    ("windows/test_switch.py::test_network_and_disk_move", "WIN-2", _WINDOWS),
    (
        "disk/test_io.py::test_flushed_data_survives_a_power_cut[nvme]",
        "",
        "this QEMU (7.2.15) has no NVMe by libvirt",
    ),
)

_XML = """<domain type='qemu' id='7'>
  <name>virtproof-3f9a1c-ide</name>
  <memory unit='MiB'>768</memory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='overlay.qcow2'/>
      {target}
      {address}
    </disk>
    <interface type='network'>
      <mac address='52:54:00:6b:3c:58'/>
      <model type='rtl8139'/>
    </interface>
    <serial type='pty'/>
  </devices>
</domain>
"""


def results(kind: str) -> list[TestRecord]:
    """The tests of a run that is ``good``, ``bad`` or ``hostile``, or that did ``compare`` two kernels."""
    if kind == "compare":
        return [figures.kernels(DEBIAN)]
    records = [
        TestRecord(f"suites/{test}", "passed", None, claims.split(), guest, None, [], seconds, None)
        for test, claims, guest, seconds in _TESTS
    ]
    records += [
        TestRecord(f"suites/{test}", "skipped", reason, claims.split(), None, None, [], 0.0, None)
        for test, claims, reason in _SKIPPED
    ]
    records = [_diagnosed(_with_evidence(record)) for record in records]
    records = [figures.with_figures(record, kind) for record in records]
    if kind in ("bad", "hostile"):
        records = _spoil(records)
    if kind == "hostile":
        records = [_hostile(record) for record in records]
    return records


def run(kind: str, records: list[TestRecord]) -> RunRecord:
    """The run's record; its counts are those of ``records``."""
    outcomes = [record.outcome for record in records]
    bad = {"failed", "error"} & set(outcomes)
    why = "/dev/kvm opens, but the probe's guest did not answer within 20 s"
    return RunRecord(
        versions={
            "virtproof": "0.1.0",
            "python": "3.11.2",
            "pytest": "8.3.4",
            "libvirt": "9.0.0",
            "qemu": "7.2.15",
        },
        accelerator={"name": "tcg", "why": HOSTILE if kind == "hostile" else why},
        host={
            "kernel": "6.1.0-28-amd64",
            "distribution": "Debian GNU/Linux 12 (bookworm)",
            "cpus": 2,
            "memory_mib": 7944,
            "cpu_model": "AMD EPYC 7763 64-Core Processor",
        },
        command_line=["pytest", "suites", "--image", "debian-12", "-k", "not windows or True"],
        start="2025-01-15T09:12:04Z",
        end="2025-01-15T09:19:37Z",
        counts={name: outcomes.count(name) for name in ("passed", "failed", "skipped", "error")},
        exit_status=1 if bad else 0,
        timings={"guests": 402.6, "images": 0.0, "tests": 431.9, "harness": 14.2},
    )


def write(out: Path, kind: str = "bad") -> Path:
    """Write a whole ``out``: results, run, evidence, report. Returns the report's path."""
    records = results(kind)
    with ResultsWriter(out / "results.jsonl") as writer:
        for record in records:
            writer.write(record)
            if record.evidence:
                _evidence(out / record.evidence, record, hostile=kind == "hostile")
    this_run = run(kind, records)
    write_run(out / "run.json", this_run)
    report = out / "report.html"
    report.write_text(render(this_run, records, out), encoding="utf-8")
    return report


def _with_evidence(record: TestRecord) -> TestRecord:
    if "transition" not in record.test and "switch" not in record.test:
        return record
    name = record.test.rpartition("/")[2].replace("::", "-").replace("[", "-").replace("]", "")
    return replace(record, evidence=f"evidence/{name}")


def _diagnosed(record: TestRecord) -> TestRecord:
    """A control passes because it saw the failure that it provoked."""
    lines = {
        "test_unprepared_root_is_diagnosed[ide]": (
            "initramfs-lacks-virtio_blk",
            "ALERT!  UUID=c7889421-93d6-4263-81ab-fe476635bb6b does not exist.",
            "console.log:297",
        ),
        "test_blacklisted_driver_is_diagnosed": (
            "nic-driver-missing",
            "0000:00:03.0 1af4:1000 -",
            "the guest's PCI devices",
        ),
    }
    found = lines.get(record.test.rpartition("::")[2])
    if found is None:
        return record
    return replace(record, diagnosis=dict(zip(("name", "line", "source"), found, strict=True)))


def _spoil(records: list[TestRecord]) -> list[TestRecord]:
    by_name = {record.test.rpartition("::")[2]: record for record in records}
    moved = by_name["test_prepared_root_moves[scsi-virtio]"]
    by_name[moved.test.rpartition("::")[2]] = replace(
        moved,
        outcome="failed",
        duration_s=61.9,
        reason="GuestError: debian-12/pc/virtio+rtl8139/tcg did not boot: "
        "initramfs-lacks-virtio_blk\n\n"
        "    guest = guest_on(disk=source).prepare_for_virtio().switch(disk=DiskBus.VIRTIO)\n"
        ">   assert guest.block.root_disk.driver == 'virtio_blk'\n"
        "E   virtproof.errors.GuestError: debian-12/pc/virtio+rtl8139/tcg did not boot",
        diagnosis={
            "name": "initramfs-lacks-virtio_blk",
            "line": "ALERT!  UUID=c7889421-93d6-4263-81ab-fe476635bb6b does not exist.  "
            "Dropping to a shell!",
            "source": "console.log:3187",
        },
    )
    update = by_name["test_kernel_update_needs_no_step"]
    by_name["test_kernel_update_needs_no_step"] = replace(
        update,
        outcome="error",
        reason="GuestError: the guest had no answer on its agent channel within 240 s",
        diagnosis={
            "name": "kernel-panic",
            "line": "Kernel panic - not syncing: VFS: Unable to mount root fs on "
            "unknown-block(0,0)",
            "source": "console.log:402",
        },
        guest=replace(ON_VIRTIO, kernel=None),
        duration_s=240.0,
    )
    writing = by_name["test_virtio_disk_outruns_ide"]
    by_name["test_virtio_disk_outruns_ide"] = replace(
        writing,
        outcome="failed",
        reason="AssertionError: assert ['writing: virtio / ide 0.98 x (0.9 to 1.1): not shown'] == []",
    )
    spoilt = list(by_name.values())
    spoilt += [
        replace(record, test=f"{record.test}[alpine-3.20]", guest=ALPINE)
        for record in by_name.values()
        if record.guest and record.outcome == "passed" and "network" in record.test
    ]
    spoilt.append(
        TestRecord(
            "suites/network/test_mtu.py::test_payload_passes[9000-from-guest]",
            "failed",
            "AssertionError: 9000 bytes sent, 8972 came back",
            [],
            ALPINE,
            None,
            [],
            12.4,
            None,
        )
    )
    return spoilt


def _hostile(record: TestRecord) -> TestRecord:
    guest = record.guest and replace(record.guest, distribution=HOSTILE, kernel=HOSTILE)
    record = figures.hostile(record, HOSTILE)
    diagnosis = record.diagnosis and {**record.diagnosis, "line": HOSTILE, "source": HOSTILE}
    return replace(
        record,
        guest=guest,
        diagnosis=diagnosis,
        reason=HOSTILE if record.reason else None,
        test=record.test + HOSTILE,
    )


def _evidence(where: Path, record: TestRecord, *, hostile: bool) -> None:
    where.mkdir(parents=True, exist_ok=True)
    before, after = _domains(record.test)
    if hostile:
        after = after.replace("virtproof-3f9a1c", HOSTILE)
    diff = difflib.unified_diff(
        before.splitlines(True), after.splitlines(True), "domain-before.xml", "domain-after.xml"
    )
    (where / "domain-before.xml").write_text(before)
    (where / "domain-after.xml").write_text(after)
    (where / "domain.diff").write_text("".join(diff))
    (where / "transcript.txt").write_text("$ update-initramfs -u -k all\nupdate-initramfs: done\n")
    lines = 4200 if record.outcome == "failed" else 300
    (where / "console.log").write_bytes(_console(lines, hostile or record.outcome == "failed"))
    if record.outcome in ("failed", "error"):
        (where / "qemu.log").write_text("2025-01-15 09:15:31.004+0000: starting up libvirt\n" * 9)
        (where / "leases.txt").write_text("52:54:00:6b:3c:58 192.168.150.23\n")
        (where / "verdict.json").write_text(json.dumps(record.diagnosis))
        (where / "screenshot.png").write_bytes(_png())


def _domains(test: str) -> tuple[str, str]:
    """Domain XML before and after the switch that a test makes."""
    drive = "<address type='drive' controller='0' bus='0' target='0' unit='0'/>"
    pci = "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>"
    bus = next((name for name in ("sata", "scsi") if f"[{name}-" in test), "ide")
    old = f"<target dev='{'hda' if bus == 'ide' else 'sda'}' bus='{bus}'/>"
    before = _XML.format(target=old, address=drive)
    if "/network/" in test:
        return before, before.replace("rtl8139", "virtio")
    after = _XML.format(target="<target dev='vda' bus='virtio'/>", address=pci)
    return (after, before) if "back" in test else (before, after)


def _console(lines: int, hostile: bool) -> bytes:
    text = ["\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)"]
    text += ["Booting from Hard Disk...", "GRUB loading.", "\x1b[0;30;47mWelcome to GRUB!"]
    text += [
        f"[{number / 97:12.6f}] pci 0000:00:{number % 32:02x}.0: reg 0x10: [io 0xc000-0xc07f]"
        for number in range(lines)
    ]
    if hostile:
        text.append(HOSTILE)
    text += [
        "Begin: Mounting root file system ... Begin: Running /scripts/local-top ... done.",
        "Begin: Waiting for root file system ... \x1b[1;31mdone.\x1b[0m",
        "Gave up waiting for root file system device.  Common problems:",
        " - Boot args (cat /proc/cmdline)",
        " - Missing modules (cat /proc/modules; ls /dev)",
        "ALERT!  UUID=c7889421-93d6-4263-81ab-fe476635bb6b does not exist.  Dropping to a shell!",
        "(initramfs) ",
    ]
    return "\r\n".join(text).encode() + b"\xff\xfe"


def _png() -> bytes:
    """A grey picture of 320 by 200."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 200, 8, 0, 0, 0, 0))
    rows = b"".join(b"\0" + bytes((x + y) % 64 for x in range(320)) for y in range(200))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]), *sys.argv[2:3])}\n")

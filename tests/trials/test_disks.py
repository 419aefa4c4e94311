"""Defects of disks: that fail, lie, forget, or are slow; of virtio; of the guest's root."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree
from seeding import SERIAL, attach, edited, network_disk

from virtproof.diagnose.evidence import Diagnosis
from virtproof.guest.checkup import after_power_cut
from virtproof.guest.domain_xml import data_disk
from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DataDisk, DiskBus, NicModel

pytestmark = [pytest.mark.real, pytest.mark.boots(1)]
Complains = Callable[..., Diagnosis]
Nbdkit = Callable[..., subprocess.Popen[bytes]]
SIZE = "32M"
# A server in sh, of one file. $1 is the method; MODE says how it lies.
LIAR = """
case $1 in
  get_size) echo {size} ;;
  can_write|can_flush) exit 0 ;;
  flush) exit 0 ;;
  pread)
    count=$3
    [ {mode} != short ] || count=$(($3 / 2))
    dd if={file} iflag=skip_bytes,count_bytes skip=$4 count=$count bs=64k 2>/dev/null
    head -c $(($3 - count)) /dev/zero ;;
  pwrite)
    if [ {mode} = stale ] && [ $(($4 / 4194304 % 2)) = 1 ]; then cat >/dev/null
    else dd of={file} oflag=seek_bytes seek=$4 bs=64k conv=notrunc 2>/dev/null; fi ;;
  *) exit 2 ;;
esac
"""


def backing(path: Path) -> str:
    """An empty file of the disk's size."""
    file = path / "disk.raw"
    with open(file, "wb") as disk:
        disk.truncate(32 << 20)
    return str(file)


@pytest.mark.sample
@pytest.mark.parametrize("what", ["pread", "pwrite"])
@pytest.mark.trial("disk", "EIO of every {what} of its server")
def test_io_errors(
    virtio_nic: Guest, nbdkit: Nbdkit, short_path: Path, complains: Complains, what: str
) -> None:
    trigger = short_path / "fail"
    nbdkit(
        "--filter=error", "file", backing(short_path),
        f"error-{what}=EIO", f"error-{what}-rate=100%", f"error-{what}-file={trigger}",
    )  # fmt: skip
    attach(virtio_nic, network_disk(short_path / "nbd"))
    trigger.touch()
    complains("disk-io-error", virtio_nic)


@pytest.mark.trial("disk", "its server goes away")
def test_server_goes_away(
    virtio_nic: Guest, nbdkit: Nbdkit, short_path: Path, complains: Complains
) -> None:
    server = nbdkit("file", backing(short_path))
    attach(virtio_nic, network_disk(short_path / "nbd"))
    server.kill()
    server.wait()
    complains("disk-io-error", virtio_nic)


@pytest.mark.parametrize(
    ("mode", "how"),
    [("stale", "some writes are forgotten"), ("short", "reads end half-way, and in zeros")],
)
@pytest.mark.trial("disk", "{how}")
def test_wrong_data(
    virtio_nic: Guest, nbdkit: Nbdkit, short_path: Path, complains: Complains, mode: str, how: str
) -> None:
    del how
    script = short_path / "liar"
    script.write_text(LIAR.format(size=32 << 20, mode=mode, file=backing(short_path)))
    script.chmod(0o700)
    nbdkit("sh", str(script))
    attach(virtio_nic, network_disk(short_path / "nbd"))
    complains("disk-data-wrong", virtio_nic)


@pytest.mark.boots(3)
@pytest.mark.trial("disk", "says that it has flushed, and has not")
def test_flush_is_a_lie(
    virtio_nic: Guest, nbdkit: Nbdkit, short_path: Path, caught: Complains
) -> None:
    serve = ("--filter=cache", "file", backing(short_path), "cache=unsafe")
    server = nbdkit(*serve)

    def add(tree: etree._Element) -> None:
        tree.find("devices").append(network_disk(short_path / "nbd", "vda"))  # type: ignore[union-attr]

    edited(virtio_nic, add)
    virtio_nic.boot()

    def power_is_off() -> None:
        server.kill()  # and what it had not written goes with it
        server.wait()
        nbdkit(*serve)

    found = after_power_cut(virtio_nic, SERIAL, power_is_off)
    caught("flush-lost", found.diagnosis, "power cut")


@pytest.mark.trial("disk", "its server gives 4 MiB/s")
def test_slow_server(
    virtio_nic: Guest, nbdkit: Nbdkit, short_path: Path, complains: Complains
) -> None:
    nbdkit("--filter=rate", "file", backing(short_path), "rate=32M")
    attach(virtio_nic, network_disk(short_path / "nbd"))
    complains("disk-slow", virtio_nic)


@pytest.mark.trial("disk", "throttled by <iotune>")
def test_throttled(virtio_nic: Guest, complains: Complains) -> None:
    path = virtio_nic.new_disk(SERIAL, 32)
    element = data_disk(DataDisk(DiskBus.VIRTIO, SERIAL, 32), path, "vdz")
    tune = etree.SubElement(element, "iotune")
    etree.SubElement(tune, "total_bytes_sec").text = str(3 << 20)
    attach(virtio_nic, element)
    complains("disk-slow", virtio_nic)


@pytest.mark.boots(2)
@pytest.mark.parametrize("how", ["blacklisted", "not installed"])
@pytest.mark.trial("disk", "driver of a virtio data disk is {how}")
def test_driver(guest_on: GuestFactory, complains: Complains, how: str) -> None:
    guest = guest_on(
        disk=DiskBus.IDE, nic=NicModel.RTL8139, data_disks=(DataDisk(DiskBus.VIRTIO, "data"),)
    )
    if how == "blacklisted":
        guest.runner.run("echo 'install virtio_blk /bin/false' >/etc/modprobe.d/trial.conf")
    else:
        guest.runner.run("find /lib/modules -name 'virtio_blk.ko*' -delete; depmod")
    guest.reboot()
    complains("disk-driver-missing", guest)


@pytest.mark.boots(2)
@pytest.mark.trial("virtio", "a device has no interface of 1.0 (disable-modern)")
def test_legacy_virtio(virtio_nic: Guest, complains: Complains) -> None:
    namespace = "http://libvirt.org/schemas/domain/qemu/1.0"

    def legacy(tree: etree._Element) -> None:
        line = etree.SubElement(tree, f"{{{namespace}}}commandline", nsmap={"qemu": namespace})
        for word in (
            "-global",
            "virtio-net-pci.disable-modern=on",
            "-global",
            "virtio-net-pci.disable-legacy=off",
        ):
            etree.SubElement(line, f"{{{namespace}}}arg", value=word)

    edited(virtio_nic, legacy)
    virtio_nic.boot()
    complains("virtio-legacy", virtio_nic)


@pytest.mark.sample
@pytest.mark.trial("file system", "the root is full")
def test_root_is_full(ide: Guest, complains: Complains) -> None:
    ide.runner.run(
        "fallocate -l $(($(df -Pk / | awk 'END{print $4}') - 64))k /full; df -k /", check=False
    )
    complains("root-full", ide)


@pytest.mark.boots(2)
@pytest.mark.trial("file system", "the root is mounted read-only by fstab")
def test_root_is_read_only(ide: Guest, complains: Complains) -> None:
    ide.runner.run(
        'awk \'$2 == "/" { $4 = "ro" } { print }\' /etc/fstab >/run/fstab && cat /run/fstab >/etc/fstab'
    )
    ide.reboot()
    complains("root-read-only", ide)


@pytest.mark.trial("file system", "the root was remounted read-only after an error")
def test_root_went_read_only(ide: Guest, complains: Complains) -> None:
    # What errors=remount-ro does, without the line that would tell of the error.
    ide.runner.run("echo u >/proc/sysrq-trigger; sleep 2; dmesg --clear")
    complains("root-read-only", ide)


@pytest.mark.boots(2)
@pytest.mark.trial("guest", "its clock is a month behind")
def test_clock(ide: Guest, complains: Complains) -> None:
    def month(tree: etree._Element) -> None:
        for old in tree.findall("clock"):
            tree.remove(old)
        etree.SubElement(tree, "clock", offset="variable", adjustment=str(-30 * 86400), basis="utc")

    edited(ide, month)
    ide.boot()
    complains("clock-off", ide)


@pytest.mark.trial("guest", "a service fails")
def test_service_fails(ide: Guest, complains: Complains) -> None:
    ide.runner.run("systemd-run --unit=trial /bin/false; sleep 1")
    complains("unit-failed", ide)

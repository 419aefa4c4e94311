"""Defects that show when a guest boots: initramfs, boot loader, names of devices, panics, hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from seeding import GRUB, edited, initramfs_of, kernel_argument, unit

from virtproof.diagnose.evidence import Diagnosis
from virtproof.guest import boot
from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.spec import DataDisk, DiskBus, NicModel
from virtproof.transition.switching import switch_disk

pytestmark = [pytest.mark.real, pytest.mark.boots(2)]
Fails = Callable[..., Diagnosis]
EMULATED = ("ata_piix", "ata_generic", "ahci", "sym53c8xx", "sd_mod", "ext4")
VIRTIO = ("virtio_pci", "virtio_blk", "virtio_scsi")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is waited for less long than a boot may take."""
    monkeypatch.setattr(boot, "BOOT_S", 12.0)


@pytest.mark.trial("initramfs", "no virtio driver in it; root moves to virtio-blk")
def test_unprepared(ide: Guest, fails_to_boot: Fails) -> None:
    fails_to_boot("initramfs-lacks-virtio_blk", lambda: ide.switch(disk=DiskBus.VIRTIO))


@pytest.mark.boots(4)
@pytest.mark.parametrize(
    ("lacks", "bus", "name"),
    [
        ("virtio_blk", DiskBus.VIRTIO, "initramfs-lacks-virtio_blk"),
        ("virtio_pci", DiskBus.VIRTIO, "initramfs-lacks-virtio_pci"),
        ("virtio_scsi", DiskBus.VIRTIO_SCSI, "initramfs-lacks-virtio_scsi"),
        ("sd_mod", DiskBus.IDE, "initramfs-lacks-disk-driver"),
        ("ata_piix", DiskBus.IDE, "initramfs-lacks-disk-driver"),
        ("ahci", DiskBus.SATA, "initramfs-lacks-disk-driver"),
        ("sym53c8xx", DiskBus.SCSI, "initramfs-lacks-disk-driver"),
        ("ext4", DiskBus.VIRTIO, "initramfs-lacks-filesystem"),
    ],
)
@pytest.mark.trial("initramfs", "holds all but {lacks}; root on {bus}")
def test_one_module_missing(
    ide: Guest, fails_to_boot: Fails, lacks: str, bus: DiskBus, name: str
) -> None:
    # ata_generic drives what ata_piix does, so that it goes as well.
    gone = {lacks, "ata_generic"} if lacks == "ata_piix" else {lacks}
    initramfs_of(ide, *(module for module in (*EMULATED, *VIRTIO) if module not in gone))
    fails_to_boot(name, lambda: ide.switch(disk=bus))


@pytest.mark.trial("initramfs", "damaged on the disk")
def test_damaged_initramfs(ide: Guest, fails_to_boot: Fails) -> None:
    ide.runner.run(
        "dd if=/dev/urandom of=/boot/initrd.img-$(uname -r) bs=64k seek=4 count=16 conv=notrunc"
    )
    fails_to_boot("initramfs-damaged", ide.reboot)


@pytest.mark.boots(4)
@pytest.mark.trial("names", "root= names /dev/sda1; root moves to virtio")
def test_root_names_a_device(ide: Guest, fails_to_boot: Fails) -> None:
    ide.runner.run(f"sed -i 's|root=[^ ]*|root=/dev/{ide.block.root_device}|' {GRUB}")
    ide.prepare_for_virtio()
    fails_to_boot("root-names-device", lambda: ide.switch(disk=DiskBus.VIRTIO))


@pytest.mark.boots(4)
@pytest.mark.trial("names", "fstab names a disk /dev/sda; it moves to virtio")
def test_fstab_names_a_device(guest_on: GuestFactory, fails_to_boot: Fails) -> None:
    guest = guest_on(disk=DiskBus.IDE, data_disks=(DataDisk(DiskBus.SATA, "data"),))
    name = guest.block.disk_by_serial("data").name
    guest.runner.run(
        "mkfs.ext4 -q /dev/%s && mkdir /data && "
        "echo /dev/%s /data ext4 x-systemd.device-timeout=20 0 2 >>/etc/fstab",
        name, name,
    )  # fmt: skip
    guest.edit(lambda xml: switch_disk(xml, guest.target_of("data"), DiskBus.VIRTIO))
    fails_to_boot("fstab-names-device", guest.boot)


@pytest.mark.trial("boot loader", "looks for its files on a device that is not there")
def test_boot_loader_names_a_device(ide: Guest, fails_to_boot: Fails) -> None:
    ide.runner.run(
        f"sed -i -e 's/^.*search .*$//' -e \"s/set root=.*/set root='hd7,msdos9'/\" {GRUB}"
    )
    fails_to_boot("bootloader-not-found", ide.reboot)


@pytest.mark.trial("boot loader", "its first sector is wiped")
def test_boot_sector_is_wiped(ide: Guest, fails_to_boot: Fails) -> None:
    ide.runner.run(
        "dd if=/dev/zero of=/dev/%s bs=512 count=1 conv=notrunc,fsync", ide.block.root_disk.name
    )
    ide.runner.run("sync")
    fails_to_boot("bootloader-not-found", ide.reboot)


@pytest.mark.trial("boot loader", "another disk boots first")
def test_another_disk_boots_first(guest_on: GuestFactory, fails_to_boot: Fails) -> None:
    guest = guest_on(disk=DiskBus.IDE, data_disks=(DataDisk(DiskBus.IDE, "data"),))

    def other_first(tree) -> None:
        for disk in tree.findall("devices/disk"):
            for boot_order in disk.findall("boot"):
                disk.remove(boot_order)
            if disk.findtext("serial") == "data":
                etree_boot = tree.makeelement("boot", {"order": "1"})
                disk.append(etree_boot)

    edited(guest, other_first)
    fails_to_boot("boot-order", guest.boot)


@pytest.mark.sample
@pytest.mark.boots(1)
@pytest.mark.trial("domain", "a drive address is left on a virtio disk")
def test_stale_address(ide: Guest, fails_to_boot: Fails) -> None:
    target = ide.root_target
    fails_to_boot(
        "stale-address",
        lambda: ide.edit(lambda xml: switch_disk(xml, target, DiskBus.VIRTIO, drop_address=False)),
    )


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("before the initramfs is read", "noinitrd root=/dev/nothing"),
        ("when init starts", "init=/bin/false"),
    ],
)
@pytest.mark.trial("kernel", "panic {stage}")
def test_panic(ide: Guest, fails_to_boot: Fails, stage: str, words: str) -> None:
    del stage
    kernel_argument(ide, words)
    if "noinitrd" in words:
        ide.runner.run(f"sed -i '/^[ \\t]*initrd/d' {GRUB}")
    fails_to_boot("kernel-panic", ide.reboot)


@pytest.mark.trial("kernel", "panic while services start")
def test_late_panic(ide: Guest, fails_to_boot: Fails) -> None:
    unit(ide, "panic", "echo c >/proc/sysrq-trigger", "sysinit.target")
    fails_to_boot("kernel-panic", ide.reboot)


@pytest.mark.trial("hang", "the boot loader waits for ever")
@pytest.mark.usefixtures("impatient")
def test_boot_loader_hangs(ide: Guest, fails_to_boot: Fails) -> None:
    ide.runner.run(f"sed -i '1i sleep 100000' {GRUB}")
    fails_to_boot("boot-hang", ide.reboot)


@pytest.mark.trial("hang", "the initramfs waits for ever")
@pytest.mark.usefixtures("impatient")
def test_initramfs_hangs(ide: Guest, fails_to_boot: Fails) -> None:
    kernel_argument(ide, "rdinit=/bin/cat")
    fails_to_boot("boot-hang", ide.reboot)


@pytest.mark.parametrize("before", ["sysinit.target", "multi-user.target"])
@pytest.mark.trial("hang", "a service never ends, before {before}")
@pytest.mark.usefixtures("impatient")
def test_service_hangs(ide: Guest, fails_to_boot: Fails, before: str) -> None:
    unit(ide, "hang", "while :; do sleep 60; done", before)
    fails_to_boot("boot-hang", ide.reboot)


@pytest.mark.trial("file system", "the root's is destroyed")
def test_root_is_destroyed(ide: Guest, fails_to_boot: Fails) -> None:
    root = f"/dev/{ide.block.root_device}"
    ide.runner.run("sync; dd if=/dev/zero of=%s bs=1k seek=1 count=1 conv=notrunc,fsync", root)
    ide.power_cut()  # an orderly shutdown would write it anew
    fails_to_boot("bootloader-not-found", ide.boot)


@pytest.mark.trial("network", "driver of the virtio NIC is blacklisted; NIC moves to virtio")
def test_nic_driver_is_blacklisted(ide: Guest, caught: Callable[..., Diagnosis]) -> None:
    ide.runner.run("echo 'install virtio_net /bin/false' >/etc/modprobe.d/trial.conf")
    no_network(ide, caught)


@pytest.mark.trial("network", "driver of the virtio NIC is not installed; NIC moves to virtio")
def test_nic_driver_is_missing(ide: Guest, caught: Callable[..., Diagnosis]) -> None:
    ide.runner.run("find /lib/modules -name 'virtio_net.ko*' -delete; depmod")
    no_network(ide, caught)


def no_network(guest: Guest, caught: Callable[..., Diagnosis]) -> None:
    guest.switch(nic=NicModel.VIRTIO)
    caught("nic-driver-missing", guest.check_up().diagnosis, "check-up")

"""What each diagnosis means and what to do about it: one sentence each, for reports."""

from __future__ import annotations

from typing import Final, NamedTuple


class Explanation(NamedTuple):
    """``means``: what happened. ``do``: what mends it."""

    means: str
    do: str


EXPLANATIONS: Final[dict[str, Explanation]] = {
    "initramfs-lacks-virtio_blk": Explanation(
        "The initramfs lacks virtio_blk, or both it and virtio_pci: the root disk was not seen.",
        "Before the switch, add virtio_blk and virtio_pci to the initramfs and make it anew.",
    ),
    "initramfs-lacks-virtio_pci": Explanation(
        "The disk's driver is in the initramfs, but virtio_pci, the bus below it, is not.",
        "Before the switch, add virtio_pci to the initramfs and make it anew.",
    ),
    "root-names-device": Explanation(
        "The kernel's root= names a device that the new bus calls otherwise.",
        "Write root=UUID=... into the boot loader's configuration.",
    ),
    "fstab-names-device": Explanation(
        "/etc/fstab names a device that the new bus calls otherwise, and the boot waits for it.",
        "Write UUID=... or LABEL=... into /etc/fstab.",
    ),
    "bootloader-not-found": Explanation(
        "The firmware found no boot loader on the disk, or the boot loader found no kernel.",
        "Install the boot loader again and let it look for its files by UUID.",
    ),
    "stale-address": Explanation(
        "The domain XML keeps an <address> that fits the old bus and not the new one.",
        "Remove the disk's <address> element; libvirt makes a new one.",
    ),
    "boot-order": Explanation(
        "The guest boots another disk first than the one that holds its root.",
        "Give the root disk <boot order='1'/>, or list it first.",
    ),
    "kernel-panic": Explanation(
        "The guest's kernel gave up.",
        "Read the quoted line and the call trace below it on the console.",
    ),
    "emergency-shell": Explanation(
        "The boot stopped in an emergency or initramfs shell.",
        "Read the quoted line; the units or devices that failed stand above the shell's prompt.",
    ),
    "boot-hang": Explanation(
        "The guest runs, but its boot neither ended nor failed within its time.",
        "Look at the last console lines; with none at all, check for a serial console.",
    ),
    "qemu-refused": Explanation(
        "QEMU, or libvirt on its behalf, refused to start the guest.",
        "Read the quoted message: it names the file, device or option.",
    ),
    "qemu-died": Explanation(
        "QEMU ended while the guest ran.",
        "Look at the end of the guest's QEMU log and for a core dump; it may be a bug of QEMU.",
    ),
    "qemu-oom-killed": Explanation(
        "The host's kernel killed QEMU for want of memory.",
        "Give the guest less memory, run fewer at once, or lift the limit of the control group.",
    ),
    "no-address": Explanation(
        "The guest is up, but got no IPv4 address.",
        "Check that its network configuration matches the interface by MAC and not by an old name.",
    ),
    "ssh-refused": Explanation(
        "The guest is up, but SSH does not let us in.",
        "Check that sshd runs, that no firewall stands before it and that the key was installed.",
    ),
    "nic-driver-missing": Explanation(
        "A network card of the guest is not bound to any driver.",
        "Check that the guest's kernel has the card's module and that nothing blacklists it.",
    ),
    "windows-stop": Explanation(
        "Windows stopped with a bug check.",
        "For 0x7B (INACCESSIBLE_BOOT_DEVICE), install the storage driver before the switch.",
    ),
    "initramfs-lacks-virtio_scsi": Explanation(
        "The initramfs has virtio_pci, but not virtio_scsi: the root disk was not seen.",
        "Before the switch, add virtio_scsi to the initramfs and make it anew.",
    ),
    "initramfs-lacks-disk-driver": Explanation(
        "The initramfs lacks a driver of the disk controller that the root is on.",
        "Add the controller's module (ata_piix, ahci, sym53c8xx; sd_mod) to the initramfs.",
    ),
    "initramfs-lacks-filesystem": Explanation(
        "The root disk was found, but the initramfs has no driver for its file system.",
        "Add the file system's module to the initramfs and make it anew.",
    ),
    "initramfs-damaged": Explanation(
        "The kernel could not unpack its initramfs, and so has no way to the root.",
        "Make the initramfs anew from a rescue system, or boot an older kernel.",
    ),
    "disk-driver-missing": Explanation(
        "A disk's controller is not bound to any driver: the guest does not see the disk.",
        "Check that the guest's kernel has the module and that nothing blacklists it.",
    ),
    "disk-io-error": Explanation(
        "The guest's reads from or writes to a disk fail.",
        "Look at the host's storage below the disk, and at the end of the guest's QEMU log.",
    ),
    "disk-data-wrong": Explanation(
        "A disk gave back other data than had been written to it.",
        "Look at what lies below the disk on the host (a network block device, a truncated file).",
    ),
    "disk-slow": Explanation(
        "A disk is far slower than another of the same guest.",
        "Check the disk for <iotune>, for a slow server behind it, and for its cache mode.",
    ),
    "flush-lost": Explanation(
        "A disk lost data that the guest had flushed to it.",
        "Whatever lies below the disk must honour flush; cache='unsafe' does not.",
    ),
    "root-read-only": Explanation(
        "The root file system is mounted read-only.",
        "Look for file system and disk errors in the kernel's log, and at /etc/fstab.",
    ),
    "root-full": Explanation(
        "The root file system is full.",
        "Free space, or give the guest a larger disk.",
    ),
    "link-down": Explanation(
        "A network card has no carrier.",
        "Check <link state='...'/> of the interface, and the bridge or tap on the host.",
    ),
    "link-flaps": Explanation(
        "A network card lost and regained its carrier many times.",
        "Look for what sets the link on the host, and at the bridge's ports.",
    ),
    "duplicate-address": Explanation(
        "Two network cards answer for the guest's address.",
        "Find the other one by its MAC; static addresses must not lie in DHCP's range.",
    ),
    "packet-loss": Explanation(
        "Packets between the guest and its gateway are lost.",
        "Compare the counters of the tap and of the NIC; look for filters and limits on the host.",
    ),
    "mtu-mismatch": Explanation(
        "Packets as large as the NIC's MTU do not pass.",
        "Give the guest's NIC, the tap and the bridge the same MTU.",
    ),
    "nic-slow": Explanation(
        "Data take far longer over the NIC than the guest's speed explains.",
        "Check the interface for <bandwidth>, and the tap for traffic shaping (tc qdisc).",
    ),
    "virtio-legacy": Explanation(
        "A virtio device is driven by the interface of before version 1.0.",
        "Check for disable-modern, model='virtio-transitional' on old QEMU, and the guest's kernel.",
    ),
    "clock-off": Explanation(
        "The guest's clock is far from the host's.",
        "Check <clock offset=...>, and that the guest reads the clock as UTC or local time alike.",
    ),
    "unit-failed": Explanation(
        "The guest is up, but a service of it failed.",
        "Read the unit's journal in the guest: journalctl -u UNIT.",
    ),
    "unknown": Explanation(
        "No known pattern fits.",
        "Look at the last console lines and the other files of the evidence.",
    ),
}

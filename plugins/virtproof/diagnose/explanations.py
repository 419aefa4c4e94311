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
    "unknown": Explanation(
        "No known pattern fits.",
        "Look at the last console lines and the other files of the evidence.",
    ),
}

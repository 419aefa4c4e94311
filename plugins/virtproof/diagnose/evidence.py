"""What is known of a boot that failed. Collected by the guest, judged by ``diagnose``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """Texts as they were found; empty where there was none. Guest output is untrusted.

    ``domain_state`` is libvirt's, by name: running, paused, shutoff, crashed, or empty where the
    domain was never defined. ``domain_reason`` likewise: destroyed, crashed, failed, shutdown,
    panicked... ``None`` in ``agent_answered``, ``ssh_error`` and ``address`` means: not tried.
    """

    console: str = ""
    shell_answers: str = (
        ""  # what the initramfs' or emergency shell said when asked (see interrogate)
    )
    qemu_log: str = ""
    host_log: str = ""  # lines of the host's kernel log about the OOM killer
    domain_xml: str = ""
    root_target: str = ""  # <target dev=...> of the root disk
    libvirt_error: str = ""
    domain_state: str = ""
    domain_reason: str = ""
    guest_panicked: str = ""  # QEMU's GUEST_PANICKED information, as JSON
    screen: str = ""  # the words on the display, as a reader of pictures saw them
    agent_answered: bool | None = None
    nic_facts: str = (
        ""  # one line a NIC, from the guest: "PCI-ADDRESS VENDOR:DEVICE DRIVER-or-dash"
    )
    jobs: str = (
        ""  # what the guest's init system has not finished, a line a job: "ID UNIT TYPE STATE"
    )
    address: str | None = None  # the guest's IPv4 address; "" = waited for and not given
    ssh_error: str | None = None  # "" = SSH answered


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause by name (one of ``NAMES``), the line that shows it and where that line stands."""

    name: str
    line: str
    source: str

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "line": self.line, "source": self.source}


NAMES = (
    "initramfs-lacks-virtio_blk",
    "initramfs-lacks-virtio_pci",
    "initramfs-lacks-virtio_scsi",
    "initramfs-lacks-disk-driver",
    "initramfs-lacks-filesystem",
    "initramfs-damaged",
    "root-names-device",
    "fstab-names-device",
    "bootloader-not-found",
    "stale-address",
    "boot-order",
    "kernel-panic",
    "emergency-shell",
    "boot-hang",
    "qemu-refused",
    "qemu-died",
    "qemu-oom-killed",
    "no-address",
    "ssh-refused",
    "nic-driver-missing",
    "disk-driver-missing",
    "disk-io-error",
    "disk-data-wrong",
    "disk-slow",
    "flush-lost",
    "root-read-only",
    "root-full",
    "link-down",
    "link-flaps",
    "duplicate-address",
    "packet-loss",
    "mtu-mismatch",
    "nic-slow",
    "virtio-legacy",
    "clock-off",
    "unit-failed",
    "windows-stop",
    "unknown",
)

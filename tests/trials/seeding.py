"""How defects get into a guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lxml import etree

from virtproof.deadline import Deadline
from virtproof.guest.domain_xml import text
from virtproof.guest.guest import Guest

GRUB = "/boot/grub/grub.cfg"
SERIAL = "trial"


def kernel_argument(guest: Guest, words: str) -> None:
    """Append words to the kernel's command line, in every entry."""
    guest.runner.run(f"sed -i 's|^\\([ \\t]*linux[ \\t].*\\)$|\\1 {words}|' {GRUB}")


def initramfs_of(guest: Guest, *modules: str) -> None:
    """Make the initramfs hold these modules and no others."""
    guest.runner.put("/etc/initramfs-tools/modules", "\n".join((*modules, "")).encode())
    guest.runner.put("/etc/initramfs-tools/conf.d/virtproof", b"MODULES=list\n")
    guest.runner.run("update-initramfs -u", timeout_s=300)


def unit(guest: Guest, name: str, body: str, before: str) -> None:
    """A service that must end before the next boot goes on to ``before``; ``body`` is a sh script."""
    guest.runner.put(f"/etc/{name}.sh", body.encode())
    guest.runner.put(
        f"/etc/systemd/system/{name}.service",
        "[Unit]\nDefaultDependencies=no\n"
        f"Before={before}\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        f"ExecStart=/bin/sh /etc/{name}.sh\n[Install]\nRequiredBy={before}\n".encode(),
    )
    guest.runner.run(f"systemctl enable {name}")


def network_disk(socket: Path, target: str = "vdz") -> etree._Element:
    """A virtio disk that is a server's on a UNIX socket."""
    disk = etree.Element("disk", type="network", device="disk")
    etree.SubElement(disk, "driver", name="qemu", type="raw", cache="none")
    source = etree.SubElement(disk, "source", protocol="nbd")
    etree.SubElement(source, "host", transport="unix", socket=str(socket))
    etree.SubElement(disk, "target", dev=target, bus="virtio")
    etree.SubElement(disk, "serial").text = SERIAL
    return disk


def attach(guest: Guest, element: etree._Element) -> None:
    """Hot-add it, and wait until the guest has it."""
    guest.domain.attach(text(element))
    guest.block.wait_for(SERIAL, Deadline.after(10 * guest.scale))


def edited(guest: Guest, change: Callable[[etree._Element], object]) -> None:
    """Shut down and put the domain through ``change(tree)``."""

    def edit(xml: str) -> str:
        tree = etree.fromstring(xml)
        change(tree)
        return etree.tostring(tree, encoding="unicode")

    guest.edit(edit)


def tap_of(guest: Guest) -> str:
    """The host's end of the guest's first NIC."""
    tree = etree.fromstring(guest.domain.xml())
    return str(tree.xpath("string(devices/interface/target/@dev)"))

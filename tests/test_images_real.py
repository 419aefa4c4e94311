"""The default image for real: built (or taken from the shared cache), and booted by bare QEMU on IDE.

Neither lab nor libvirt is used: what fails here is the image.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from virtproof import host
from virtproof.deadline import SCALE, Deadline, wait_for
from virtproof.guest.agent import Agent
from virtproof.guest.console import Console, SocketPort
from virtproof.images.child import spawned
from virtproof.images.store import ImageStore, PreparedImage, default_cache
from virtproof.spec import Accel

pytestmark = [
    pytest.mark.real,
    pytest.mark.boots(1),
    pytest.mark.skipif(
        shutil.which("mmdebstrap") is None or shutil.which("qemu-system-x86_64") is None,
        reason="no mmdebstrap or no qemu-system-x86_64",
    ),
]
BOOT_S = 240.0


@pytest.fixture(scope="module")
def store() -> ImageStore:
    return ImageStore(default_cache(), Accel.TCG, print)


@pytest.fixture(scope="module")
def image(store: ImageStore) -> PreparedImage:
    return store.prepared("debian-12")


@pytest.fixture(scope="module")
def guest(
    store: ImageStore, image: PreparedImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agent]:
    folder = tmp_path_factory.mktemp("guest")
    store.overlay(image, folder / "o.qcow2")
    agent, console = folder / "a", folder / "console.log"
    argv = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "qemu64,-cx16,-svm"]
    argv += ["-m", "768", "-nodefaults", "-display", "none", "-nic", "none"]
    argv += ["-drive", f"file={folder / 'o.qcow2'},if=ide,format=qcow2,cache=unsafe"]
    argv += ["-serial", f"file:{console}", "-serial", f"unix:{agent},server=on,wait=off"]
    with spawned(argv) as qemu:
        there = wait_for(lambda: agent.exists() or None, Deadline.after(10), 0.05)
        assert there, qemu.stdout.read() if qemu.stdout else ""
        port = SocketPort(str(agent))
        runner = Agent(Console(port), SCALE[Accel.TCG])
        assert runner.sync(Deadline.after(BOOT_S)), console.read_text(errors="replace")[-2000:]
        yield runner
        port.close()


def said(guest: Agent, command: str) -> str:
    """What a command in the guest printed, whatever its exit status."""
    return guest.run(command, check=False).stdout


def test_the_agent_answers_without_network_and_virtio(guest: Agent) -> None:
    assert guest.call("guest-ping") == {}
    assert said(guest, "cat /proc/1/comm") == "systemd\n"


def test_commands_have_fixed_addresses_where_random_ones_cost_and_the_system_has_not(
    guest: Agent,
) -> None:
    """QEMU 7 and 8 translate a program anew at each address, so that an initramfs takes thrice as long."""
    found = host.qemu()
    assert found is not None
    costs, no_random_addresses = int(found.version.split(".")[0]) in (7, 8), 0x0040000
    personality = int(said(guest, "cat /proc/self/personality"), 16)
    assert personality == (no_random_addresses if costs else 0)
    assert said(guest, "cat /proc/1/personality").strip() == "00000000"
    assert said(guest, "cat /proc/sys/kernel/randomize_va_space").strip() == "2"


def test_the_initramfs_is_one_of_a_machine_with_ide(guest: Agent) -> None:
    modules = said(guest, "lsinitramfs /boot/initrd.img-$(uname -r) | grep '[.]ko'")
    assert "ata_piix.ko" in modules
    assert "virtio" not in modules


def test_the_kernel_has_what_the_initramfs_lacks(guest: Agent) -> None:
    assert "virtio_blk.ko" in said(guest, "modinfo -n virtio_blk")


def test_the_root_is_named_by_its_uuid_in_a_menu_of_update_grub(guest: Agent) -> None:
    assert said(guest, "grep -c 'root=UUID=' /boot/grub/grub.cfg").strip() not in ("", "0")
    assert "update-grub" not in said(guest, "update-grub 2>&1 >/dev/null | grep -i error")
    assert "BEGIN /etc/grub.d/10_linux" in said(guest, "cat /boot/grub/grub.cfg")


def test_only_the_key_lets_in_and_only_this_cache_s(guest: Agent, image: PreparedImage) -> None:
    public = image.key.with_suffix(".pub").read_text().strip()
    assert said(guest, "cat /root/.ssh/authorized_keys").strip() == public
    # sshd has no host keys and no folder of its own until the boot has come to it.
    config = (
        wait_for(lambda: said(guest, "sshd -T").lower() or None, Deadline.after(120), 1.0) or ""
    )
    assert "passwordauthentication no" in config
    assert "permitrootlogin without-password" in config
    assert said(guest, "cut -d: -f2 /etc/shadow | grep -c '^[$]'").strip() == "0"


def test_nothing_of_the_builder_is_left_in_it(guest: Agent) -> None:
    assert said(guest, "cat /etc/apt/sources.list; ls /etc/apt/sources.list.d").strip() == ""
    assert said(guest, "grep -rs Proxy /etc/apt").strip() == ""
    assert said(guest, "ls /etc/cloud/cloud-init.disabled").strip()


def test_an_unbroken_boot_has_no_failed_unit(guest: Agent) -> None:
    wait_for(
        lambda: said(guest, "systemctl is-system-running") != "starting\n" or None,
        Deadline.after(120),
        1.0,
    )
    assert said(guest, "systemctl --failed --plain --no-legend").strip() == ""

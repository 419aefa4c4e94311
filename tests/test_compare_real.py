"""A guest on a kernel of the user's own, on real guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.guest.fetch import fetch
from virtproof.plugin.guests import GuestFactory

OWN = """mkdir -p /run/own; cp -L "/boot/vmlinuz-$(uname -r)" /run/own/kernel
cp -L "/boot/initrd.img-$(uname -r)" /run/own/initrd; cat /proc/cmdline"""


@pytest.mark.boots(3)
def test_a_kernel_of_its_own_is_booted_directly(guest_on: GuestFactory, tmp_path: Path) -> None:
    """The image's kernel, given as a file: booted with a command line that no boot loader has."""
    with guest_on() as guest:
        words = guest.ssh.run(OWN).stdout.split()
        assert any(word.startswith("BOOT_IMAGE=") for word in words)
        assert "virtproof.own" not in words
        fetch(guest.ssh, "/run/own", tmp_path)
    cmdline = " ".join(word for word in words if not word.startswith("BOOT_IMAGE="))
    own = {name: str(tmp_path / name) for name in ("kernel", "initrd")}
    with guest_on(**own, cmdline=f"{cmdline} virtproof.own") as guest:
        said = guest.runner.run("cat /proc/cmdline").stdout.split()
        assert said == [*cmdline.split(), "virtproof.own"]
        assert guest.block.root_disk.driver == "ata_piix"

"""Installing packages in a guest that has no network: they come on a disk, as a tar archive."""

from __future__ import annotations

from virtproof.errors import GuestError
from virtproof.guest.shell import Runner

PLACE = "/var/tmp/virtproof-packages"
INSTALL_S = 120.0  # on KVM; the runner scales it
TOOLS = {
    "dpkg": "DEBIAN_FRONTEND=noninteractive dpkg --install %s/*.deb",
    "rpm": "rpm --install %s/*.rpm",
}


def install_from(runner: Runner, device: str) -> None:
    """Install every package of the tar archive that ``device`` (a block device) holds.

    The packages' own scripts make initramfs and boot entries, as on any update. GuestError where the
    guest has no package manager known here, CommandError with its last line where it fails.
    """
    runner.run("mkdir -p %s && tar -xf %s -C %s", PLACE, device, PLACE, timeout_s=INSTALL_S)
    for tool, command in TOOLS.items():
        if runner.run("command -v %s", tool, check=False).status == 0:
            runner.run(command % PLACE, timeout_s=INSTALL_S)
            runner.run("rm -rf %s && sync", PLACE)
            return
    raise GuestError(f"the guest has none of {', '.join(TOOLS)} to install packages with")

"""The claims that suites prove: each says one thing about virtio that can be true or false.

They were drawn from the libvirt wiki's page on virtio. A test names the claims it proves by
``@pytest.mark.claim("NET-2")``; the report has a row for each.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from virtproof.errors import UsageError

_WINDOWS = "a Windows image (--windows-image)"
_NESTED = "--nested"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. ``needs`` names what a run must be given before it can prove it; mostly empty."""

    id: str
    title: str  # at most 60 characters
    text: str  # one sentence
    needs: str = ""

    @property
    def group(self) -> str:
        """The id without its number, as in ``DISK``."""
        return self.id.rpartition("-")[0]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "HOST-1",
        "The accelerator runs a guest",
        "The accelerator the run uses boots a tiny guest and gets an answer from it.",
    ),
    Claim(
        "HOST-2",
        "libvirt is recent enough",
        "The libvirt that the run talks to is not older than the oldest supported version.",
    ),
    Claim(
        "HOST-3",
        "A guest can be given KVM of its own",
        "With virtualisation in its processor, a guest runs guests on KVM and moves one to virtio.",
        _NESTED,
    ),
    Claim(
        "GUEST-1",
        "The kernel brings the virtio drivers",
        "The guest's own kernel has the virtio drivers, as modules or built in, before a switch.",
    ),
    Claim(
        "NET-1",
        "libvirt takes and keeps the virtio NIC model",
        "An interface of model virtio is accepted and still stands in the live XML of the guest.",
    ),
    Claim(
        "NET-2",
        "The network works after leaving RTL8139",
        "After the switch to virtio the guest has its address and passes data in both directions.",
    ),
    Claim(
        "NET-3",
        "The NIC is bound to virtio_net",
        "The guest has virtio_pci and virtio_net loaded or built in, and they drive the NIC.",
    ),
    Claim(
        "NET-4",
        "The NIC's counters move with the traffic",
        "The statistics counters below the virtio device grow by at least the bytes sent.",
    ),
    Claim(
        "NET-5",
        "A failure's reason is in the guest's QEMU log",
        "When QEMU refuses a guest, the evidence holds its log and the verdict quotes the line.",
    ),
    Claim(
        "NET-6",
        "Accelerator and versions are on record",
        "Each run names accelerator, QEMU, libvirt, and the kernels of host and guest.",
    ),
    Claim(
        "DISK-1",
        "The disk is vdX, bound to virtio_blk",
        "A disk with bus virtio shows in the guest as vdX and is driven by virtio_blk.",
    ),
    Claim(
        "DISK-2",
        "A left-over drive address must go",
        "libvirt refuses a virtio disk that kept its drive address, and makes a PCI one without.",
    ),
    Claim(
        "DISK-3",
        "A prepared root disk boots from virtio",
        "With virtio_pci and virtio_blk in its initramfs beforehand, the guest boots from vda.",
    ),
    Claim(
        "DISK-4",
        "The distribution's own tool prepares it",
        "The distribution's initramfs tool puts the virtio drivers in, as its contents show.",
    ),
    Claim(
        "DISK-5",
        "Preparing serves IDE, SATA and SCSI alike",
        "The same preparation moves a root disk to virtio from each of these buses.",
    ),
    Claim(
        "DISK-6",
        "Installed on virtio, nothing needs preparing",
        "A guest that was installed on a virtio disk boots from it without any preparation.",
    ),
    Claim(
        "DISK-7",
        "Kernel updates on virtio need no extra step",
        "A kernel package that was updated while running from virtio boots from virtio again.",
    ),
    Claim(
        "WIN-1",
        "Windows needs its virtio drivers first",
        "Windows boots from virtio once its drivers are installed, and without them stops by 0x7B.",
        _WINDOWS,
    ),
    Claim(
        "WIN-2",
        "Windows moves network and disk to virtio",
        "With the drivers installed, network and root disk of a Windows guest can be switched.",
        _WINDOWS,
    ),
    Claim(
        "PERF-1",
        "A virtio NIC outruns RTL8139",
        "Measured in one run, a virtio NIC passes more data than an RTL8139.",
    ),
    Claim(
        "PERF-2",
        "A virtio disk outruns IDE",
        "Measured in one run, a virtio disk reads and writes faster than an IDE disk.",
    ),
)

_BY_ID = {claim.id: claim for claim in CLAIMS}


def claim(claim_id: str) -> Claim:
    """The claim of that id; UsageError with the nearest ids where there is none."""
    try:
        return _BY_ID[claim_id]
    except KeyError:
        near = difflib.get_close_matches(claim_id.upper(), _BY_ID, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(_BY_ID)}"
        raise UsageError(f"no claim is called {claim_id!r}", hint=hint) from None

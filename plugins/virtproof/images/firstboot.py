"""An image's first boot: bare QEMU, our seed, a serial console, and an end that is always known."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from virtproof import host
from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError
from virtproof.images.child import spawned
from virtproof.images.ovmf import Firmware
from virtproof.spec import Accel

DEADLINE_S = {Accel.TCG: 900.0, Accel.KVM: 150.0}
POWER_OFF_S = {Accel.TCG: 90.0, Accel.KVM: 30.0}
POLL_S = 0.1
LAST_LINES = 12
NO_ROOM = (
    "the disk of the cache is full, and QEMU has stopped the guest",
    "make room, or set VIRTPROOF_CACHE to a directory elsewhere",
)

# Closed by a full stop: a line that the kernel broke into is not taken for whole. It comes twice.
MARKER = re.compile(rb"^virtproof: (prepared|failed) ([^\r\n]*) \.\r?$", re.MULTILINE)
VALUE = re.compile(r"[A-Za-z0-9._+~-]{1,80}")
# A boot that says one of these is over, though QEMU lives on.
ENDINGS = re.compile(
    rb"Kernel panic - not syncing[^\r\n]*"
    rb"|ALERT! [^\r\n]*Dropping to a shell!"
    rb"|^\(initramfs\) "
    rb"|^dracut:/#"
    rb"|Entering emergency mode"
    rb"|Give root password for maintenance"
    rb"|You are in (?:rescue|emergency) mode"
    rb"|No bootable device"
    rb"|grub rescue>"
    rb"|UEFI Interactive Shell",
    re.MULTILINE,
)
# Terminal escapes and control characters: a console's text is untrusted.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """What is booted. ``bus`` is "ide" or "virtio"; ``own_build`` allows the faster, older CPU model.

    ``variables``: the guest's own copy of ``firmware``'s. Without firmware it is a BIOS, on pc; with it q35.
    """

    disk: Path
    format: str
    bus: str
    seed: Path
    console: Path
    accel: Accel
    own_build: bool
    memory_mib: int = 1024
    firmware: Firmware | None = None
    variables: Path | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a first boot: the script's facts, or the fault in words."""

    facts: dict[str, str]
    fault: str = ""
    hint: str = ""


def command(boot: FirstBoot) -> list[str]:
    """QEMU's command line. No NIC: the first boot reaches nothing and needs nothing."""
    # Without cx16 TCG keeps its threads in parallel; a foreign image may want a CPU of today.
    tcg_cpu = "qemu64,-cx16,-svm" if boot.own_build else "max"
    device = {"ide": "ide-hd,bus=ide.%d", "virtio": "virtio-blk-pci"}[boot.bus]
    machine = "q35" if boot.firmware else "pc"
    argv = ["qemu-system-x86_64", "-machine", f"{machine},graphics=off", "-accel", boot.accel.value]
    argv += ["-cpu", "host" if boot.accel is Accel.KVM else tcg_cpu]
    argv += ["-m", str(boot.memory_mib), "-smp", "1", "-nodefaults", "-display", "none"]
    argv += ["-monitor", "none", "-nic", "none", "-no-reboot"]
    argv += ["-smbios", "type=1,serial=ds=nocloud", "-serial", "chardev:console"]
    argv += ["-chardev", f"file,id=console,path={_option(boot.console)}"]
    if boot.firmware and boot.variables:
        for path, mode in ((boot.firmware.code, ",readonly=on"), (boot.variables, "")):
            argv += ["-drive", f"if=pflash,format=raw,file={_option(path)}{mode}"]
    disks = [(boot.disk, boot.format, "off"), (boot.seed, "raw", "on")]
    for number, (path, form, snapshot) in enumerate(disks):
        drive = f"file={_option(path)},if=none,id=d{number},format={form}"
        argv += ["-drive", f"{drive},cache=unsafe,discard=unmap,snapshot={snapshot}"]
        place = device % number if "%" in device else device
        argv += ["-device", f"{place},drive=d{number}"]
    return argv


def run(boot: FirstBoot) -> dict[str, str]:
    """Boot until the seed's script has said its last words and the power is off.

    Returns the script's facts (``initramfs``, ``agent``, ``kernel``). Raises ImageError as soon as
    the boot is known to have failed, with the last console lines as detail.
    """
    boot.console.touch()
    with spawned(command(boot)) as qemu:
        facts = _facts(boot, qemu)
        deadline = Deadline.after(POWER_OFF_S[boot.accel])
        if wait_for(lambda: _ended(qemu) or _full(boot), deadline, POLL_S) is None:
            raise _failure(boot, "its script ended, but the power does not go off")
        if (status := qemu.poll()) is None:
            raise _failure(boot, *NO_ROOM)
        if status != 0:
            raise _failure(boot, f"QEMU exited with {status}")
    return facts


def judged(console: bytes) -> Verdict | None:
    """What a console says of the boot; None while it says nothing final."""
    if marker := MARKER.search(console):
        if marker[1] == b"failed":
            return Verdict({}, f"the script failed {_clean(marker[2])}")
        pairs = [word.partition("=") for word in marker[2].decode("ascii", "replace").split()]
        return Verdict({k: v for k, _, v in pairs if VALUE.fullmatch(k) and VALUE.fullmatch(v)})
    if ending := ENDINGS.search(console):
        return Verdict({}, f"it says {_clean(ending[0])!r}")
    return None


def last_lines(console: bytes, count: int = LAST_LINES) -> list[str]:
    """The last lines of a console that say something, without control characters."""
    text = CONTROL.sub("", console.decode("utf-8", "replace"))
    return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-count:]


def _ended(qemu: subprocess.Popen[bytes]) -> bool | None:
    return qemu.poll() is not None or None


def _full(boot: FirstBoot) -> bool | None:
    """Whether nothing more can be written beside the disk: QEMU stops the guest then, and says nothing."""
    return host.disk_free_mib(boot.disk.parent) == 0 or None


def _facts(boot: FirstBoot, qemu: subprocess.Popen[bytes]) -> dict[str, str]:
    def poll() -> Verdict | None:
        ended = qemu.poll()  # before the reading, so that nothing said is missed
        said = judged(boot.console.read_bytes())
        if said is None and ended is not None:
            words = last_lines(qemu.stdout.read() if qemu.stdout else b"", 1)
            return Verdict(
                {}, f"QEMU ended with status {ended}{': ' if words else ''}{''.join(words)}"
            )
        return said or (Verdict({}, *NO_ROOM) if _full(boot) else None)

    deadline_s = DEADLINE_S[boot.accel]
    said = wait_for(poll, Deadline.after(deadline_s), POLL_S)
    if said is None:
        raise _failure(boot, f"no end within {deadline_s:.0f} s", "is cloud-init in the image?")
    if said.fault:
        raise _failure(boot, said.fault, said.hint)
    return said.facts


def _failure(boot: FirstBoot, why: str, hint: str = "") -> ImageError:
    lines = last_lines(boot.console.read_bytes())
    last = f"; last line: {lines[-1][:160]!r}" if lines else "; the console stayed empty"
    return ImageError(f"first boot: {why}{last}", hint=hint, detail="\n".join(lines))


def _clean(said: bytes) -> str:
    return CONTROL.sub("", said.decode("utf-8", "replace")).strip()[:120]


def _option(path: Path) -> str:
    """A path as value of a QEMU option, where a comma is written twice."""
    return str(path).replace(",", ",,")

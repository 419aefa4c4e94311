"""The machine that Windows installs itself on: bare QEMU without a network, watched until it is off."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError
from virtproof.images.child import need, spawned
from virtproof.images.firstboot import MARKER, VALUE, last_lines
from virtproof.spec import Accel
from virtproof.windows.looking import printable
from virtproof.windows.unattended.qmp import Qmp, QmpGoneError

END_S = 60.0  # from the machine's end to QEMU's
# Windows Setup restarts two or three times. One more than these is a machine that never comes up.
RESTARTS = 8
ONE_RESTART_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Until when is waited, in seconds: ``whole`` from the start, ``idle`` since anything was written to the
    disk, ``poll`` between two looks, ``tell`` between two lines of progress."""

    whole_s: float
    idle_s: float
    restarts: int = RESTARTS
    poll_s: float = 2.0
    tell_s: float = 300.0


# By KVM half an hour, as others tell; emulation is so much slower, and was not seen to install a Windows.
LIMITS = {
    Accel.KVM: Limits(2 * 3600.0, 30 * 60.0),
    Accel.TCG: Limits(16 * 3600.0, 3 * 3600.0),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What is started. ``bus`` is "ide" or "virtio"; ``disk`` an empty qcow2; both media are only read."""

    disk: Path
    bus: str
    medium: Path
    answers: Path
    console: Path
    accel: Accel
    memory_mib: int = 4096
    cpus: int = 2


@dataclass(slots=True)
class Seen:
    """What the watch has learnt. ``facts``: what the first logon's script reports."""

    restarts: int = 0
    restarted_at: float = 0.0  # by QEMU's clock
    written: int = 0  # bytes, to the disk
    off: bool = False  # by the guest itself
    facts: dict[str, str] = field(default_factory=dict)


def command(machine: Machine, monitor: int) -> list[str]:
    """QEMU's command line. It starts paused, so that the monitor misses nothing; that is a socket which
    QEMU inherits under the number ``monitor``, as a file of it could be left behind.

    The disk goes before the medium: empty, it boots nothing and the medium does; afterwards it does.
    """
    cpu = "host,hv_relaxed,hv_spinlocks=0x1fff,hv_vapic,hv_time" if _kvm(machine) else "max"
    argv = ["qemu-system-x86_64", "-machine", "pc", "-accel", machine.accel.value, "-cpu", cpu]
    argv += ["-m", str(machine.memory_mib), "-smp", f"cores={machine.cpus}", "-nodefaults", "-S"]
    argv += ["-display", "none", "-vga", "std", "-nic", "none", "-rtc", "base=utc"]
    argv += ["-chardev", f"socket,id=monitor,fd={monitor}"]
    argv += ["-mon", "chardev=monitor,mode=control"]
    argv += ["-chardev", f"file,id=console,path={_option(machine.console)}"]
    # Windows shall know the second port, too: the agent will be on it.
    argv += ["-serial", "chardev:console", "-serial", "null"]
    disk = {"ide": "ide-hd,bus=ide.0,unit=0", "virtio": "virtio-blk-pci"}[machine.bus]
    drive = f"file={_option(machine.disk)},if=none,id=disk,format=qcow2"
    argv += ["-drive", f"{drive},cache=unsafe,discard=unmap", "-device"]
    argv += [f"{disk},drive=disk,bootindex=1"]
    for unit, (name, path) in enumerate((("setup", machine.medium), ("answers", machine.answers))):
        drive = f"file={_option(path)},if=none,id={name},format=raw,readonly=on"
        boot = ",bootindex=2" if name == "setup" else ""
        argv += ["-drive", drive, "-device", f"ide-cd,bus=ide.1,unit={unit},drive={name}{boot}"]
    return argv


def install(machine: Machine, limits: Limits, say: Callable[[str], None], screenshot: Path) -> Seen:
    """Start, and wait until the guest has switched itself off and said that all was done.

    ImageError in one line where it does not; a screenshot (PNG) is then kept where the screen can tell why.
    """
    need("qemu-system-x86_64")
    machine.console.touch()
    ours, its = socket.socketpair()
    argv = command(machine, its.fileno())
    with ours, its, spawned(argv, pass_fds=[its.fileno()]) as qemu:
        its.close()  # now QEMU's alone: its end is seen at ours
        try:
            qmp = Qmp(ours)
        except QmpGoneError:
            wait_for(qemu.poll, Deadline.after(END_S), 0.05)
            raise ImageError(f"QEMU does not start: {_words(qemu)}") from None
        seen = _watched(qmp, limits, say, screenshot)
        ours.close()
        if wait_for(qemu.poll, Deadline.after(END_S), 0.05) is None:
            raise ImageError("the machine is off, but QEMU does not end")
        if qemu.returncode != 0 or not seen.off:
            raise ImageError(f"QEMU ended with status {qemu.returncode}: {_words(qemu)}")
    return seen


def reported(console: bytes) -> dict[str, str]:
    """What the script of the first logon said; ImageError where it failed or never came so far."""
    marker = MARKER.search(console)
    if marker is None:
        raise ImageError(
            "it went off, but the script of the first logon never reported its end",
            hint="was the installation broken off?",
        )
    text = printable(marker[2].decode("utf-8", "replace"))
    if marker[1] == b"failed":
        raise ImageError(f"the script of the first logon failed {text[:160]}")
    pairs = [word.partition("=") for word in text.split()]
    return {k: v for k, _, v in pairs if VALUE.fullmatch(k) and VALUE.fullmatch(v)}


def _watched(qmp: Qmp, limits: Limits, say: Callable[[str], None], screenshot: Path) -> Seen:
    """Until the machine is off; the limits end it otherwise."""
    seen, begin = Seen(), time.monotonic()
    wrote, told = begin, begin
    qmp.execute("cont")
    while True:
        try:
            for event in qmp.take_events(limits.poll_s):
                if _is_over(event, seen, limits, say):
                    return seen
            written = _written(qmp)
        except QmpGoneError:
            return seen
        now = time.monotonic()
        if written != seen.written:
            seen.written, wrote = written, now
        if now - begin > limits.whole_s:
            raise _given_up(qmp, screenshot, f"is not off after {minutes(limits.whole_s)}", seen)
        if now - wrote > limits.idle_s:
            why = f"has written nothing for {minutes(limits.idle_s)}: does it ask something?"
            raise _given_up(qmp, screenshot, why, seen)
        if now - told > limits.tell_s:
            told = now
            say(f"{minutes(now - begin)}: {_progress(seen)}")


def _is_over(event: dict[str, Any], seen: Seen, limits: Limits, say: Callable[[str], None]) -> bool:
    """Take an event in; whether it is the machine's end."""
    data = event.get("data")
    by_guest = isinstance(data, dict) and data.get("guest") is True
    if event["event"] == "RESET" and by_guest and _is_new(event, seen):
        seen.restarts += 1
        say(f"restarted ({seen.restarts})")
        if seen.restarts > limits.restarts:
            raise ImageError(
                f"the machine has restarted {seen.restarts} times: it never comes up",
                hint="is the medium whole, and for this machine?",
            )
    if event["event"] == "BLOCK_IO_ERROR" and isinstance(data, dict):
        reason = printable(str(data.get("reason", "")))[:80]
        raise ImageError(
            f"{data.get('device')}: {data.get('operation')} fails on the host: {reason}",
            hint="is there room for the disk, and is the medium whole?",
        )
    if event["event"] == "SHUTDOWN":
        seen.off = by_guest
        return True
    return False


def _is_new(event: dict[str, Any], seen: Seen) -> bool:
    """SeaBIOS resets the machine up to five times within a moment for each restart."""
    at = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
    if at - seen.restarted_at < ONE_RESTART_S:
        return False
    seen.restarted_at = at
    return True


def _written(qmp: Qmp) -> int:
    for device in qmp.execute("query-blockstats"):
        if device.get("device") == "disk":
            return int(device["stats"]["wr_bytes"])
    return 0


def _given_up(qmp: Qmp, screenshot: Path, why: str, seen: Seen) -> ImageError:
    try:
        qmp.execute("screendump", filename=str(screenshot), format="png")
        hint = f"its screen: {screenshot}"
    except ImageError:
        hint = "there is no picture of its screen"
    return ImageError(f"the machine {why} ({_progress(seen)})", hint=hint)


def _progress(seen: Seen) -> str:
    times = {0: "not restarted yet", 1: "restarted once"}
    said = times.get(seen.restarts, f"restarted {seen.restarts} times")
    gib = seen.written >= 1 << 30
    size = f"{seen.written / (1 << 30):.1f} GiB" if gib else f"{seen.written >> 20} MiB"
    return f"{size} written, {said}"


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _words(qemu: subprocess.Popen[bytes]) -> str:
    said = qemu.stdout.read() if qemu.stdout and qemu.poll() is not None else b""
    return "".join(last_lines(said, 1)) or "it said nothing"


def _kvm(machine: Machine) -> bool:
    return machine.accel is Accel.KVM


def _option(path: Path) -> str:
    """A path as value of a QEMU option, where a comma is written twice."""
    return str(path).replace(",", ",,")

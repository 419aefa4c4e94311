"""The commands that measure a change again: the figure as it was, and what changed side against side."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from virtproof.history.intake import NETWORK_TOOLS

# A side's files are the user's: a history knows versions, and not where they lie.
_FILES = {
    "kernel": "kernel={0}/vmlinuz,initrd={0}/initrd",
    "qemu": "qemu={0}/qemu-system-x86_64",
}
_BUSES = ("ide", "sata", "virtio-scsi")  # of the throughput suite
_OURS = "suites/throughput/"


def measured(config: Mapping[str, Any]) -> str:
    """The run whose sessions a configuration's are; that it is no quick one, which is no history."""
    profile = config["profile"] if config["profile"] != "quick" else "nightly"
    command = ["./run", "conformance", config["test"], "--throughput", profile]
    return shlex.join([*command, "--image", config["image"], "--accel", config["accel"]])


def compared(config: Mapping[str, Any], subject: str, was: str, now: str) -> str | None:
    """``./run compare`` of what was and what is tracked, on the same device and job.

    Of kernels and QEMUs the user must put in the directory for the version that stands there. None where the
    two are the same, and for what ``compare`` has no name for: a test or a variant of a disk of one's own.
    """
    device = _device(config)
    if was == now or not (_plain(was) and _plain(now)):
        return None
    if device is None or not str(config["test"]).startswith(_OURS):
        return None
    sides = []
    for flag, value in (("--a", was), ("--b", now)):
        parts = [_FILES[subject].format(value) if subject in _FILES else f"{subject}={value}"]
        parts += [f"image={config['image']}"] if subject != "image" else []
        sides += [flag, ",".join([*parts, *device])]
    job = str(config["name"]).partition(".")[0]  # what follows is one of its figures
    return shlex.join(["./run", "compare", *sides, "--workload", job, "--accel", config["accel"]])


def _plain(value: str) -> bool:
    """Whether a side can be written with it: a kernel's version is what a guest says of itself."""
    return re.fullmatch(r"[\w.+~:@-]+", value) is not None


def _device(config: Mapping[str, Any]) -> list[str] | None:
    """The side's field for what was measured; a side that names nothing is on virtio."""
    name = str(config["device"])
    if name in ("virtio", "plain"):
        return []
    if config["tool"] in NETWORK_TOOLS:
        return None if "(" in name else [f"nic={name}"]
    return [f"data.bus={name}"] if name in _BUSES else None

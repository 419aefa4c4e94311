"""UEFI for a guest that bare QEMU boots: found by the descriptors that distributions install for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import MissingToolError

# In QEMU's order: the administrator's descriptors go before the distribution's.
PLACES = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
UNWANTED = {"enrolled-keys", "requires-smm", "secure-boot"}


@dataclass(frozen=True, slots=True)
class Firmware:
    """Two images of flash: the code, and what a guest's variables are copied from."""

    code: Path
    variables: Path


def find(places: tuple[Path, ...] = PLACES) -> Firmware:
    """Plain UEFI for x86-64 on q35, without Secure Boot. Raises MissingToolError where there is none."""
    files: dict[str, Path] = {}
    for place in places:
        for path in place.glob("*.json"):
            files.setdefault(path.name, path)
    for _, path in sorted(files.items()):
        try:
            found = _plain(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, LookupError, TypeError):
            continue  # another's mistake, and another descriptor may do
        if found is not None and found.code.exists() and found.variables.exists():
            return found
    raise MissingToolError("no UEFI firmware for guests is installed", hint="apt install ovmf")


def _plain(told: dict[str, Any]) -> Firmware | None:
    """What a descriptor describes, if it is what we want (its format: QEMU's firmware.json)."""
    mapping = told["mapping"]
    fits = any(
        target["architecture"] == "x86_64" and any("q35" in name for name in target["machines"])
        for target in told["targets"]
    )
    split = mapping["device"] == "flash" and mapping.get("mode", "split") == "split"
    if "uefi" not in told["interface-types"] or not fits or not split:
        return None
    code, variables = mapping["executable"], mapping["nvram-template"]
    if UNWANTED & set(told["features"]) or {code["format"], variables["format"]} != {"raw"}:
        return None
    return Firmware(Path(code["filename"]), Path(variables["filename"]))

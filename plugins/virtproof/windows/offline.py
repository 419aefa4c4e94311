"""Reading a Windows image in a process with bounds: an image of a user's is hostile until it was read.

As a program it is given the UNIX socket of a qemu-nbd, and prints one JSON object: facts, or ``error`` and
``hint``. Nothing of the image is written, and it is never opened but through that read-only server.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError
from virtproof.windows.bootstart import STORAGE_IDS
from virtproof.windows.hives import Hive
from virtproof.windows.nbd import NbdDisk
from virtproof.windows.volumes import Windows, windows_on

MEMORY_BYTES = 4 << 30
CPU_S = 120
CONFIG = "/Windows/System32/config/"
CURRENT_VERSION = r"Microsoft\Windows NT\CurrentVersion"
VERSION_VALUES = {
    "ProductName": "product",
    "CurrentVersion": "version",
    "CurrentBuild": "build",
    "CurrentMajorVersionNumber": "major",
    "CurrentMinorVersionNumber": "minor",
    "EditionID": "edition",
    "InstallationType": "installation",
}
SERVICE_VALUES = ("Start", "Type", "ErrorControl", "Group", "ImagePath")


def read(disk: NbdDisk) -> dict[str, Any]:
    """The facts of the Windows on a disk, as ``image.WindowsFacts`` takes them."""
    windows = windows_on(disk)
    system = _hive(windows, "SYSTEM")
    software = _hive(windows, "SOFTWARE")
    control = _control_set(system)
    version = software.values(CURRENT_VERSION)
    facts: dict[str, Any] = {key: version.get(name.lower()) for name, key in VERSION_VALUES.items()}
    environment = system.values(rf"{control}\Control\Session Manager\Environment")
    facts |= {
        "architecture": environment.get("processor_architecture"),
        "volume": windows.volume.number,
        "dirty": windows.dirty,
        "hibernated": windows.hibernated,
        "unfinished": [hive.name for hive in (system, software) if hive.unfinished],
        "control_set": control,
        "services": {name: _service(windows, system, control, name) for name in STORAGE_IDS},
        "critical": _critical(system, control),
        "database": _database(system),
        "packages": system.names(r"DriverDatabase\DriverPackages"),
    }
    return facts


def _hive(windows: Windows, name: str) -> Hive:
    data = windows.file(CONFIG + name)
    if data is None:
        raise ImageError(f"Windows has no {CONFIG}{name}", hint="is the installation whole?")
    return Hive(name, data)


def _control_set(system: Hive) -> str:
    """The key that the boot loader takes: ``ControlSet001``, as ``Select`` says."""
    current = system.value("Select", "Current")
    if not isinstance(current, int) or not 0 < current < 1000:
        raise ImageError(f"hive SYSTEM: Select has no Current: {current!r}")
    return f"ControlSet{current:03}"


def _service(windows: Windows, system: Hive, control: str, name: str) -> dict[str, Any] | None:
    path = rf"{control}\Services\{name}"
    if not system.has(path):
        return None
    values = system.values(path)
    found: dict[str, Any] = {key.lower(): values.get(key.lower()) for key in SERVICE_VALUES}
    found["start_override"] = system.values(rf"{path}\StartOverride")
    image = found["imagepath"]
    found["file"] = isinstance(image, str) and windows.exists(driver_file(image))
    return found


def driver_file(image_path: str) -> str:
    """Where a service's ImagePath lies on its volume: it is relative to the folder of Windows."""
    path = image_path.replace("\\", "/").lower().lstrip("/")
    path = path.removeprefix("systemroot/").removeprefix("%systemroot%/")
    return "/" + path if path.startswith("windows/") else "/Windows/" + path


def _critical(system: Hive, control: str) -> dict[str, str]:
    """CriticalDeviceDatabase (Windows 7): id in lower case -> service, virtio's only."""
    base = rf"{control}\Control\CriticalDeviceDatabase"
    names = [name for name in system.names(base) if "ven_1af4" in name.lower()]
    return {name.lower(): str(system.value(rf"{base}\{name}", "Service") or "") for name in names}


def _database(system: Hive) -> dict[str, list[str]]:
    """DriverDatabase (Windows 8 and later): id in lower case -> the INFs that claim it, virtio's only."""
    base = r"DriverDatabase\DeviceIds\PCI"
    names = [name for name in system.names(base) if name.lower().startswith("ven_1af4")]
    return {name.lower(): sorted(system.values(rf"{base}\{name}")) for name in names}


def main(socket: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    logging.disable(logging.CRITICAL)  # the libraries log what they find odd
    try:
        disk = NbdDisk(Path(socket))
        facts = read(disk)
        disk.close()
    except ImageError as error:
        facts = {"error": error.what, "hint": error.hint}
    except (MemoryError, RecursionError) as error:
        facts = {"error": f"reading it takes more than it may: {type(error).__name__}", "hint": ""}
    json.dump(facts, sys.stdout, default=str)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

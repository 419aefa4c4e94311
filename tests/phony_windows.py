"""Disks that look like a Windows that is switched off: NTFS with registry hives, and no Windows on them.

The hives are written here, cell by cell (libhivex's own tools read them in a test); the file system is
made by mkntfs and filled by wimlib, neither of which needs a mount.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NONE = 0xFFFFFFFF
SZ, EXPAND_SZ, BINARY, DWORD, MULTI_SZ = 1, 2, 3, 4, 7
MIB = 1 << 20
TOOLS = {"mkntfs": "ntfs-3g", "wimlib-imagex": "wimtools", "qemu-nbd": "qemu-utils"}
# A key is a dict: names to values (int, str, bytes, list of str) or to further keys.
Key = Mapping[str, Any]


def missing_tools() -> str:
    """Packages that are needed and not there, for a skip's reason."""
    lacks = [
        package
        for program, package in TOOLS.items()
        if not (shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin"))
    ]
    return " ".join(lacks)


class _Writer:
    def __init__(self) -> None:
        self.cells = bytearray()

    def cell(self, body: bytes) -> int:
        """Place of the new cell, counted from the first hbin."""
        size = -(-(len(body) + 4) // 8) * 8
        at = 32 + len(self.cells)
        self.cells += struct.pack("<i", -size) + body.ljust(size - 4, b"\0")
        return at

    def value(self, name: str, value: Any) -> int:
        kind, data = _encoded(value)
        if len(data) <= 4:
            size, place = len(data) | 0x80000000, struct.unpack("<I", data.ljust(4, b"\0"))[0]
        else:
            size, place = len(data), self.cell(data)
        head = struct.pack("<2sHIIIHH", b"vk", len(name), size, place, kind, 1, 0)
        return self.cell(head + name.encode("ascii"))

    def key(self, name: str, content: Key, security: int, at: int = 0) -> int:
        """A key and all below it. ``at``: where it shall lie, reserved before; only the root's is."""
        subkeys = {k: v for k, v in content.items() if isinstance(v, Mapping)}
        values = [self.value(k, v) for k, v in content.items() if not isinstance(v, Mapping)]
        places = [(k, self.key(k, v, security)) for k, v in sorted(subkeys.items(), key=_order)]
        listed = NONE
        if places:
            leaf = b"".join(struct.pack("<I4s", place, k[:4].encode()) for k, place in places)
            listed = self.cell(struct.pack("<2sH", b"lf", len(places)) + leaf)
        held = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NONE
        body = (
            struct.pack("<2sHQII", b"nk", 0x2C if at else 0x20, 0, 0, NONE)
            + struct.pack("<IIII", len(places), 0, listed, NONE)
            + struct.pack("<IIII", len(values), held, security, NONE)
            + struct.pack("<IIIIIHH", 512, 0, 512, 4096, 0, len(name), 0)
            + name.encode("ascii")
        )
        if at:
            self.cells[at - 32 + 4 : at - 32 + 4 + len(body)] = body
        else:
            at = self.cell(body)
        for _, child in places:  # a key knows its parent
            struct.pack_into("<I", self.cells, child - 32 + 4 + 16, at)
        return at


def _order(item: tuple[str, Any]) -> str:
    return item[0].upper()


def _encoded(value: Any) -> tuple[int, bytes]:
    if isinstance(value, int):
        return DWORD, struct.pack("<I", value)
    if isinstance(value, bytes):
        return BINARY, value
    if isinstance(value, list):
        return MULTI_SZ, ("\0".join(value) + "\0\0").encode("utf-16-le")
    kind = EXPAND_SZ if "%" in value else SZ
    return kind, (value + "\0").encode("utf-16-le")


def hive(content: Key, *, unfinished: bool = False) -> bytes:
    """A registry hive, format 1.3. ``unfinished``: its two sequence numbers differ."""
    writer = _Writer()
    root = writer.cell(bytes(76 + len("ROOT")))  # the first: regipy takes it from there
    at = 32 + len(writer.cells)  # a security cell points at itself
    descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
    links = struct.pack("<2sHIIII", b"sk", 0, at, at, 1, len(descriptor))
    writer.key("ROOT", content, writer.cell(links + descriptor), root)
    size = -(-(32 + len(writer.cells) + 8) // 4096) * 4096
    rest = size - 32 - len(writer.cells)
    bins = struct.pack("<4sIIQQI", b"hbin", 0, size, 0, 0, 0) + writer.cells
    bins += struct.pack("<i", rest).ljust(rest, b"\0")
    head = bytearray(4096)
    struct.pack_into("<4sIIQ", head, 0, b"regf", 2, 1 if unfinished else 2, 0)
    struct.pack_into("<7I", head, 20, 1, 3, 0, 1, root, size, 1)
    check = 0
    for (word,) in struct.iter_unpack("<I", head[:508]):
        check ^= word
    struct.pack_into("<I", head, 508, check)
    return bytes(head + bins)


def registry(
    version: str = "10.0",
    build: int = 19045,
    product: str = "Windows 10 Pro",
    architecture: str = "AMD64",
    services: Key | None = None,
    critical: Key | None = None,
    devices: Key | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """SYSTEM and SOFTWARE as far as anybody asks. ``devices``: below DriverDatabase's DeviceIds\\PCI."""
    major, minor = version.split(".")
    current: dict[str, Any] = {
        "ProductName": product,
        "CurrentVersion": version if version == "6.1" else "6.3",
        "CurrentBuild": str(build),
        "CurrentBuildNumber": str(build),
        "EditionID": "Professional",
        "InstallationType": "Client",
        "SystemRoot": "C:\\Windows",
    }
    if version != "6.1":
        current |= {
            "CurrentMajorVersionNumber": int(major),
            "CurrentMinorVersionNumber": int(minor),
        }
    environment = {"PROCESSOR_ARCHITECTURE": architecture}
    control = {
        "Session Manager": {"Environment": environment},
        "CriticalDeviceDatabase": critical or {},
    }
    system: dict[str, Any] = {
        "Select": {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 1},
        "ControlSet001": {"Control": control, "Services": services or {"disk": {"Start": 0}}},
    }
    if version != "6.1":
        system["DriverDatabase"] = {"DeviceIds": {"PCI": devices or {}}}
    return system, {"Microsoft": {"Windows NT": {"CurrentVersion": current}}}


def installed(executable: bytes, **fields: Any) -> dict[str, bytes]:
    """Files of an installation as far as virt-v2v looks: ``executable`` stands for each of its programs."""
    system, software = registry(**fields)
    software["Microsoft"]["Windows"] = {"CurrentVersion": {"DevicePath": "%SystemRoot%\\inf"}}
    system["MountedDevices"] = {"\\DosDevices\\C:": bytes(12)}
    if "DriverDatabase" in system:
        system["DriverDatabase"] |= {"DriverInfFiles": {}, "DriverPackages": {}}
    folders = ("Program Files", "Users", "Windows/Temp", "Windows/inf", "Windows/System32/drivers")
    return {
        "Windows/System32/config/SYSTEM": hive(system),
        "Windows/System32/config/SOFTWARE": hive(software),
        "Windows/System32/cmd.exe": executable,
        "Windows/explorer.exe": executable,
        **{f"{folder}/desktop.ini": b"" for folder in folders},
    }


def disk(
    path: Path, files: Mapping[str, bytes], size_mib: int = 48, *, dirty: bool = False
) -> Path:
    """A raw disk with one NTFS partition that holds ``files`` (``Windows/System32/config/SYSTEM`` ...)."""
    tree, volume = path.with_suffix(".tree"), path.with_suffix(".ntfs")
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    with volume.open("wb") as file:
        file.truncate((size_mib - 1) * MIB)
    geometry = ["-H", "255", "-S", "63", "-p", "2048", "-s", "512"]
    _run("mkntfs", "-F", "-q", "-f", *geometry, str(volume))
    image = path.with_suffix(".wim")
    nothing = path.with_suffix(".exclusions")  # by itself it leaves out hiberfil.sys
    nothing.write_text("[ExclusionList]\n")
    options = ("--compress=none", f"--config={nothing}")
    _run("wimlib-imagex", "capture", str(tree), str(image), *options)
    _run("wimlib-imagex", "apply", str(image), "1", str(volume))
    if dirty:
        _mark_dirty(volume)
    _partitioned(path, volume, size_mib)
    for left in (volume, image, nothing):
        left.unlink()
    shutil.rmtree(tree)
    return path


def _mark_dirty(volume: Path) -> None:
    """Set the flag of $Volume, which is the fourth record of the MFT, in its attribute 0x70."""
    with volume.open("r+b") as file:
        boot = file.read(512)
        (cluster,) = struct.unpack_from("<Q", boot, 0x30)
        at = cluster * boot[13] * struct.unpack_from("<H", boot, 11)[0] + 3 * 1024
        file.seek(at)
        record = file.read(1024)
        (inner,) = struct.unpack_from("<H", record, 20)
        while struct.unpack_from("<I", record, inner)[0] != 0x70:
            inner += struct.unpack_from("<I", record, inner + 4)[0]
        file.seek(at + inner + struct.unpack_from("<H", record, inner + 20)[0] + 10)
        file.write(b"\1\0")


def _partitioned(path: Path, volume: Path, size_mib: int) -> None:
    sectors = (size_mib - 1) * 2048
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 7, b"\xfe\xff\xff", 2048, sectors)
    record = bytearray(512)
    record[446:462] = entry
    record[510:512] = b"\x55\xaa"
    with path.open("wb") as out, volume.open("rb") as file:
        out.write(record)
        out.seek(MIB)
        shutil.copyfileobj(file, out)


def _run(*command: str) -> None:
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program, command[0]
    subprocess.run([program, *command[1:]], check=True, capture_output=True)

"""Installation ISOs that look like Windows' own, and have no Windows on them.

The list of editions is wimlib's work; the ISO is xorriso's, or with ``udf`` pycdlib's (Microsoft's are UDF).
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pycdlib

CODE = Path(__file__).parent / "data/windows"
BLOCK, TABLE = 2048, struct.Struct("<IIH")
GAP, LARGEST = 32, 60_000  # blocks
# How an installation may end; what stands in phony-setup.S and phony-boot.S.
WHOLE, SETUP_EMPTY, SETUP_STANDS = 0, 1, 2
BOOT_STANDS, BOOT_RESTARTS, BOOT_SILENT, BOOT_FAULT = 1, 2, 3, 4
TOOLS = {
    "as": "binutils",
    "wimlib-imagex": "wimtools",
    "xorriso": "xorriso",
    "osinfo-install-script": "libosinfo-bin",
}
# Name, Windows' own word, build, client or server
WINDOWS_10 = (
    ("Windows 10 Home", "Core", 19041, "Client"),
    ("Windows 10 Pro", "Professional", 19041, "Client"),
)
WINDOWS_11 = (
    ("Windows 11 Home", "Core", 26100, "Client"),
    ("Windows 11 Pro", "Professional", 26100, "Client"),
)
SERVER_2022 = (
    ("Windows Server 2022 SERVERSTANDARDCORE", "ServerStandard", 20348, "Server Core"),
    ("Windows Server 2022 SERVERSTANDARD", "ServerStandard", 20348, "Server"),
)
Editions = Sequence[tuple[str, str, int, str]]


def missing_tools() -> str:
    """Packages that are needed and not there, for a skip's reason."""
    return " ".join(package for program, package in TOOLS.items() if not shutil.which(program))


def wim(
    path: Path, editions: Editions = WINDOWS_10, *, arch: int = 9, language: str = "en-US"
) -> bytes:
    """An install.wim with these editions, each of one small file."""
    tree = path.with_suffix(".files")
    tree.mkdir()
    (tree / "explorer.exe").write_bytes(b"MZ")
    for name, word, build, kind in editions:
        facts = {
            "ARCH": arch,
            "EDITIONID": word,
            "INSTALLATIONTYPE": kind,
            "LANGUAGES/LANGUAGE": language,
            "LANGUAGES/DEFAULT": language,
            "VERSION/MAJOR": 10,
            "VERSION/MINOR": 0,
            "VERSION/BUILD": build,
        }
        said = [f"--image-property=WINDOWS/{key}={value}" for key, value in facts.items()]
        action = "append" if path.exists() else "capture"
        subprocess.run(
            ["wimlib-imagex", action, tree, path, name, *said], check=True, capture_output=True
        )
    shutil.rmtree(tree)
    return path.read_bytes()


def iso(
    path: Path,
    files: dict[str, bytes],
    *,
    label: str = "CCCOMA_X64FRE_EN-US_DV9",
    boot: bytes | None = b"\xf4" * 2048,
    udf: bool = False,
) -> Path:
    """An ISO with these files, by their paths; ``boot``: what a BIOS starts (None: it has no such record)."""
    if udf:
        return _udf(path, files, label, boot)
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    options = []
    if boot is not None:
        (tree / "boot").mkdir(exist_ok=True)
        (tree / "boot/etfsboot.com").write_bytes(boot)
        options = ["-b", "boot/etfsboot.com", "-no-emul-boot", "-boot-load-size", "8"]
        options += ["-boot-info-table"]
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", *options, "-V", label]
    subprocess.run([*command, "-o", path, tree], check=True, capture_output=True)
    shutil.rmtree(tree)
    return path


def _udf(path: Path, files: dict[str, bytes], label: str, boot: bytes | None) -> Path:
    """As Microsoft's: all in UDF, of which the ISO 9660 tree knows nothing but a note."""
    new = pycdlib.PyCdlib()
    new.new(interchange_level=4, udf="2.60", vol_ident=label)
    made = set()
    for number, (name, content) in enumerate(files.items()):
        folders = name.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            folder = "/" + "/".join(folders[:depth])
            if folder not in made:
                new.add_directory(udf_path=folder)
                made.add(folder)
        new.add_fp(io.BytesIO(content), len(content), f"/F{number}", udf_path=f"/{name}")
        new.rm_hard_link(iso_path=f"/F{number}")
    if boot is not None:
        new.add_fp(io.BytesIO(boot), len(boot), "/ETFSBOOT.COM")
        new.add_eltorito("/ETFSBOOT.COM", bootcatfile="/BOOT.CAT")
    new.write(str(path))
    new.close()
    return path


def header(
    tag: bytes = b"MSWIM\0\0\0",
    *,
    at: int = 208,
    size: int = 0,
    part: int = 1,
    parts: int = 1,
    flags: int = 2,
) -> bytes:
    """A WIM's header by hand, with its XML at that place."""
    head = struct.pack("<8sIIII16sHHI", tag, 208, 0x10D00, 0, 32768, bytes(16), part, parts, 1)
    xml = size.to_bytes(7, "little") + bytes([flags]) + struct.pack("<QQ", at, size)
    return (head + bytes(24) + xml + bytes(24) + bytes(4) + bytes(24)).ljust(208, b"\0")


def listed(xml: str, **fields: int) -> bytes:
    """A WIM of nothing but a header and that list."""
    raw = b"\xff\xfe" + xml.encode("utf-16-le")
    return header(size=len(raw), **fields) + raw


def assembled(name: str, mode: int, folder: Path) -> bytes:
    """Code of 16 bits that a BIOS loads at 0x7c00."""
    made, code = folder / f"{name}-{mode}.o", folder / f"{name}-{mode}.bin"
    source = CODE / f"{name}.S"
    subprocess.run(["as", "--32", "--defsym", f"MODE={mode}", "-o", made, source], check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o", code, made]
    subprocess.run(link, check=True)
    return code.read_bytes()


def installer(folder: Path, disk: Path, *, setup: int = WHOLE, boot: int = WHOLE) -> bytes:
    """What an El Torito BIOS starts to install ``disk`` (raw), whose boot record becomes ours.

    ``setup``, ``boot``: how the installation, and the installed disk, behave.
    """
    raw = bytearray(disk.read_bytes())
    record = assembled("phony-boot", boot, folder)
    raw[: len(record)] = record
    code, table, data = assembled("phony-setup", setup, folder), b"", b""
    for begin, end in _extents(raw):
        place = 2 + len(data) // BLOCK
        table += TABLE.pack(place, begin * 4, end - begin)
        data += raw[begin * BLOCK : end * BLOCK]
    assert len(table) < BLOCK - TABLE.size, "too many extents"
    return code + table.ljust(BLOCK, b"\0") + data


def _extents(raw: bytearray) -> list[tuple[int, int]]:
    """Blocks that are not zero, from one to before another; small gaps are written, too."""
    found: list[tuple[int, int]] = []
    for number in range(len(raw) // BLOCK):
        if not any(raw[number * BLOCK : (number + 1) * BLOCK]):
            continue
        if found and number - found[-1][1] < GAP and number - found[-1][0] < LARGEST:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found

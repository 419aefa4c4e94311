"""Kernel files as tests need them: modules with virtio drivers, made by the machine's compiler."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

# The layout of Linux's structures: what stands before the tables has another size in each kernel.
SOURCE = """
struct id { unsigned device, vendor; };
struct driver {
  const char *name; char before[%(before)d];
  const struct id *ids; const unsigned *features; unsigned count;
  const unsigned *legacy; unsigned legacy_count; void *probe;
};
int probe(void) { return 0; }
static const struct id ids[] = { {%(device)d, 0xffffffff}, {0, 0} };
static unsigned features[] = { %(features)s };
static unsigned legacy[] = { %(legacy)s };
static struct driver it = { .name = "%(name)s", .ids = ids,
  .features = features, .count = sizeof features / 4,
  .legacy = %(has)s ? legacy : 0, .legacy_count = %(has)s ? sizeof legacy / 4 : 0, .probe = probe };
struct driver *used(void) { return &it; }
/* Tables that look alike and are none: of PCI devices, and one that no end has. */
static const struct id pci[] = { {0x1af4, 0x1000}, {0x1af4, 0x1041}, {0, 0} };
struct driver other = { .name = "pci", .ids = pci, .features = features, .count = 2 };
"""


def module(
    folder: Path,
    name: str = "virtio_net",
    device: int = 1,
    features: tuple[int, ...] = (5, 16, 17),
    legacy: tuple[int, ...] | None = (5,),
    before: int = 120,
) -> bytes:
    """A kernel module (ELF64, relocatable) with one virtio driver; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    text = SOURCE % {
        "name": name,
        "device": device,
        "before": before,
        "features": ", ".join(map(str, features)),
        "legacy": ", ".join(map(str, legacy or (0,))),
        "has": int(legacy is not None),
    }
    source, made = folder / f"{name}.c", folder / f"{name}.ko"
    source.write_text(text)
    subprocess.run([compiler, "-c", "-O1", "-fno-pie", "-o", str(made), str(source)], check=True)
    return made.read_bytes()


def bzimage(release: str, inside: bytes = b"", *, bits: int = 64) -> bytes:
    """A bzImage as far as its header goes, with ``inside`` packed as its kernel."""
    payload = lzma.compress(inside)
    head = bytearray(1024)
    head[0x1F1] = 1  # sectors of set-up code behind the first
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    text = f"{release} (me@here) #1 SMP\0".encode()
    head[0x280 : 0x280 + len(text)] = text
    struct.pack_into("<H", head, 0x20E, 0x80)
    struct.pack_into("<H", head, 0x236, int(bits == 64))
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    return bytes(head) + payload


def package(tree: Path, name: str, architecture: str = "amd64") -> Path:
    """A Debian package of a tree; skips where the machine cannot make one."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb: install dpkg")
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    fields = f"Package: {name}\nVersion: 1\nArchitecture: {architecture}\n"
    (tree / "DEBIAN/control").write_text(f"{fields}Maintainer: x <x@y>\nDescription: x\n")
    made = tree.parent / f"{name}.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(made)]
    subprocess.run(argv, check=True, capture_output=True)
    return made

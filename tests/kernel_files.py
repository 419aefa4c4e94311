"""Kernel files as tests need them: modules with virtio drivers, made by the machine's compiler."""

from __future__ import annotations

import shutil
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

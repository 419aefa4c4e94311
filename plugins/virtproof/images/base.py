"""From a catalog entry to a base image: the recipes run, their progress told, their log kept."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from virtproof import host
from virtproof.errors import ImageError
from virtproof.images import lvm, namespace
from virtproof.images.catalog import catalog_dir
from virtproof.images.child import need, spawned
from virtproof.images.entry import BuildEntry
from virtproof.images.sources import Source

RECIPE_DEADLINE_S = 1800
LOG = "build.log"
ROOTFS = "rootfs.tar"
# What the machine's own apt is told about reaching its sources holds for ours as well.
INHERITED = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")


def recipes() -> Path:
    """The directory of the recipes (POSIX sh)."""
    return catalog_dir() / "recipes"


def apt_options() -> list[str]:
    """The machine's apt options that matter for its sources (proxies, dates), a line each."""
    if host.find_program("apt-config") is None:
        return []
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, check=False, timeout=60)
    lines = dump.stdout.decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.startswith(INHERITED) and not line.endswith(' "";')]


def rootfs(
    entry: BuildEntry, sources: list[Source], scratch: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Make ``rootfs.tar`` in ``scratch``: the entry's packages without a kernel. Returns its facts."""
    need("mmdebstrap", "tar")
    namespace.check()
    (scratch / "virtproof.sources").write_text("\n".join(s.stanza() for s in sources))
    (scratch / "apt-options").write_text("\n".join(apt_options()) + "\n")
    environment = {
        **{k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")},
        "VP_ARCH": entry.architecture,
        "VP_SUITE": entry.suite,
        "VP_PACKAGES": ",".join(entry.all_packages),
        "VP_SOURCES": str(scratch / "virtproof.sources"),
        "VP_APTOPTS": str(scratch / "apt-options"),
    }
    _run_recipe(entry, "rootfs", environment, scratch, progress)
    _keep_only(scratch, ROOTFS)
    return {"suite": entry.suite}


def image(
    entry: BuildEntry,
    rootfs: Path,
    packages: Path,
    scratch: Path,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Make ``disk.raw`` in ``scratch`` of a packed root filesystem and a directory of a kernel's packages.

    Returns the recipe's facts: ``kernel`` (release), ``root_uuid``, and ``drivers``, those of the entry's
    that this kernel has.
    """
    need("mke2fs", "sfdisk", "tar", "qemu-img", *(["mformat"] if entry.firmware == "uefi" else []))
    namespace.check()
    environment = {
        "VP_ROOTFS": str(rootfs),
        "VP_KERNEL": str(packages),
        "VP_TOOL": entry.tool,
        "VP_DRIVERS": " ".join(entry.drivers),
        "VP_MODULES_LATER": entry.modules_later,
        "VP_FIRMWARE": entry.firmware,
        "VP_TABLE": entry.table,
        "VP_ROOT_TYPE": entry.root,
        "VP_SIZE_MIB": str(entry.size_mib),
        "VP_HOSTNAME": "guest",
    }
    _run_recipe(entry, "image", environment, scratch, progress)
    if entry.root == "lvm":
        begin, size, root = map(int, (scratch / "volume").read_text(encoding="ascii").split())
        lvm.write(scratch / "disk.raw", lvm.Volume(begin, size, root))
    facts = json.loads((scratch / "facts.json").read_text(encoding="utf-8"))
    return {str(key): value for key, value in facts.items()}


def _run_recipe(
    entry: BuildEntry,
    step: str,
    environment: dict[str, str],
    scratch: Path,
    progress: Callable[[str], None],
) -> None:
    script = ["timeout", str(RECIPE_DEADLINE_S), "sh", str(recipes() / "base.sh"), step]
    places = {"TMPDIR": scratch, "VP_OUT": scratch, "VP_WORK": scratch / "work"}
    environment = environment | {key: str(path) for key, path in places.items()}
    log = scratch / LOG
    argv = namespace.as_root(script)
    with log.open("wb") as kept, spawned(argv, env=environment) as child:
        if child.stdout is None:
            raise ImageError("the recipe has no output")
        for line in child.stdout:
            kept.write(line)
            if line.startswith(b"progress: "):
                progress(f"{entry.name}: {line[10:].decode('utf-8', 'replace').strip()}")
        status = child.wait()
    if status != 0:
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        raise ImageError(f"building {entry.name} failed: {_telling(said)}", detail=said)


def _keep_only(scratch: Path, name: str) -> None:
    for path in scratch.iterdir():
        if path.name != name:
            namespace.remove_tree(path)


def _telling(said: str) -> str:
    """The line of a build log that a person would look for."""
    lines = [line for line in said.splitlines() if not line.startswith(("progress: ", "I: "))]
    for mark in ("No space left", "E: ", "error", "Err:"):
        for line in lines:
            if mark in line:
                return line.strip()[:200]
    return lines[-1].strip()[:200] if lines else "it said nothing"

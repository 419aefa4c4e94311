"""The runs that are killed: short real ones, each with its own way of using guests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soaking.traces import Place
from virtproof.images.cache import WARM, Cache, read_manifest

IMAGE = "debian-12"
NEWEST = 2  # of an old cache's images and saved guests, of which the small disk cannot take dozens
DISKS_MIB = {"small": 1792, "large": 6144}  # those that are filled; a build needs the large one
TESTS = """
import os
import pytest
from virtproof.deadline import Deadline
from virtproof.guest.domain_xml import data_disk, text
from virtproof.spec import DataDisk, DiskBus, NicModel

@pytest.mark.parametrize("number", range(int(os.environ["SOAK_TESTS"])))
def test_a_disk_is_hot_added_and_keeps_what_is_written(guest_on, number):
    nic = NicModel(os.environ["SOAK_NIC"])
    guest = guest_on(nic=nic, memory_mib=int(os.environ["SOAK_MIB"]))
    disk = DataDisk(DiskBus.VIRTIO, "hot", size_mib=16)
    guest.domain.attach(text(data_disk(disk, guest.new_disk("hot", 16), "vdz", (0, 0))))
    found = guest.block.wait_for("hot", Deadline.after(10 * guest.scale))
    guest.runner.run("dd if=/dev/urandom of=/dev/%s bs=1M count=16 conv=fsync 2>&1", found.name)
    guest.runner.run("dd if=/dev/urandom of=/root/file bs=1M count=16 conv=fsync 2>&1")
    assert guest.address()
"""
WARM_SPEC = (
    f"{IMAGE}/pc/ide+virtio/tcg"  # of most runs: a saved guest is taken from the user's cache
)
LAB = ("unshare", "init", "lab-worker", "libvirtd", "dnsmasq", "qemu", "lab-session")
EVERYTHING = "everything"
DISK_FULL = "disk-full"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run. ``victims``: what can be killed in it; ``weight``: how often, against others."""

    name: str
    victims: tuple[str, ...]
    weight: float
    tests: int = 0
    workers: int = 0
    nic: str = "virtio"
    mib: int = 768
    disk: str = ""  # that can be filled; empty for the place of all others
    builds: bool = False
    end_s: float = 300.0  # after the kill


COPIES = Kind("copies", ("controller", *LAB, EVERYTHING), 8, tests=2)
WORKERS = Kind("workers", ("controller", "worker", *LAB, EVERYTHING), 8, tests=4, workers=2)
SAVE = Kind("save", ("controller", *LAB, EVERYTHING), 4, tests=1, nic="e1000", mib=256)
FULL = Kind("full", (DISK_FULL,), 8, tests=3, disk="small")
FULL_SAVE = Kind("full-save", (DISK_FULL,), 8, 1, 0, "e1000", 256, disk="small")
BUILD = Kind(
    "build", ("controller", "builder", "first-boot", "builder-session", EVERYTHING), 1, builds=True
)
FULL_BUILD = Kind("full-build", (DISK_FULL,), 1, disk="large", builds=True)
KINDS = (COPIES, WORKERS, SAVE, FULL, FULL_SAVE, BUILD, FULL_BUILD)
NEXT = Kind("next", (), 0, tests=1)  # what comes after, and must be green


def command(kind: Kind, place: Place, out: str = "out") -> list[str]:
    """The command of a run, started in ``place.work``."""
    if kind.builds:
        build = ["images", "build", IMAGE, "--cache", str(place.inside)]
        return [sys.executable, "-m", "virtproof", *build]
    words = ["-q", "-p", "no:cacheprovider", "--accel", "tcg", "--image", IMAGE, "--out", out]
    many = ["-n", str(kind.workers)] if kind.workers else []
    return [sys.executable, "-m", "pytest", *words, *many, "test_soaked.py"]


def environment(kind: Kind, place: Place) -> dict[str, str]:
    """The environment of a run: every place that it may write to is the soak's own."""
    own = {
        "VIRTPROOF_RUNTIME": str(place.runtime),
        "VIRTPROOF_CACHE": str(place.inside),
        "TMPDIR": str(place.tmp),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOAK_TESTS": str(kind.tests),
        "SOAK_NIC": kind.nic,
        "SOAK_MIB": str(kind.mib),
    }
    left = ("PYTEST_", "VIRTPROOF_")
    return {k: v for k, v in os.environ.items() if not k.startswith(left)} | own


def furnish(place: Place, of: Path, *kinds: str) -> None:
    """Make the directories of a soak; its cache gets copies of another cache's newest items."""
    for directory in (place.work, place.tmp, place.cache):
        directory.mkdir(parents=True, exist_ok=True)
    place.runtime.mkdir(mode=0o700, exist_ok=True)
    (place.work / "test_soaked.py").write_text(TESTS)
    (place.work / "pytest.ini").write_text("[pytest]\n")
    own = Cache(place.cache, print)
    for kind in kinds:
        (own.root / kind).mkdir(exist_ok=True)
        for item in _wanted(of, kind):
            target = own.root / kind / item.name
            shutil.copytree(item, target, ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(of / "ssh", place.cache / "ssh")  # an image knows the key of its cache


def _wanted(of: Path, kind: str) -> list[Path]:
    """The items of a cache that the runs can use: the newest, or all where nothing tells whose they are."""
    items = sorted(Cache(of, print).items(kind), key=lambda path: path.stat().st_mtime)
    facts = {item: read_manifest(item)["facts"] for item in items}
    whose = {"name": IMAGE, "spec": WARM_SPEC}
    if not any(whose.keys() & facts[item].keys() for item in items):
        return items
    return [i for i in items if all(facts[i].get(k, v) == v for k, v in whose.items())][-NEWEST:]


def forget_states(place: Place, kind: Kind) -> None:
    """Remove the saved guests of a kind of run, so that it makes them again."""
    cache = Cache(place.cache, print)
    for item in cache.items(WARM):
        if kind.nic in str(read_manifest(item)["facts"].get("spec")):
            cache.remove(item)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own in a mount namespace that a process holds; the host never sees it."""

    holder: int
    path: Path

    @property
    def outside(self) -> Path:
        """Where who is not in the namespace sees ``path``."""
        return Path(f"/proc/{self.holder}/root{self.path}")

    def enter(self, work: Path) -> list[str]:
        """The words before a command that is to see it."""
        return ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", f"--wd={work}", "--"]

    def fill(self) -> None:
        """Take all the room that is left."""
        with open(self.outside / "filler", "ab") as file:
            step = 64 << 20
            while step >= 4096:
                end = file.seek(0, os.SEEK_END)
                try:
                    os.posix_fallocate(file.fileno(), end, step)
                except OSError:
                    step //= 2

    def empty(self) -> None:
        """Give the room back."""
        (self.outside / "filler").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    """A tmpfs of so many MiB at ``path``, in a namespace that ends with the block. Needs root."""
    path.mkdir()
    # By standard input: who names the place on a command line is taken for a process of a run.
    mount = f'read -r p && mount -t tmpfs -o size={mib}m none "$p" && echo there && read -r _'
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us to handle, who look at the disk until the end
    )
    assert holder.stdin
    assert holder.stdout
    try:
        holder.stdin.write(f"{path}\n".encode())
        holder.stdin.flush()
        if holder.stdout.readline() != b"there\n":
            raise OSError("no small file system here")
        yield SmallDisk(holder.pid, path)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()

"""Kills runs at random, hundreds of times, and looks after each whether anything is left.

    .venv/bin/python benchmarks/soak.py --kills 200 --seed 1 [--minutes 120] [--only copies,save/qemu]

Each round starts a short real run (warm guests alone and under xdist, a guest that is being saved, an
image that is being built, a cache on a small disk), waits for a moment drawn from the run's usual
length, and kills one of it with -9: pytest or a worker, libvirtd, a QEMU, the lab's first process,
dnsmasq, the builder, everything at once; or it fills the disk. Then nothing may be left, and the next
run must be green. The first fault ends the soak with status 1; its directory is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from soaking import runs
from soaking.rounds import Kill, Soak, draw
from soaking.traces import Place
from virtproof.images.store import default_cache


@contextlib.contextmanager
def soak(root: Path, kinds: tuple[runs.Kind, ...]) -> Iterator[Soak]:
    """A soak with its directories below ``root``; needs ``debian-12`` in the user's own cache."""
    runtime = Path(tempfile.mkdtemp(prefix="vp-", dir="/tmp"))  # a short path, for UNIX sockets
    place = Place(root, runtime, root / "cache", root / "cache")
    runs.furnish(place, default_cache(), "prepared", "warm")
    if any(kind.builds for kind in kinds):
        building = root / "building"
        runs.furnish(Place(root, runtime, building, building), default_cache(), "rootfs")
    with contextlib.ExitStack() as stack:
        disks = {}
        for name in {kind.disk for kind in kinds} - {""}:
            disks[name] = stack.enter_context(runs.small_disk(root / name, runs.DISKS_MIB[name]))
            shutil.copytree(place.cache / "ssh", disks[name].outside / "ssh")
            if name == "small":
                shutil.copytree(
                    place.cache / "warm", disks[name].outside / "warm", dirs_exist_ok=True
                )
            made = root / "building" / "rootfs" if name == "large" else place.cache / "prepared"
            (disks[name].outside / made.name).symlink_to(made)
        yield Soak(place, disks)


def soaked(session: Soak, drawn: Iterator[Kill], count: int, end: float) -> bool:
    """Rounds until so many kills have hit, a line each; false after one that left something."""
    for number, one in enumerate(drawn, start=1):
        if time.monotonic() > end:
            print("the time is up", flush=True)
            return True
        done = session.round(one)
        print(f"{number:4} {done.line()}", flush=True)
        for fault in done.faults:
            print(f"     {fault}", flush=True)
        if done.faults:
            return False
        if session.counts.total() >= count:
            break
    return True


def chosen(only: str) -> tuple[runs.Kind, ...]:
    """The kinds of runs that were asked for, with the victims asked for, as far as can be done here."""
    asked = set(only.split(",")) if only else {kind.name for kind in runs.KINDS}
    kinds = []
    for kind in runs.KINDS:
        victims = tuple(v for v in kind.victims if asked & {kind.name, f"{kind.name}/{v}"})
        if victims and (os.getuid() == 0 or not kind.disk):
            kinds.append(dataclasses.replace(kind, victims=victims))
    return tuple(kinds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="kill runs, and see that nothing is left")
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, help="default: another each time")
    parser.add_argument("--minutes", type=float, default=600.0, help="no new round after these")
    names = ", ".join(kind.name for kind in runs.KINDS)
    only = f"kinds of runs, and whom to kill in them: {names}"
    parser.add_argument("--only", default="", metavar="RUN[/VICTIM],...", help=only)
    arguments = parser.parse_args()
    if not chosen(arguments.only):
        parser.error(f"--only {arguments.only}: nothing of that can be done here")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(10**6)
    return arguments


def main() -> None:
    arguments = parsed()
    seed, kinds = arguments.seed, chosen(arguments.only)
    where = os.environ.get("TMPDIR", "/var/tmp")
    root = Path(tempfile.mkdtemp(prefix="virtproof-soak-", dir=where))
    print(f"seed {seed}, {arguments.kills} kills, in {root}", flush=True)
    begin, well = time.monotonic(), True
    for name in (signal.SIGTERM, signal.SIGINT):  # in the background a shell has SIGINT ignored
        signal.signal(name, signal.default_int_handler)
    with soak(root, kinds) as session:
        try:
            kills = draw(random.Random(seed), kinds)
            well = soaked(session, kills, arguments.kills, begin + arguments.minutes * 60)
        except KeyboardInterrupt:
            print("interrupted")
    for name, count in sorted(session.counts.items()):
        print(f"{count:5} {name}")
    print(f"{session.crashes:5} runs whose error was no clear line")
    verdict = "nothing was ever left" if well else f"SOMETHING WAS LEFT; evidence in {root}"
    spent = (time.monotonic() - begin) / 60
    print(f"{session.counts.total()} kills in {spent:.0f} min, seed {seed}: {verdict}")
    if well:
        for directory in (root, session.place.runtime):
            shutil.rmtree(directory)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()

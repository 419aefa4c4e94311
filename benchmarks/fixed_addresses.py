"""What random addresses cost an emulated guest: its initramfs made with them and without, in turn.

    .venv/bin/python benchmarks/fixed_addresses.py [--pairs 5]

QEMU 7 and 8 keep translated code by its virtual address, so that each program that starts at other
addresses is translated again; QEMU 10 does not. Images of ours have the agent start commands without
where it costs.
"""

from __future__ import annotations

import argparse
import statistics
import time

from bench_lab import bench_lab

from virtproof.guest.guest import Guest
from virtproof.guest.shell import Runner
from virtproof.images.store import ImageStore, default_cache
from virtproof.spec import Accel, GuestSpec

SPEC = GuestSpec(image="debian-12", accel=Accel.TCG)
MAKE = "mkinitramfs -o /run/made.img"
# Whatever the agent's commands have: a plain personality has random addresses.
WAYS = {"random": f"setarch x86_64 {MAKE}", "fixed": f"setarch x86_64 -R {MAKE}"}
MOST_S = 300.0


def seconds(runner: Runner, command: str) -> float:
    begin = time.monotonic()
    runner.run(command, timeout_s=MOST_S)
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="what random addresses cost an emulated guest")
    parser.add_argument("--pairs", type=int, default=5, metavar="N")
    pairs = parser.parse_args().pairs
    image = ImageStore(default_cache(), Accel.TCG).prepared(SPEC.image)
    with (
        bench_lab() as (lab, connection, _),
        Guest(SPEC, image, lab, connection).define() as guest,
    ):
        guest.boot()
        took: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(pairs):
            for name in sorted(WAYS, reverse=bool(number % 2)):
                took[name].append(seconds(guest.runner, WAYS[name]))
        print(f"QEMU {connection.versions()['qemu']}, pairs: {pairs}")
    ratios = [fixed / random for fixed, random in zip(took["fixed"], took["random"], strict=True)]
    for name in WAYS:
        print(f"{name:<8} median {statistics.median(took[name]):6.2f} s")
    print(
        f"fixed / random: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()

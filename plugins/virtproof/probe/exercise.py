"""A running guest's disks and network put to work: written and read back, timed, pinged.

Every disk gets back what stood on it. ``dd``, ``cmp`` and iputils' ``ping`` are what it needs in the guest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record

READ_MIB = 8  # read from each disk, three times: a throttle may let the first pass
LOOPBACK = "127.0.0.1"
TIMEOUT_S = 60.0  # on KVM; scaled by the runner

# $1 gateway or empty, $2 its NIC's MTU. Only a disk that nobody uses is written to: without partitions,
# holders, mounts, swap, and without anything on it that blkid knows (of a btrfs of several disks only one
# is seen mounted). Direct I/O, or the guest's own cache would answer.
_SCRIPT = r"""
gateway=$1; mtu=$2; work=/run/virtproof-exercise; mkdir -p "$work"
copy() {
  dd "$@" bs=64k count=1 2>"$work/said" && return
  say failed "$(grep -v records "$work/said" | head -n 1)"; return 1
}
place() {
  copy if="$1" of="$work/old" skip="$2" iflag=direct || return
  head -c 65536 /dev/urandom >"$work/new"
  copy if="$work/new" of="$1" seek="$2" oflag=direct conv=fsync,notrunc || return
  if copy if="$1" of="$work/back" skip="$2" iflag=direct; then
    cmp -s "$work/new" "$work/back" || say wrong "$(($2 * 65536))"
  fi
  copy if="$work/old" of="$1" seek="$2" oflag=direct conv=fsync,notrunc
}
timed() {
  begin=$(date +%s%N)
  dd if="$1" of=/dev/null bs=128k count=64 iflag=direct 2>/dev/null || return
  say ns "$(($(date +%s%N) - begin))"
}
busy() {
  for p in "$1"/*/partition "$1"/holders/*; do [ -e "$p" ] && return 0; done
  read -r ro <"$1/ro"; read -r number <"$1/dev"; name=/dev/${1##*/}
  [ "$ro" = 1 ] || grep -q -e " $number / " -e " $name " /proc/self/mountinfo ||
    grep -q "^$name " /proc/swaps || { command -v blkid && blkid -p "$name"; } >/dev/null 2>&1
}
for d in /sys/block/*; do
  case $d in */loop*|*/ram*|*/fd*|*/sr*|*/zram*|*/dm-*|*/md*) continue;; esac
  read -r sectors <"$d/size"; [ "$sectors" -ge 32768 ] || continue
  rec disk "${d##*/}"
  if ! busy "$d"; then
    say written yes
    n=0; while [ "$n" -lt 8 ]; do
      place "/dev/${d##*/}" $(((sectors / 128 - 1) * (2 * n + 1) / 16)); n=$((n + 1))
    done
  fi
  for _ in 1 2 3; do timed "/dev/${d##*/}"; done
done
rm -rf "$work"
if [ -n "$gateway" ] && command -v ping >/dev/null; then
  rec ping loss; say said "$(ping -q -n -c 200 -i 0.005 -W 2 "$gateway" | grep transmitted)"
  rec ping mtu; say size "$mtu"
  for s in 100 "$mtu"; do
    ping -q -n -c 3 -i 0.2 -W 2 -M do -s $((s - 28)) "$gateway" >/dev/null 2>&1 && say passes "$s"
  done
  for where in "$gateway" 127.0.0.1; do
    rec ping "$where"
    ping -n -c 8 -i 0.02 -W 5 -s 60000 "$where" | sed -n 's/.* time=\([0-9.]*\) ms.*/\1/p' |
      while read -r ms; do say ms "$ms"; done
  done
fi
"""


@dataclass(frozen=True, slots=True)
class WorkedDisk:
    """A disk that was worked.

    ``failed`` are the lines of failed reads and writes; ``wrong_at`` the places, in bytes, that gave
    other data than was written there; ``read_mib_s`` a sequential read's, by median; None without one.
    """

    name: str
    written: bool
    failed: tuple[str, ...]
    wrong_at: tuple[int, ...]
    read_mib_s: float | None


@dataclass(frozen=True, slots=True)
class Path:
    """The way to the gateway: pings sent and lost, sizes that pass whole, ms of large ones by median."""

    gateway: str
    sent: int
    lost: int
    mtu: int
    passes: tuple[int, ...]
    big_ms: float | None
    loopback_ms: float | None


class ExerciseProbe:
    """One go over the guest's disks and its way to the gateway; some seconds."""

    def __init__(self, runner: Runner, gateway: str, mtu: int) -> None:
        self._gateway = gateway
        self._facts = Facts(runner, "exercise", _SCRIPT, gateway, str(mtu), timeout_s=TIMEOUT_S)

    @property
    def disks(self) -> tuple[WorkedDisk, ...]:
        """Whole disks of 16 MiB and more; those that are in use, or hold anything, are read only."""
        return tuple(_disk(record) for record in self._facts.of_kind("disk"))

    @property
    def path(self) -> Path | None:
        """None without a gateway, or without ``ping`` in the guest."""
        pings = {record.name: record for record in self._facts.of_kind("ping")}
        if "loss" not in pings:
            return None
        counted = re.match(r"(\d+) packets transmitted, (\d+) received", pings["loss"].text("said"))
        sent, received = map(int, counted.groups()) if counted else (0, 0)
        missing = {"mtu", self._gateway, LOOPBACK} - set(pings)
        if missing:
            raise CommandError(f"probe exercise: no record 'ping {min(missing)}'")
        return Path(
            gateway=self._gateway,
            sent=sent,
            lost=sent - received,
            mtu=pings["mtu"].number("size"),
            passes=tuple(map(int, _numbers(pings["mtu"], "passes"))),
            big_ms=_median(pings[self._gateway], "ms"),
            loopback_ms=_median(pings[LOOPBACK], "ms"),
        )


def _disk(record: Record) -> WorkedDisk:
    time = _median(record, "ns")
    return WorkedDisk(
        name=record.name,
        written=record.get("written") == "yes",
        failed=record.all("failed"),
        wrong_at=tuple(map(int, _numbers(record, "wrong"))),
        read_mib_s=READ_MIB / (time / 1e9) if time else None,
    )


def _median(record: Record, key: str) -> float | None:
    found = sorted(_numbers(record, key))
    return found[len(found) // 2] if found else None


def _numbers(record: Record, key: str) -> list[float]:
    """Every value of ``key``; CommandError where one is no decimal number."""
    for value in record.all(key):
        if re.fullmatch(r"\d{1,18}(\.\d{1,6})?", value) is None:
            raise CommandError(f"probe {record.topic}: {key} of {record.name} is {value[:80]!r}")
    return [float(value) for value in record.all(key)]

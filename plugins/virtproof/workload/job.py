"""What every workload is: a job with parameters, two ends that it runs between, figures that come out."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import reprlib
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from virtproof.errors import MissingToolError
from virtproof.guest.shell import CommandResult, Runner
from virtproof.measure.measurement import Better, MeasurementError

# Of a guest's answer; a fio job's is some 20 KiB.
MOST_JSON = 4 << 20
MOST_BYTES = 1 << 63  # that anything can have moved, by what a guest says
# What a tool wrote to a file, small enough for a serial line.
PACKED = "gzip -9 <%s | base64 -w 0"
# $1 the port as /proc has it, $2 the command. Sockets are looked for, not connected to: a server that
# serves one client would be gone. One that another program has would be taken for the server's.
_SERVE = r"""set -- %s %s; cd /run
listens() {
  grep -qs " [0-9A-F]*:$1 [0-9A-F]*:0000 \(0A\|07\) " /proc/net/tcp /proc/net/tcp6 /proc/net/udp
}
listens "$1" && { echo "its port is in use" >&2; exit 1; }
$2 >virtproof-server.log 2>&1 </dev/null & echo $! >virtproof-server.pid
n=0
until listens "$1"; do
  n=$((n + 1)); sleep 0.05
  [ "$n" -lt 200 ] && kill -0 "$!" 2>/dev/null || { tail -n 1 virtproof-server.log >&2; exit 1; }
done"""
_END = r"""cd /run; pid=$(cat virtproof-server.pid 2>/dev/null) || exit 0
kill "$pid" 2>/dev/null; n=0
while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 40 ]; do n=$((n + 1)); sleep 0.05; done
kill -9 "$pid" 2>/dev/null; rm -f virtproof-server.*; true"""


class Far(Protocol):
    """Runs a command at the network's other end: in the lab, on the host's side of the bridge.

    MissingToolError where the host has no such program, or the lab runs no commands; LabError where the
    command did not run or did not end in time."""

    def __call__(self, *argv: str, timeout_s: float) -> CommandResult: ...


class CpuClock(Protocol):
    """Seconds of processor time that the guest's QEMU has used on the host so far."""

    def __call__(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Ends:
    """Between what a job runs. ``address`` is the guest's IPv4 address, ``disk`` a device node of it whose
    content may be overwritten; each is empty where the job needs none."""

    guest: Runner
    far: Far
    cpu_s: CpuClock
    address: str = ""
    disk: str = ""
    tools: dict[str, str] = field(default_factory=dict)  # the guest's, by name: asked for once


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a job: ``value`` in ``unit``; ``samples`` in the same unit, by the second."""

    name: str
    unit: str
    better: Better
    value: float
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job gave: its figures, the version of its tool, and the tool's own output."""

    figures: tuple[Figure, ...]
    version: str
    raw: str


class Job(Protocol):
    """One workload. ``parameters`` are all that was chosen: another value is another series."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any]: ...

    def run(self, ends: Ends) -> Outcome:
        """Run once. MissingToolError; MeasurementError where the tool failed or its output is none;
        GuestError where the guest is gone."""
        ...


def cost(name: str, cpu_s: float, moved_bytes: int) -> tuple[Figure, ...]:
    """What moving a byte cost the host, in seconds of QEMU's processor time; none where nothing is known.

    The kernel counts that time in ticks of some 10 ms: too little of it is no figure.
    """
    if not 0 < moved_bytes < MOST_BYTES or cpu_s <= 0:
        return ()
    return (Figure(f"{name}.cpu", "s/B", "lower", cpu_s / moved_bytes),)


def require(ends: Ends, tool: str) -> str:
    """The tool's version as the guest tells it; MissingToolError where it has none."""
    if tool not in ends.tools:
        said = ends.guest.run("%s --version 2>&1", tool, check=False)
        if said.status == 127:
            raise MissingToolError(
                f"the guest has no {tool}", hint=f"put the package {tool} into the image"
            )
        ends.tools[tool] = " ".join(said.stdout.split("\n", 1)[0].split())[:80]
    return ends.tools[tool]


def unpacked(text: str, what: str) -> str:
    """What ``PACKED`` packed, of a guest that is not trusted: bounded, and text."""
    try:
        inflate = zlib.decompressobj(wbits=31)
        data = inflate.decompress(base64.b64decode(text.strip(), validate=True), MOST_JSON)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise MeasurementError(f"{what}: the guest's answer cannot be unpacked: {error}") from error
    if inflate.unconsumed_tail or not inflate.eof:
        raise MeasurementError(f"{what}: the guest's answer is no whole file of at most 4 MiB")
    return data.decode("utf-8", "replace")


def parsed(text: str, what: str) -> dict[str, Any]:
    """A tool's JSON; MeasurementError where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        last = " ".join(text.split())[-200:]
        raise MeasurementError(f"{what}: no JSON but {last!r}") from error
    if not isinstance(found, dict):
        raise MeasurementError(f"{what}: no JSON object but {text[:80]!r}")
    return found


def number(found: Any, *path: str | int, what: str) -> float:
    """A number of a tool's JSON by its path; MeasurementError where there is none, or none that can be a
    measurement: infinite or below zero."""
    for step in path:
        try:
            found = found[step]
        except (LookupError, TypeError):
            where = "/".join(map(str, path))
            raise MeasurementError(f"{what}: its JSON has no {where}") from None
    sound = isinstance(found, int | float) and not isinstance(found, bool)
    if not sound or not 0 <= found < math.inf or found > sys.float_info.max:
        where = "/".join(map(str, path))
        raise MeasurementError(f"{what}: {where} is {reprlib.repr(found)}, no measurement")
    return float(found)


def far_json(ends: Ends, *argv: str, timeout_s: float) -> tuple[dict[str, Any], str]:
    """JSON of a command at the far end, and the text that it stood in."""
    result = ends.far(*argv, timeout_s=timeout_s)
    found = parsed(result.stdout or result.stderr, argv[0])
    if error := found.get("error"):
        told = error if isinstance(error, str) else reprlib.repr(error)
        raise MeasurementError(f"{argv[0]}: {' '.join(told.split())[:200]}")
    return found, result.stdout


@contextlib.contextmanager
def server(ends: Ends, port: int, command: str) -> Iterator[None]:
    """A server in the guest, which listens when the block begins and is gone after it.

    MeasurementError, with the last line that it said, where it does not come to listen.
    """
    argv = command.format(port=port)
    try:
        started = ends.guest.run(_SERVE, f"{port:04X}", argv, check=False)
        if started.status:
            last = " ".join(started.stderr.split())[-160:]
            raise MeasurementError(f"in the guest, {argv!r} does not listen: {last}")
        yield
    finally:
        ends.guest.run(_END)

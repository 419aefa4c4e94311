"""Which jobs a run measures, how long and how often: quick for a yes or no, release for figures to quote."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from virtproof.errors import UsageError
from virtproof.spec import Axis, DiskBus, NicModel
from virtproof.workload.fio import Fio
from virtproof.workload.iperf3 import Iperf3
from virtproof.workload.job import Job
from virtproof.workload.sockperf import RoundTrips

SEQUENTIAL, RANDOM = 128 * 1024, 4096


class Effort(Axis):
    """How much is measured."""

    QUICK = "quick"
    NIGHTLY = "nightly"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Profile:
    """``blocks`` rounds over all sides. A quick one's NICs and buses are those that the claims name."""

    effort: Effort
    blocks: int
    network: tuple[Job, ...]
    disk: tuple[Job, ...]
    nics: tuple[NicModel, ...]
    buses: tuple[DiskBus, ...]


TO, FROM = Iperf3("tcp-to-guest"), Iperf3("tcp-from-guest", from_guest=True)
SEVERAL = (
    Iperf3("tcp-to-guest-x4", streams=4),
    Iperf3("tcp-from-guest-x4", from_guest=True, streams=4),
    Iperf3("udp-to-guest", udp_mbit_s=300),
)
BASIC = (
    Fio("read-128k", "read", SEQUENTIAL),
    Fio("write-128k", "write", SEQUENTIAL),
    Fio("randread-4k", "randread", RANDOM),
    Fio("randwrite-4k", "randwrite", RANDOM),
)
FURTHER = (
    Fio("randrw-4k", "randrw", RANDOM),
    Fio("randread-4k-qd1", "randread", RANDOM, depth=1),
    Fio("syncwrite-4k", "write", RANDOM, depth=1, sync=True),
)
ALL_NICS = (NicModel.RTL8139, NicModel.E1000, NicModel.VIRTIO)
ALL_BUSES = (DiskBus.IDE, DiskBus.SATA, DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI)


def compared(names: str | None) -> tuple[Job, ...]:
    """The jobs of a comparison by name, TCP and disk where none is named; UsageError for an unknown one.

    Seconds for each: it is the pairs of sessions that tell, and a session costs a guest besides.
    """
    known = {job.name: job for job in (TO, FROM, *SEVERAL, *BASIC, *FURTHER, RoundTrips())}
    wanted = names.split(",") if names is not None else [job.name for job in (TO, FROM, *BASIC)]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(known)}"
            raise UsageError(f"no workload is called {name!r}", hint=hint)
    return tuple(_short(known[name]) for name in dict.fromkeys(wanted))


def _short(job: Iperf3 | Fio | RoundTrips) -> Job:
    if isinstance(job, Iperf3):
        return replace(job, seconds=3, omit_s=1)
    return replace(job, seconds=3, ramp_s=1) if isinstance(job, Fio) else replace(job, seconds=3)


def profile(effort: Effort) -> Profile:
    """The jobs of an effort."""
    if effort is Effort.QUICK:
        network = tuple(replace(job, seconds=1, omit_s=0) for job in (TO, FROM))
        disk = tuple(replace(job, seconds=1, ramp_s=0) for job in BASIC)
        return Profile(effort, 4, network, disk, ALL_NICS[::2], ALL_BUSES[::2])
    long = effort is Effort.RELEASE
    network_s, omit_s = (15, 5) if long else (6, 2)
    disk_s, ramp_s = (30, 10) if long else (6, 2)
    flows = tuple(replace(job, seconds=network_s, omit_s=omit_s) for job in (TO, FROM, *SEVERAL))
    trips = RoundTrips(seconds=network_s)
    disk = tuple(replace(job, seconds=disk_s, ramp_s=ramp_s) for job in (*BASIC, *FURTHER))
    return Profile(effort, 8 if long else 5, (*flows, trips), disk, ALL_NICS, ALL_BUSES)

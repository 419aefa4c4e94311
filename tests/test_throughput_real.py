"""The claims of throughput can go red: real guests whose virtio device is slowed, or that lack the tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from virtproof.guest.connection import Connection
from virtproof.guest.guest import Guest
from virtproof.guest.warm import Host, WarmGuests
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import PrivateLab
from virtproof.measure.measurement import Measurement
from virtproof.measure.statistics import outruns
from virtproof.plugin import throughput
from virtproof.plugin.throughput import EACH, Bench
from virtproof.sides import Side
from virtproof.spec import Accel, CacheMode, DataDisk, DiskBus, GuestSpec, IoMode, NicModel
from virtproof.workload.profiles import Effort, Profile, profile

pytestmark = [pytest.mark.real, pytest.mark.boots(3)]

BLOCKS = 3
SLOW_DISK = 1 << 20  # bytes a second; IDE has ten times that and more, emulated
SLOW_NIC = "2mbit"
NETWORK = {"into the guest": ["tcp-to-guest"], "out of the guest": ["tcp-from-guest"]}
DISK = {"reading": ["read-128k"], "writing": ["write-128k"]}
Change = Callable[[Guest], None]


class Fleet:
    """Makes guests that are up, as the fixture ``guest_on`` does, and does something to each."""

    def __init__(self, lab: PrivateLab, connection: Connection, change: Change) -> None:
        self._lab = lab
        self._connection = connection
        self._change = change
        self._made: list[Guest] = []

    def close(self) -> None:
        for guest in self._made:
            guest.close()

    def __call__(self, **axes: Any) -> Guest:
        store = ImageStore(default_cache(), Accel.TCG)
        spec = GuestSpec(**{"image": "debian-12", "accel": Accel.TCG, **axes})
        guest = Guest(spec, store.prepared("debian-12"), self._lab, self._connection)
        try:
            WarmGuests(store.cache, Host(self._connection.versions())).boot(guest.define())
            self._change(guest)
        except BaseException:
            guest.close()
            raise
        self._made.append(guest)
        return guest


MakeBench = Callable[[Change], Bench]


@pytest.fixture
def bench_on(
    living: tuple[PrivateLab, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeBench]:
    """Makes the bench of a suite's quick run, which looks once and at few blocks."""
    monkeypatch.setattr(throughput, "STAGES", 1)
    quick = profile(Effort.QUICK)
    kind = Profile(quick.effort, BLOCKS, quick.network, quick.disk, quick.nics, quick.buses)

    fleets: list[Fleet] = []

    def make(change: Change) -> Bench:
        fleets.append(Fleet(*living, change))
        return Bench(fleets[-1], kind, tmp_path / "evidence" / "test", print)

    yield make
    for fleet in fleets:
        fleet.close()


def rates(bench: Bench, name: str, side: str) -> list[float]:
    return [one.value for one in bench.measured if (one.name, one.side) == (name, side)]


def nothing(_guest: Guest) -> None:
    """A guest as it is."""


def test_a_slow_virtio_disk_is_not_shown_to_outrun_ide(bench_on: MakeBench) -> None:
    """Slowed by libvirt, below what IDE does on the same guest."""
    bench = bench_on(nothing)
    slow = {DiskBus.IDE: 0, DiskBus.VIRTIO: SLOW_DISK}
    disks = tuple(
        DataDisk(
            bus, f"work{bus}", 4, cache=CacheMode.NONE, io=IoMode.NATIVE, bytes_per_s=slow[bus]
        )
        for bus in slow
    )
    axes = {"data_disks": disks, "nic": None}
    sides = [Side(disk.bus.value, axes, disk.serial) for disk in disks]
    jobs = [job for job in bench.profile.disk if job.name in ("read-128k", "write-128k")]
    missing = bench.outrun(sides, jobs, ("virtio", ["ide"]), DISK)
    assert [line.partition(":")[0] for line in missing] == ["reading", "writing"]
    assert all(line.endswith(": not shown") for line in missing)
    for name in ("read-128k", "write-128k"):
        # What is throttled is what is measured: never much above.
        assert max(rates(bench, name, "virtio")) < 4 * SLOW_DISK < min(rates(bench, name, "ide"))
    # So few blocks are enough to show it of the other one.
    for found in bench.pairs("virtio", "ide").values():
        if not found.name.endswith(".cpu"):
            assert outruns(found, "virtio", "ide", 1.0, EACH).verdict == "faster"
    sound(bench.measured)


def test_a_slow_virtio_nic_is_not_shown_to_outrun_rtl8139(bench_on: MakeBench) -> None:
    """Slowed on its way into the guest alone: the other way is as it was, on the same guests."""
    slowed = []

    def slow(guest: Guest) -> None:
        if guest.spec.nic is not NicModel.VIRTIO:
            return
        interface = etree.fromstring(guest.domain.xml()).find("devices/interface/target")
        assert interface is not None
        tap = str(interface.get("dev"))
        argv = ["tc", "qdisc", "add", "dev", tap, "root", "tbf", "rate", SLOW_NIC]
        done = guest.lab.run(*argv, "burst", "16kb", "latency", "100ms")
        if done.status:
            pytest.skip(f"no tc with tbf: {done.stderr.strip()}")
        slowed.append(tap)

    bench = bench_on(slow)
    sides = [Side(nic.value, {"nic": nic}) for nic in bench.profile.nics]
    missing = bench.outrun(sides, bench.profile.network, ("virtio", ["rtl8139"]), NETWORK)
    assert len(slowed) == BLOCKS
    # The other way may be missing too: so few blocks need not show it on a busy machine.
    assert missing[0].startswith("into the guest: ")
    assert missing[0].endswith(": not shown")
    ratios = {one.name: one.ratio for one in bench.comparisons}
    assert ratios["into the guest"] < 0.3 < ratios["out of the guest"]
    assert max(rates(bench, "tcp-to-guest", "virtio")) < 4e6
    other = bench.pairs("virtio", "rtl8139")["tcp-to-guest"]
    assert outruns(other, "virtio", "rtl8139", 1.0, EACH).verdict == "faster"
    sound(bench.measured)


@pytest.mark.parametrize(("tool", "disk"), [("fio", "work"), ("iperf3", "")])
def test_a_guest_without_the_tool_skips_with_the_line_that_mends_it(
    bench_on: MakeBench, tool: str, disk: str
) -> None:
    def without(guest: Guest) -> None:
        guest.runner.run("mv /usr/bin/%s /root/away", tool)

    bench = bench_on(without)
    axes = {"data_disks": (DataDisk(DiskBus.VIRTIO, "work", 4),)} if disk else {}
    jobs = bench.profile.disk if disk else bench.profile.network
    line = rf"^the guest has no {tool} \(put the package {tool} into the image\)$"
    with pytest.raises(pytest.skip.Exception, match=line):
        bench.measure([Side("virtio", axes, disk)], jobs, 1)
    assert bench.measured == []


def sound(measured: list[Measurement]) -> None:
    """What every record of a real guest holds."""
    for one in measured:
        assert one.guest["kernel"]
        assert one.job["version"]
        assert one.raw

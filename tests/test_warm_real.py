"""Warm guests, on real ones: copies are apart from each other, right about time, and leave no trace."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator

import pytest

from virtproof import host
from virtproof.guest import saved
from virtproof.guest.connection import Connection
from virtproof.guest.console import Console
from virtproof.guest.guest import Guest
from virtproof.guest.warm import Host, WarmGuests
from virtproof.images.cache import WARM, Cache, sha256
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import PrivateLab
from virtproof.spec import Accel, DataDisk, DiskBus, GuestSpec, NicModel

pytestmark = [pytest.mark.real, pytest.mark.boots(3)]

SPEC = GuestSpec(
    image="debian-12",
    disk=DiskBus.IDE,
    nic=NicModel.VIRTIO,
    accel=Accel.TCG,
    data_disks=(DataDisk(DiskBus.VIRTIO, "data"),),
)
OLD_S = 15.0


@dataclasses.dataclass
class Bench:
    """Makes guests that are up, and closes them."""

    lab: PrivateLab
    connection: Connection
    cache: Cache
    said: list[str]
    made: list[Guest] = dataclasses.field(default_factory=list)

    def warm(self) -> WarmGuests:
        return WarmGuests(self.cache, Host(self.connection.versions()))

    def guest(self, spec: GuestSpec = SPEC) -> Guest:
        image = ImageStore(default_cache(), Accel.TCG).prepared("debian-12")
        guest = Guest(spec, image, self.lab, self.connection)
        self.made.append(guest)
        return self.warm().boot(guest.define())

    def booted(self) -> int:
        """How many guests' kernels have started for real."""
        boots = [boot for guest in self.made for boot in guest.boots if boot.started]
        return sum("Linux version" in boot._text_since(0) for boot in boots)


@pytest.fixture(scope="module")
def bench(living: tuple[PrivateLab, Connection], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    said: list[str] = []
    return Bench(*living, Cache(tmp_path_factory.mktemp("states"), said.append), said)


@pytest.fixture(autouse=True)
def closed(bench: Bench) -> Iterator[None]:
    yield
    while bench.made:
        bench.made.pop().close()


def test_copies_are_apart_and_right_about_themselves(bench: Bench) -> None:
    """Two at once, of one that booted: own MAC, address, random numbers."""
    for state in bench.cache.items(WARM):
        bench.cache.remove(state)
    bench.said.clear()
    guests = [bench.guest(), bench.guest()]
    assert bench.booted() == 1
    assert bench.said == []
    random = {guest.runner.run("head -c 16 /dev/urandom | od -An -tx1").stdout for guest in guests}
    assert len(random) == 2
    for guest in guests:
        nic = guest.net.by_mac(guest.mac)
        assert nic.driver == "virtio_net"
        assert guest.system.failed_units == ()
        assert "Linux version" in guest.console_text()
        assert guest.block.disk_by_serial("data").driver == "virtio_blk"
    assert len({guest.address() for guest in guests} - {""}) == 2
    assert all(guest.ssh.run("echo there").stdout == "there\n" for guest in guests)


def test_a_guest_that_wakes_says_when_it_is_ready(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rings on its agent's port; were that lost, this would take the whole patience."""
    bench.guest().close()
    patience_s, waited = 120.0, []
    monkeypatch.setattr("virtproof.guest.agent.RING_S", patience_s)
    honest = Console.wait_beyond

    def wait_beyond(port: Console, position: int, timeout_s: float) -> bool:
        heard = honest(port, position, timeout_s)
        waited.extend([heard] if timeout_s == patience_s else [])
        return heard

    monkeypatch.setattr(Console, "wait_beyond", wait_beyond)
    assert bench.guest().state == "running"
    assert waited == [True]
    assert bench.said == []


def test_the_clock_of_an_old_state_is_put_right(bench: Bench) -> None:
    """A clock that was left alone would be behind by the state's age, for it stood still."""
    bench.guest().close()
    [state] = bench.cache.items(WARM)
    made = (state / "memory.save").stat().st_mtime
    while (age := time.time() - made) < OLD_S:
        time.sleep(OLD_S - age)
    guest = bench.guest()
    before = time.time()
    said = float(guest.runner.run("date +%s.%N").stdout)
    assert before - age / 2 < said < time.time() + age / 2


def test_nothing_leaks_from_one_test_into_the_next(bench: Bench) -> None:
    """What one copy writes, on its root and its data disk, no other sees; the state stays as it was."""
    first = bench.guest()
    [state] = bench.cache.items(WARM)
    sealed = {file.name: sha256(file) for file in state.iterdir() if file.suffix}
    data = f"/dev/{first.block.disk_by_serial('data').name}"
    first.runner.run(
        "echo leak | tee /root/leak /dev/shm/leak | dd of=%s conv=fsync 2>&1; sync", data
    )
    assert first.runner.run("cat /root/leak; head -c 4 %s", data).stdout == "leak\nleak"
    second = bench.guest()
    found = second.runner.run("ls /root/leak /dev/shm/leak 2>/dev/null; head -c 4 %s", data)
    assert found.stdout.strip("\0") == ""
    second.reboot()  # and on its own disk it boots, as a guest that never slept
    assert second.runner.run("ls /root/leak", check=False).status != 0
    assert {file.name: sha256(file) for file in state.iterdir() if file.suffix} == sealed


def test_another_guest_has_a_state_of_its_own(bench: Bench) -> None:
    bench.guest()
    before = len(bench.cache.items(WARM))
    bench.guest(SPEC.but(data_disks=()))
    assert len(bench.cache.items(WARM)) == before + 1


def test_a_state_that_does_not_wake_costs_a_boot_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.guest().close()
    bench.made.clear()
    honest = saved.head
    monkeypatch.setattr(saved, "head", lambda state, xml: honest(state, xml)[:-40] + bytes(40))
    guest = bench.guest()
    assert guest.state == "running"
    assert bench.booted() == 1
    assert "it boots" in bench.said[-1]


def test_a_damaged_state_is_made_anew(bench: Bench) -> None:
    bench.guest().close()
    for state in bench.cache.items(WARM):
        memory = state / "memory.save"
        memory.chmod(0o600)
        with memory.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xaa")
    bench.made.clear()
    bench.guest()
    assert bench.booted() == 1
    assert "damaged in the cache" in bench.said[-1]


def test_what_a_state_depends_on_is_in_its_key(bench: Bench) -> None:
    guest = bench.guest()
    warm = bench.warm()
    key = warm._key(guest)
    newer = {**bench.connection.versions(), "qemu": "99.0.0"}
    assert WarmGuests(bench.cache, Host(newer))._key(guest) != key
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getuid", lambda: 4711)
        assert warm._key(guest) != key, "another user cannot read it"
    larger = (dataclasses.replace(SPEC.data_disks[0], size_mib=128),)
    guest.spec = SPEC.but(data_disks=larger)
    assert warm._key(guest) != key, "a disk's size is nowhere in the domain's XML"
    guest.spec = SPEC
    assert warm._key(guest) == key
    guest.image = dataclasses.replace(guest.image, digest="another")
    assert warm._key(guest) != key


def test_without_room_for_a_state_the_guest_boots(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "disk_free_mib", lambda _: 100)
    before = bench.cache.items(WARM)
    guest = bench.guest(SPEC.but(nic=None))
    assert guest.state == "running"
    assert bench.booted() == 1
    assert bench.cache.items(WARM) == before
    assert "100" in bench.said[-1]


def test_libvirt_does_not_ask_for_each_property_of_a_processor(bench: Bench) -> None:
    """That takes a quarter of a copy's time; by its capabilities, as libvirt notes them of a guest."""
    guest = bench.guest()
    noted = bench.lab.run("cat", f"/run/libvirt/qemu/{guest.domain.name}.xml").stdout
    flags = set(re.findall("<flag name='([^']*)'/>", noted))
    assert len(flags) > 50
    assert "cpu-unavailable-features" not in flags

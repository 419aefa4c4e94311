"""What must not be reached is not: the host, other labs, other guests, passwords, sockets and keys.

Each refusal has its control beside it: the same question where the answer is yes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import paramiko
import pytest
from lxml import etree

from lab_owner import until
from virtproof import host
from virtproof.deadline import Deadline, wait_for
from virtproof.guest.connection import Connection
from virtproof.guest.domain_xml import interface, text
from virtproof.guest.guest import Guest
from virtproof.guest.warm import Host, WarmGuests
from virtproof.images.cache import WARM, Cache
from virtproof.images.keys import key_pair
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import PrivateLab, open_lab
from virtproof.lab.network import BRIDGE, GATEWAY, why_together
from virtproof.spec import Accel, DiskBus, GuestSpec, NicModel

pytestmark = [pytest.mark.real, pytest.mark.boots(3)]

SPEC = GuestSpec("debian-12", disk=DiskBus.IDE, nic=NicModel.VIRTIO, accel=Accel.TCG)
PORT = 4713
NOWHERE = "203.0.113.1"  # RFC 5737: an address that is never anybody's
SECOND_MAC = "52:54:00:00:00:99"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3")

Target = tuple[str, str, int]  # tcp or udp, address, port

# Runs in a guest: which of the targets answer. A connection is an answer over TCP, a packet over UDP.
REACH = r"""
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
QUERY = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01"
def answers(target):
    kind, address, port = target
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as end:
            end.settimeout(4)
            end.connect((address, port))
            if kind == "udp":
                end.send(QUERY)
                end.recv(512)
    except OSError:
        return False
    return True
targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps([target for target, yes in zip(targets, pool.map(answers, targets)) if yes]))
"""
# Answers on a port over TCP (the kernel shakes hands) and UDP.
SERVE = """
import socket, sys
port = int(sys.argv[1])
tcp = socket.create_server(("", port), backlog=64)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", port))
while True:
    data, whom = udp.recvfrom(512)
    udp.sendto(data, whom)
"""
# Which of the paths on its standard input can be read from or connected to.
PRY = """
import json, socket, sys
def opens(kind, path):
    try:
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.connect(path)
        else:
            open(path, "rb").close()
    except OSError:
        return False
    return True
print(json.dumps([path for kind, path in json.load(sys.stdin) if opens(kind, path)]))
"""


@dataclasses.dataclass
class Place:
    """A lab of its own with warm guests; they go after each test."""

    lab: PrivateLab
    connection: Connection
    states: Cache
    made: list[Guest] = dataclasses.field(default_factory=list)

    def guest(self, spec: GuestSpec = SPEC) -> Guest:
        """A guest that is up and has an address."""
        image = ImageStore(default_cache(), Accel.TCG).prepared(spec.image)
        guest = Guest(spec, image, self.lab, self.connection)
        self.made.append(guest)
        WarmGuests(self.states, Host(self.connection.versions())).boot(guest.define())
        assert guest.address()
        return guest

    def close_guests(self) -> None:
        while self.made:
            self.made.pop().close()


@contextlib.contextmanager
def opened(cache: Path, states: Cache) -> Iterator[Place]:
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    with open_lab(cache, connect) as lab:
        assert lab.why_together == "", "this machine cannot keep guests apart"
        yield Place(lab, connections[0], states)
        connections[0].close()


@pytest.fixture(scope="module")
def open_place() -> Iterator[Path]:
    """A directory that everybody may enter: what is kept from others in it, it is not that keeps it."""
    path = Path(tempfile.mkdtemp(prefix="vpo-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def states(open_place: Path) -> Cache:
    return Cache(open_place / "cache", print)


@pytest.fixture(scope="module")
def places(runtime: Path, states: Cache) -> Iterator[tuple[Place, Place]]:  # noqa: ARG001
    """Two labs at once, with the same addresses."""
    with opened(states.root, states) as one, opened(states.root, states) as two:
        yield one, two


@pytest.fixture
def place(places: tuple[Place, Place]) -> Iterator[Place]:
    yield places[0]
    for used in places:
        used.close_guests()


@contextlib.contextmanager
def serving(place: Place) -> Iterator[None]:
    """Something answers at the lab's gateway, on PORT."""
    begin = '"$@" </dev/null >/dev/null 2>&1 & echo $!'
    argv = ("sh", "-c", begin, "sh", sys.executable, "-c", SERVE, str(PORT))
    pid = place.lab.run(*argv).stdout.strip()
    try:
        until(lambda: connects(place, GATEWAY), "a listener at the gateway")
        yield
    finally:
        place.lab.run("kill", pid)


def serve_in(guest: Guest) -> None:
    """Something answers in the guest, on PORT."""
    command = "python3 -c %s %s </dev/null >/dev/null 2>&1 & echo"
    guest.runner.run(command, SERVE, str(PORT))


def connects(place: Place, address: str) -> bool:
    """Whether the lab itself reaches PORT of an address."""
    try:
        place.lab.connect_tcp(address, PORT, 5.0).close()
    except OSError:
        return False
    return True


def reached(guest: Guest, targets: Iterable[Target]) -> set[Target]:
    """Those of the targets that answer the guest."""
    said = guest.runner.run("python3 -c %s %s", REACH, json.dumps(list(targets))).stdout
    return {(kind, address, port) for kind, address, port in json.loads(said)}


def nic_of(guest: Guest) -> str:
    return guest.net.by_mac(guest.mac).name


# --- the network ----------------------------------------------------------------------------


def host_addresses() -> list[str]:
    """Every global address of this machine's interfaces, of both families."""
    asked = ["ip", "-j", "address", "show", "scope", "global"]
    links = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    return [a["local"] for link in links for a in link.get("addr_info", []) if a.get("local")]


def nameservers() -> list[str]:
    """Whom this machine asks for names."""
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    found = [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
    return [address for address in found if "%" not in address]


@pytest.mark.parametrize("routes", ["its own routes", "routes to everywhere"])
def test_a_guest_does_not_reach_the_host(place: Place, routes: str) -> None:
    """With the routes that it has, and with ones that say that all the world is on its wire."""
    addresses = host_addresses()
    if not addresses:
        pytest.skip("this machine has no address but its loopback's")
    guest = place.guest()
    if routes == "routes to everywhere":
        nic = nic_of(guest)
        for everywhere in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"):
            guest.runner.run("ip route replace %s dev %s", everywhere, nic)
    with (
        socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
        ) as listener,
        serving(place),
    ):
        port = listener.getsockname()[1]
        for address in addresses:  # the control: a process of the host
            socket.create_connection((address, port), 5.0).close()
        gateway = ("tcp", GATEWAY, PORT)  # the control: what a guest does reach
        asked = [gateway, *(("tcp", address, port) for address in addresses)]
        assert reached(guest, asked) == {gateway}


def test_a_guest_does_not_reach_another_lab(places: tuple[Place, Place], place: Place) -> None:
    """The other lab has the same addresses: its gateway and its guest answer there and not here."""
    other = places[1]
    guest, foreign = place.guest(), other.guest()
    serve_in(foreign)
    until(lambda: connects(other, foreign.address()), "a listener in the other lab's guest")
    targets = [("tcp", GATEWAY, PORT), ("tcp", foreign.address(), PORT)]
    assert guest.lab is not foreign.lab
    with serving(other):
        assert reached(foreign, targets) == set(targets)
        assert reached(guest, targets) == set()
        assert not connects(place, foreign.address())


def test_no_names_are_resolved(place: Place) -> None:
    """No DNS at the gateway nor where the host asks, and so no name but a guest's own."""
    guest = place.guest()
    wanted = {GATEWAY, NOWHERE, *nameservers()}
    targets = [(kind, address, 53) for kind in ("udp", "tcp") for address in sorted(wanted)]
    control = {("udp", GATEWAY, PORT), ("tcp", GATEWAY, PORT)}
    with serving(place):
        assert reached(guest, [*targets, *control]) == control
    assert guest.runner.run("getent hosts localhost").status == 0
    assert guest.runner.run("timeout 20 getent hosts example.com", check=False).status != 0


def test_there_is_no_way_out(place: Place) -> None:
    """What is for nobody here is answered by nobody, not by the gateway as a router either."""
    guest = place.guest()
    ping = "ping -n -c 2 -W 2 %s"
    assert guest.runner.run(ping, GATEWAY).status == 0
    assert guest.net.gateway == GATEWAY, "it has a default route, and yet:"
    gone = guest.runner.run(ping, NOWHERE, check=False)
    assert (gone.status, "bytes from" in gone.stdout) == (1, False)
    assert reached(guest, [("tcp", NOWHERE, 80), ("udp", NOWHERE, 53)]) == set()


# --- other guests ---------------------------------------------------------------------------


def sees(guest: Guest, other: Guest) -> set[str]:
    """The ways by which a guest reaches another: its wire, its wire over IPv6, its gateway as a router."""
    nic, link_local = nic_of(guest), "ip -6 -o address show dev %s scope link"
    words = other.runner.run(link_local, nic_of(other)).stdout.split()
    six = words[words.index("inet6") + 1].partition("/")[0]
    address = other.address()
    ways = set()
    if guest.runner.run("ping -n -c 2 -W 2 %s", address, check=False).status == 0:
        ways.add("wire")
    if guest.runner.run("ping -n -c 2 -W 2 %s", f"{six}%{nic}", check=False).status == 0:
        ways.add("wire over IPv6")
    ends = ((guest, other), (other, guest))  # both, for the answers go the same way
    for end, far in ends:
        end.runner.run("ip route replace %s via %s", f"{far.address()}/32", GATEWAY)
    if reached(guest, [("tcp", address, 22)]):
        ways.add("gateway")
    for end, far in ends:
        end.runner.run("ip route delete %s", f"{far.address()}/32")
    return ways


def test_guests_do_not_see_each_other_unless_asked(place: Place) -> None:
    one, two = place.guest(), place.guest()
    assert sees(one, two) == set()
    assert {guest.ssh.run("echo there").stdout for guest in (one, two)} == {"there\n"}
    asked = SPEC.but(isolated=False)
    assert asked != SPEC
    three, four = place.guest(asked), place.guest(asked)
    assert sees(three, four) >= {"wire", "wire over IPv6"}  # the control, and what asking gives
    assert sees(one, three) >= {"wire"}  # who asks is seen by all


def ports(place: Place) -> dict[str, bool]:
    """Ports of the lab's bridge, and whether they are isolated."""
    said = place.lab.run("bridge", "-d", "-j", "link", "show").stdout
    return {p["ifname"]: p["isolated"] for p in json.loads(said) if p.get("master") == BRIDGE}


def isolated_in_xml(xml: str) -> list[str]:
    return [str(value) for value in etree.fromstring(xml).xpath("//interface/port/@isolated")]


def test_isolation_stays_with_a_guest_through_its_changes(place: Place) -> None:
    """A copy of a warm one, a hot-added NIC, a link that was cut, another model after a cold boot."""
    guest = place.guest()
    place.guest(SPEC.but(isolated=False))
    assert sorted(ports(place).values()) == [False, True]
    hot = text(interface(NicModel.VIRTIO, SECOND_MAC, guest.lab.network, isolated=guest.isolated))
    guest.domain.attach(hot)
    assert sorted(ports(place).values()) == [False, True, True]
    [first, _] = etree.fromstring(guest.domain.xml()).findall("devices/interface")
    for state in ("down", "up"):
        for old in first.findall("link"):
            first.remove(old)
        etree.SubElement(first, "link", state=state)
        guest.domain.update(text(first))
    assert sorted(ports(place).values()) == [False, True, True]
    guest.switch(nic=NicModel.E1000)
    assert isolated_in_xml(guest.domain.xml()) == ["yes"]
    assert sorted(ports(place).values()) == [False, True]


def test_a_lab_that_cannot_isolate_has_guests_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageStore(default_cache(), Accel.TCG).prepared(SPEC.image)

    def defined() -> list[str]:
        with Guest(SPEC, image, place.lab, place.connection) as guest:
            return isolated_in_xml(guest.define().domain.xml())

    assert defined() == ["yes"]
    monkeypatch.setattr(place.lab, "why_together", "no room in /sys")
    assert defined() == []


def test_a_network_of_the_users_isolates_where_it_is_linuxs_own_bridge() -> None:
    nat = "<network><forward mode='nat'/><bridge name='virbr0'/></network>"
    assert why_together("default", nat) == ""
    for other in (
        "<network><forward mode='bridge'><interface dev='eth0'/></forward></network>",  # macvtap
        "<network><forward mode='bridge'/><bridge name='ovs0'/><virtualport type='openvswitch'/></network>",
    ):
        assert why_together("lan", other) == "network 'lan' is not a bridge of Linux's own"


# --- passwords ------------------------------------------------------------------------------


def offered(guest: Guest, user: str, port: int = 22) -> set[str]:
    """The ways to log in that the guest's SSH server offers a user."""
    with paramiko.Transport(guest.lab.connect_tcp(guest.address(), port, 10.0)) as transport:
        transport.start_client(timeout=20.0 * guest.scale)
        with pytest.raises(paramiko.BadAuthenticationType) as refusal:
            transport.auth_none(user)
        return set(refusal.value.allowed_types)


def logs_in(guest: Guest, user: str, password: str, port: int = 22) -> bool:
    with paramiko.Transport(guest.lab.connect_tcp(guest.address(), port, 10.0)) as transport:
        transport.start_client(timeout=20.0 * guest.scale)
        try:
            transport.auth_password(user, password, fallback=False)
        except paramiko.AuthenticationException:
            return False
        return transport.is_authenticated()


def with_passwords(shadow: str) -> set[str]:
    """The accounts that a password lets in, the empty one included."""
    fields = [line.split(":") for line in shadow.splitlines() if line]
    assert len(fields) > 3
    return {name for name, secret, *_ in fields if not secret.startswith(("!", "*"))}


def test_ssh_lets_nobody_in_by_password(place: Place) -> None:
    """Not with the right one either. The control is a server beside it that was told to."""
    guest = place.guest()
    assert with_passwords(guest.runner.run("cat /etc/shadow").stdout) == set()
    for user in ("root", "someone"):
        guest.runner.run("id %s >/dev/null 2>&1 || useradd -m %s", user, user)
        guest.runner.run("echo %s | chpasswd", f"{user}:open-sesame")
    assert with_passwords(guest.runner.run("cat /etc/shadow").stdout) == {"root", "someone"}
    allow = (
        "-o PasswordAuthentication=yes -o PermitRootLogin=yes -o KbdInteractiveAuthentication=yes"
    )
    guest.runner.run(f"mkdir -p /run/sshd; /usr/sbin/sshd -p {PORT} {allow}")
    for user in ("root", "someone"):
        assert offered(guest, user) == {"publickey"}
        assert not logs_in(guest, user, "open-sesame")
        assert offered(guest, user, PORT) == {"publickey", "password", "keyboard-interactive"}
        assert logs_in(guest, user, "open-sesame", PORT)


def at_console(guest: Guest, typed: str, until_one_of: tuple[str, ...]) -> str:
    """Type a line at the serial console; what stands there once one of the words has come."""
    begin = guest.console.size
    guest.console.send(typed.encode() + b"\n")

    def said() -> str | None:
        new = guest.console.since(begin).decode(errors="replace")
        return new if any(word in new for word in until_one_of) else None

    heard = wait_for(said, Deadline.after(20.0 * guest.scale), 0.1)
    assert heard, f"none of {until_one_of} in {guest.console.since(begin)!r}"
    return heard


def test_the_console_lets_nobody_in_with_an_empty_password(place: Place) -> None:
    """The control: it does, once the account has an empty one."""
    guest = place.guest()
    shell = ":~#"
    at_console(guest, "", ("login:",))
    assert shell not in at_console(guest, "root", ("Password:", shell))
    assert shell not in at_console(guest, "", ("incorrect", shell))
    guest.runner.run("passwd -d root")
    at_console(guest, "", ("login:",))
    assert shell in at_console(guest, "root", ("Password:", shell))


# --- sockets, keys, memory ------------------------------------------------------------------


def kept(*places: Path) -> list[tuple[str, str]]:
    """Every socket and file below some places, each with its kind."""
    found = []
    for path in (path for place in places for path in [place, *place.rglob("*")]):
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode) or stat.S_ISREG(mode):
            found.append(("socket" if stat.S_ISSOCK(mode) else "file", str(path)))
    return found


def pried(paths: list[tuple[str, str]], *become: str) -> set[str]:
    """Which of them open, to whoever ``become`` makes the asking process."""
    argv = [*(become or [sys.executable]), "-c", PRY]
    done = subprocess.run(
        argv, input=json.dumps(paths), capture_output=True, text=True, check=True, cwd="/"
    )
    return set(json.loads(done.stdout))


def test_sockets_disks_keys_and_memory_are_their_owners_alone(
    place: Place, states: Cache, runtime: Path, open_place: Path
) -> None:
    guest = place.guest()
    runtime.chmod(0o755)  # it is not this directory alone that keeps others out
    key, _ = key_pair(states)
    [state] = states.items(WARM)
    lab = Path(place.lab.uri.partition("socket=")[2]).parent
    disks = Path(guest.resources.root).parent
    for directory in (lab, disks, key.parent, state):
        status = directory.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (os.getuid(), 0o700), directory
    for file in (key, state / "memory.save", state / "disk.qcow2", state / "console.log"):
        assert file.stat().st_mode & 0o077 == 0, file
    secrets = kept(lab, disks, key.parent, state)
    names = {Path(path).name for _, path in secrets}
    assert {"libvirt-sock", "broker", f"{guest.name}.agent", f"{guest.name}.qcow2"} <= names
    assert {"memory.save", "id_ed25519"} <= names
    if os.getuid() != 0 or host.find_program("setpriv") is None:
        return  # only root can be somebody else; the modes were looked at
    # The controls: we get at these, and nobody gets at what is open to all.
    ours = [("socket", str(lab / "libvirt-sock")), ("file", str(key))]
    assert pried(ours) == {path for _, path in ours}
    (open_place / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(open_place / "socket"))
        (open_place / "socket").chmod(0o777)
        listener.listen()
        theirs = [("socket", str(open_place / "socket")), ("file", str(open_place / "file"))]
        assert pried([*secrets, *theirs], *NOBODY) == {path for _, path in theirs}

"""The private lab: what it gives, that nothing gets out of it, and that nothing of it stays."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from virtproof import host
from virtproof.errors import LabError, MissingToolError, VirtproofError
from virtproof.guest.domain import Connection
from virtproof.lab import PrivateLab, network, open_lab
from virtproof.lab.cleanup import Cleaned, clean, sweep
from virtproof.lab.host_log import LOG_BYTES, tail
from virtproof.lab.runtime import LINGERING, runtime_directory

ROOT = Path(__file__).resolve().parents[1]
SOON_S = 20.0

# A lab in a process of its own: says where it is, then waits to be told how to end.
OWNER = """
import os, sys
from pathlib import Path
from virtproof.guest.domain import Connection
from virtproof.lab import open_lab
kept = []
def connect(uri):
    kept.append(Connection(uri))
    return kept[0]
lab = open_lab(Path(sys.argv[1]), connect)
print(lab._directory, lab._process.pid, flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "exec":
        done = lab.run("ip", "-4", "-o", "address", "show", "dev", "virtproof0")
        print(done.stdout.split()[3], flush=True)
    if word == "linger":
        print(lab.linger(), flush=True)
    if word == "die":
        os._exit(7)
lab.close()
"""


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something holds; an assertion that names it where it does not."""
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def processes_naming(text: str) -> dict[int, str]:
    """Host-wide: processes with ``text`` in their command line, environment not looked at."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if text in words:
                found[int(entry.name)] = words
    return found


def members(pid: int) -> set[int]:
    """A process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= members(int(child))
    return found


def alive(pids: set[int]) -> set[int]:
    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    return {pid for pid in pids if state(pid) not in "XZ"}


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a lab could leave on the host."""

    mounts: str
    interfaces: tuple[str, ...]
    rules: str

    @classmethod
    def now(cls) -> Machine:
        interfaces = tuple(sorted(name for _, name in socket.if_nameindex()))
        rules = Path("/proc/net/route").read_text()
        return cls(Path("/proc/self/mounts").read_text(), interfaces, rules)


@dataclasses.dataclass
class Owner:
    """A process that owns a lab."""

    process: subprocess.Popen[str]
    directory: Path
    unshare: int
    cache: Path

    @property
    def disks(self) -> Path:
        return self.cache / "labs" / self.directory.name

    def say(self, word: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """Close its input, so that it closes its lab; its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(SOON_S)


Start = Callable[..., Owner]


@pytest.fixture
def owner(runtime: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts processes that own a lab each; whatever a test leaves of them is ended by its PID."""
    started: list[Owner] = []

    def start(
        *before: str, python: str = sys.executable, cache: Path = tmp_path, runtime: Path = runtime
    ) -> Owner:
        process = subprocess.Popen(
            [*before, python, "-c", OWNER, str(cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "VIRTPROOF_RUNTIME": str(runtime)},
        )
        assert process.stdout
        words = process.stdout.readline().split()
        assert len(words) == 2, "the owner's lab did not start"
        started.append(Owner(process, Path(words[0]), int(words[1]), cache))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        if alive({one.unshare}) and str(one.directory) in processes_naming("unshare").get(
            one.unshare, ""
        ):
            os.kill(one.unshare, signal.SIGKILL)
        for stream in (one.process.stdin, one.process.stdout):
            if stream:
                stream.close()


def nothing_left(one: Owner, pids: set[int]) -> None:
    until(lambda: not alive(pids), f"the end of {pids}")
    until(lambda: not one.directory.exists(), "the lab's directory is gone")
    until(lambda: not one.disks.exists(), "the lab's disks are gone")
    assert processes_naming(str(one.directory)) == {}


# --- what a lab gives -----------------------------------------------------------------------


def test_the_network_is_up_with_dhcp(living: tuple[PrivateLab, Connection]) -> None:
    lab, connection = living
    connection.require_network(lab.network)
    said = lab.run("ip", "-4", "-o", "address", "show", "dev", network.BRIDGE).stdout
    assert f"inet {network.GATEWAY}/24 " in said
    processes = lab.run("ps", "-e", "-o", "comm").stdout.split()
    assert "dnsmasq" in processes
    sockets = lab.run("cat", "/proc/net/udp").stdout
    assert any(line.split()[1].endswith(":0043") for line in sockets.splitlines()[1:])  # port 67


def test_versions_of_its_own_libvirt_and_qemu(living: tuple[PrivateLab, Connection]) -> None:
    versions = living[1].versions()
    assert set(versions) == {"libvirt", "qemu"}
    assert all(version.count(".") == 2 for version in versions.values())


def test_a_command_gives_status_and_streams(living: tuple[PrivateLab, Connection]) -> None:
    done = living[0].run("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.status, done.stdout, done.stderr) == (5, "out\n", "err\n")


def test_a_command_that_is_not_there_is_one_line(living: tuple[PrivateLab, Connection]) -> None:
    with pytest.raises(LabError, match="in the lab, no-such-tool did not run: .*No such file"):
        living[0].run("no-such-tool")


def test_a_command_that_does_not_end_is_ended(living: tuple[PrivateLab, Connection]) -> None:
    lab, _ = living
    begin = time.monotonic()
    with pytest.raises(LabError, match="sleep did not run: .*timed out after 0.2 seconds"):
        lab.run("sleep", "98765", timeout_s=0.2)
    assert time.monotonic() - begin < SOON_S / 2
    assert processes_naming("sleep 98765") == {}


def test_a_listener_inside_is_reached_and_carries_data(
    living: tuple[PrivateLab, Connection],
) -> None:
    lab, _ = living
    serve = (
        "import socket; s = socket.create_server(('198.18.0.1', 4711)); c, _ = s.accept();"
        "data = c.recv(100); c.sendall(data.upper()); c.close()"
    )
    server = threading.Thread(target=lab.run, args=(sys.executable, "-c", serve), daemon=True)
    server.start()
    until(lambda: ":1267 " in lab.run("cat", "/proc/net/tcp").stdout, "the listener")
    with lab.connect_tcp(network.GATEWAY, 4711, 5.0) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"
        assert connection.gettimeout() == 5.0
    server.join(SOON_S)


def test_where_nothing_listens_is_an_oserror(living: tuple[PrivateLab, Connection]) -> None:
    with pytest.raises(OSError, match="refused"):
        living[0].connect_tcp(network.GATEWAY, 4712, 5.0)


def test_where_nobody_is_is_an_oserror_in_time(living: tuple[PrivateLab, Connection]) -> None:
    begin = time.monotonic()
    with pytest.raises(OSError, match="timed out|No route"):
        living[0].connect_tcp("198.18.0.77", 22, 0.3)
    assert time.monotonic() - begin < SOON_S / 2


# --- nothing gets out -----------------------------------------------------------------------


def test_the_hosts_loopback_is_not_reached_from_inside(
    living: tuple[PrivateLab, Connection],
) -> None:
    lab, _ = living
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ask = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
        inside = lab.run(sys.executable, "-c", ask)
        # The control: the same words outside.
        outside = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=False)
    assert inside.status != 0
    assert "ConnectionRefusedError" in inside.stderr
    assert outside.returncode == 0


def test_there_is_no_way_to_any_other_network(living: tuple[PrivateLab, Connection]) -> None:
    lab, _ = living
    links = {line.split(":")[1].strip() for line in lab.run("ip", "-o", "link").stdout.splitlines()}
    assert links == {"lo", network.BRIDGE}
    routes = lab.run("ip", "route", "show", "table", "main").stdout.splitlines()
    assert [route.split()[0] for route in routes] == ["198.18.0.0/24"]
    assert "unreachable" in lab.run("ip", "route", "get", "192.0.2.1").stderr.lower()


def test_the_labs_bridge_is_not_on_the_host(living: tuple[PrivateLab, Connection]) -> None:
    assert network.BRIDGE in living[0].run("ip", "-o", "link").stdout
    assert network.BRIDGE not in [name for _, name in socket.if_nameindex()]


def test_libvirts_state_of_the_host_is_covered(living: tuple[PrivateLab, Connection]) -> None:
    lab, _ = living
    inside = lab.run("sh", "-c", "echo lab >/etc/libvirt/virtproof-was-here").status
    assert inside == 0
    assert not Path("/etc/libvirt/virtproof-was-here").exists()
    assert lab.run("ls", "/run").stdout.split() != sorted(os.listdir("/run"))


def test_only_the_owner_may_reach_its_sockets(
    living: tuple[PrivateLab, Connection], runtime: Path
) -> None:
    lab, _ = living
    place = Path(lab.uri.partition("socket=")[2]).parent
    assert place.parent == runtime
    assert (runtime.stat().st_mode & 0o777, place.stat().st_mode & 0o777) == (0o700, 0o700)


# --- disks ----------------------------------------------------------------------------------


def test_an_overlay_leaves_its_base_alone(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    storage = living[0].storage
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "8M"], check=True)
    sealed = base.read_bytes()
    path = Path(storage.overlay(base, "guest"))
    subprocess.run(["qemu-io", "-c", "write -P 7 0 1M", path], check=True, capture_output=True)
    info = subprocess.run(["qemu-img", "info", path], check=True, capture_output=True, text=True)
    assert f"backing file: {base}" in info.stdout
    assert base.read_bytes() == sealed
    assert storage.allocated_bytes(str(path)) >= 1 << 20
    storage.remove(str(path))
    assert not path.exists()
    storage.remove(str(path))  # twice is no fault


def test_an_overlay_on_nothing_is_one_line(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    with pytest.raises(LabError, match="qemu-img create failed: .*No such file") as failure:
        living[0].storage.overlay(tmp_path / "no-base.qcow2", "orphan")
    assert "\n" not in str(failure.value)


def test_a_blank_disk_is_sparse_and_never_replaces_another(
    living: tuple[PrivateLab, Connection],
) -> None:
    storage = living[0].storage
    path = storage.blank("blank", 64)
    assert os.stat(path).st_size == 64 << 20
    assert storage.allocated_bytes(path) < 1 << 20
    with pytest.raises(FileExistsError):
        storage.blank("blank", 64)


def test_an_archive_holds_a_directorys_files(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    for name in ("b.deb", "a.deb"):
        (tmp_path / name).write_text(name)
    path = living[0].storage.archive("packages", tmp_path)
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["a.deb", "b.deb"]


def test_a_log_is_read_from_its_end_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * LOG_BYTES + b"the end \xff")
    assert tail(log).endswith("the end \N{REPLACEMENT CHARACTER}")
    assert len(tail(log)) == LOG_BYTES
    assert tail(tmp_path / "none") == ""


# --- nothing stays --------------------------------------------------------------------------


def test_closing_leaves_nothing(runtime: Path, tmp_path: Path) -> None:
    before = Machine.now()
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    known = set(runtime.iterdir())
    lab = open_lab(tmp_path, connect)
    (place,) = set(runtime.iterdir()) - known
    pids = set(processes_naming(str(place)))
    assert len(pids) >= 3  # unshare, the lab's first process, libvirtd
    lab.storage.blank("left", 1)
    connections[0].close()
    lab.close()
    lab.close()
    assert alive(pids) == set()
    assert set(runtime.iterdir()) == known
    assert list((tmp_path / "labs").iterdir()) == []
    assert Machine.now() == before
    with pytest.raises(LabError, match="the lab has gone"):
        lab.run("true")


def test_an_owner_that_ends_well_leaves_nothing(owner: Start) -> None:
    before = Machine.now()
    one = owner()
    pids = members(one.unshare)
    assert one.say("exec") == f"{network.GATEWAY}/24"
    assert one.end() == 0
    nothing_left(one, pids)
    assert Machine.now() == before


@pytest.mark.parametrize("how", ["kill -9", "os._exit"])
def test_an_owner_that_dies_leaves_nothing(owner: Start, how: str) -> None:
    before = Machine.now()
    one = owner()
    pids = members(one.unshare)
    assert len(pids) >= 4
    if how == "kill -9":
        one.process.kill()
    else:
        one.say("die")
    one.process.wait(SOON_S)
    nothing_left(one, pids)
    assert Machine.now() == before


@pytest.mark.parametrize("which", ["unshare", "init"])
def test_a_lab_whose_first_process_is_killed_has_gone_and_closes(
    runtime: Path, tmp_path: Path, which: str
) -> None:
    before = Machine.now()
    with open_lab(tmp_path, Connection) as lab:
        (place,) = (p for p in runtime.iterdir() if str(p) in lab.uri)
        pids = set(processes_naming(str(place)))
        (unshare,) = (p for p in pids if Path(f"/proc/{p}/comm").read_text() == "unshare\n")
        (init,) = members(unshare) & {
            int(pid) for pid in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        }
        os.kill(unshare if which == "unshare" else init, signal.SIGKILL)
        until(lambda: not alive(pids), "the end of the lab's processes")
        with pytest.raises(LabError, match="the lab has gone"):
            lab.run("true")
        with pytest.raises(LabError, match="the lab has gone"):
            lab.connect_tcp(network.GATEWAY, 22, 1.0)
    assert not place.exists()
    assert Machine.now() == before


def test_a_sweep_removes_dead_labs_and_no_living_one(owner: Start, runtime: Path) -> None:
    one, two = owner(), owner()
    assert sweep() == 0
    # The lab's processes first, so that none of them is left to clean up after its owner.
    pids = members(two.unshare)
    os.kill(two.unshare, signal.SIGKILL)
    until(lambda: not alive(pids), "the end of the second lab")
    assert sweep() == 0  # its owner lives
    two.process.kill()
    two.process.wait()
    assert two.directory.exists()
    assert sweep() == 1
    nothing_left(two, set())
    assert one.say("exec") == f"{network.GATEWAY}/24"
    assert one.directory in set(runtime.iterdir())


def test_a_dead_lab_is_removed_with_its_disks_when_the_next_one_starts(
    runtime: Path, tmp_path: Path
) -> None:
    place, disks = runtime / "lab-dead0000", tmp_path / "labs" / "lab-dead0000"
    place.mkdir()
    disks.mkdir(parents=True)
    (disks / "guest.qcow2").write_text("left")
    (place / "disks").symlink_to(disks)
    (place / "lock").touch()
    (runtime / "not-a-lab").mkdir()
    with PrivateLab(tmp_path / "other"):
        assert not place.exists()
        assert not disks.exists()
    assert (runtime / "not-a-lab").exists()


def test_a_lab_that_lingers_outlives_its_owner_until_clean(owner: Start, runtime: Path) -> None:
    one = owner()
    pids = members(one.unshare)
    words = one.say("linger").split()
    assert words[:2] == ["nsenter", "--target"]
    one.process.kill()
    one.process.wait()
    assert sweep() == 0
    time_enough = time.monotonic() + 0.3
    until(lambda: time.monotonic() > time_enough, "a moment")
    running = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in alive(members(one.unshare))}
    assert {"unshare", "libvirtd", "dnsmasq"} <= running
    if os.getuid() == 0:
        enter = [*words, "ip", "-o", "link"]
        said = subprocess.run(enter, capture_output=True, text=True, check=True).stdout
        assert network.BRIDGE in said
    assert (one.directory / LINGERING).exists()
    assert clean() == Cleaned(dead=0, kept=1)
    nothing_left(one, pids)
    assert clean() == Cleaned(dead=0, kept=0)
    assert [path for path in runtime.glob("lab-*") if path == one.directory] == []


# --- faults are one line --------------------------------------------------------------------


def one_line(failure: VirtproofError) -> str:
    assert "\n" not in str(failure)
    assert failure.hint
    return str(failure)


def test_no_libvirtd_is_named(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which

    def hidden(name: str, **how: Any) -> str | None:
        return None if name == "libvirtd" else which(name, **how)

    monkeypatch.setattr("shutil.which", hidden)
    before = set(runtime.iterdir())
    with pytest.raises(MissingToolError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith("libvirtd is not installed (")
    assert set(runtime.iterdir()) == before


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that comes first in PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_unshare_that_fails_is_quoted_and_nothing_stays(
    runtime: Path, tmp_path: Path, tools: Path
) -> None:
    script(tools / "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    before = set(runtime.iterdir())
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path / "cache")
    line = one_line(failure.value)
    assert line.startswith("the lab does not start: unshare: unshare failed: Operation not perm")
    assert set(runtime.iterdir()) == before
    assert list((tmp_path / "cache" / "labs").iterdir()) == []


def test_unshare_that_is_not_there_is_named(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    before = set(runtime.iterdir())
    with pytest.raises(MissingToolError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith("unshare is not installed (")
    assert set(runtime.iterdir()) == before


def test_libvirtd_that_ends_at_once_is_quoted(runtime: Path, tmp_path: Path, tools: Path) -> None:
    script(tools / "libvirtd", "echo 'error : no such machine' >&2; exit 3")
    before = set(runtime.iterdir())
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path)
    assert one_line(failure.value).startswith(
        "the lab does not start: libvirtd ended at once with status 3 ("
    )
    assert "error : no such machine" in failure.value.detail
    assert set(runtime.iterdir()) == before


def test_a_network_that_does_not_start_ends_the_lab(runtime: Path, tmp_path: Path) -> None:
    class Refusing:
        def start_network(self, xml: str) -> None:
            raise LabError(f"no network today: {len(xml)} bytes of XML")

    before = set(runtime.iterdir())
    with pytest.raises(LabError, match="no network today"):
        open_lab(tmp_path, lambda _uri: Refusing())
    assert set(runtime.iterdir()) == before


def test_a_cache_that_cannot_be_written_is_one_line(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    before = set(runtime.iterdir())
    with pytest.raises(LabError) as failure:
        PrivateLab(tmp_path / "cache")
    assert str(tmp_path / "cache") in one_line(failure.value)
    assert set(runtime.iterdir()) == before


def test_a_libvirt_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="^libvirt at qemu.* does not answer: ") as failure:
        Connection(f"qemu+unix:///system?socket={tmp_path}/none")
    assert "\n" not in str(failure.value)


def test_a_runtime_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").symlink_to(tmp_path)
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / "theirs"))
    with pytest.raises(LabError, match="is not a directory of yours") as failure:
        runtime_directory()
    assert "VIRTPROOF_RUNTIME" in one_line(failure.value)
    if os.getuid() == 0:
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 65534, 65534)
        monkeypatch.setenv("VIRTPROOF_RUNTIME", str(other))
        with pytest.raises(LabError, match="is not a directory of yours"):
            runtime_directory()


@pytest.mark.parametrize("place", ["no/such/parent", "file"])
def test_a_runtime_directory_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / place))
    with pytest.raises(LabError, match="cannot make .*VIRTPROOF_RUNTIME") as failure:
        runtime_directory()
    one_line(failure.value)


def test_a_runtime_directory_is_made_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o777)
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(open_to_all))
    assert runtime_directory().stat().st_mode & 0o777 == 0o700


# --- as an ordinary user --------------------------------------------------------------------


def ordinary_user() -> pwd.struct_passwd:
    """A user of this machine who may have a user namespace of their own; skips where none is."""
    if os.getuid() != 0:
        pytest.skip("not root: every other test here has run as an ordinary user")
    missing = [name for name in ("newuidmap", "setpriv") if host.find_program(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for line in Path("/etc/subuid").read_text().splitlines():
        name, _, count = line.replace(":", " ", 1).partition(" ")
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid and int(count.rpartition(":")[2]) >= 65536:
            return user
    pytest.skip("no ordinary user has subordinate uids (/etc/subuid)")


def readable_python(become: tuple[str, ...]) -> str:
    """A Python that the user may run with our libraries: ours, or the distribution's of its age."""
    reason = ""
    for python in (sys.executable, "/usr/bin/python3"):
        ask = [*become, python, "-c", "import libvirt, lxml.etree, virtproof.lab"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return python
        reason = done.stderr.strip()[-200:]
    pytest.skip(f"the ordinary user has no Python with our libraries: {reason}")


@pytest.fixture
def user_place(runtime: Path) -> Iterator[tuple[pwd.struct_passwd, Path]]:  # noqa: ARG001
    """An ordinary user, and a directory of theirs."""
    user = ordinary_user()
    path = Path(tempfile.mkdtemp(prefix="vpu-", dir="/tmp"))
    os.chown(path, user.pw_uid, user.pw_gid)
    yield user, path
    shutil.rmtree(path, ignore_errors=True)


def test_an_ordinary_user_has_a_lab_that_leaves_nothing(
    owner: Start, user_place: tuple[pwd.struct_passwd, Path]
) -> None:
    user, place = user_place
    become = (
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *("env", f"HOME={place}", f"PYTHONPATH={ROOT / 'plugins'}:{get_path('purelib')}"),
    )
    python = readable_python(become)
    before = Machine.now()
    for how in ("end", "kill"):
        one = owner(*become, python=python, cache=place / "cache", runtime=place / "run")
        pids = members(one.unshare)
        assert Path(f"/proc/{one.unshare}").stat().st_uid == user.pw_uid
        assert one.say("exec") == f"{network.GATEWAY}/24"
        if how == "end":
            assert one.end() == 0
        else:
            one.process.kill()
            one.process.wait()
        nothing_left(one, pids)
    assert Machine.now() == before


def test_a_remnant_without_its_lock_is_swept_once_it_is_old(runtime: Path) -> None:
    """Killed while it was removed, a lab has no lock any more; one that is being made has none yet."""
    old, young = runtime / "lab-old", runtime / "lab-young"
    for lab in (old, young):
        (lab / "state").mkdir(parents=True)
    os.utime(old, (0, 0))
    assert sweep() == 1
    assert not old.exists()
    assert young.exists()

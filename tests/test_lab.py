"""The private lab: what it gives, and that nothing gets out of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lab_owner import (
    SOON_S,
    processes_naming,
    until,
)
from virtproof.errors import LabError, LabGoneError
from virtproof.guest.connection import Connection
from virtproof.lab import PrivateLab, init, network, open_lab, private
from virtproof.plugin import run
from virtproof.plugin.options import Options
from virtproof.plugin.progress import Progress

# --- what a lab gives -----------------------------------------------------------------------


def test_the_network_is_up_with_dhcp(living: tuple[PrivateLab, Connection]) -> None:
    lab, connection = living
    xml = connection.require_network(lab.network)
    assert network.why_together(lab.network, xml) == "", "libvirt's own words for such a bridge"
    said = lab.run("ip", "-4", "-o", "address", "show", "dev", network.BRIDGE).stdout
    assert f"inet {network.GATEWAY}/24 " in said
    processes = lab.run("ps", "-e", "-o", "comm").stdout.split()
    assert "dnsmasq" in processes
    sockets = lab.run("cat", "/proc/net/udp").stdout
    assert any(line.split()[1].endswith(":0043") for line in sockets.splitlines()[1:])  # port 67


def test_what_the_dhcp_server_left_unreaped_is_not_missed_later(
    living: tuple[PrivateLab, Connection], tmp_path: Path
) -> None:
    """It goes to the background over a process between, which a busy first process reaps late."""
    lab, _ = living
    assert lab._process is not None
    first = private._child_of(lab._process.pid)
    (tmp_path / "dnsmasq").symlink_to("/bin/true")
    os.kill(first, signal.SIGSTOP)  # it reaps nothing
    try:
        lab.run("sh", "-c", f"( {tmp_path}/dnsmasq & ) ; sleep 0.2")
        ended = lab.run("sh", "-c", "grep -l '(dnsmasq) Z' /proc/[0-9]*/stat").stdout.split()
        assert len(ended) == 1
        lab.expect_dhcp()
    finally:
        os.kill(first, signal.SIGCONT)
    until(lambda: lab.run("test", "-e", ended[0]).status != 0, "reaped")
    lab.check()


def test_a_lab_that_was_killed_is_not_said_to_lack_its_dhcp_server(
    runtime: Path, cache: Path
) -> None:
    """Asked right after it died, when libvirt has not noticed yet."""
    del runtime
    with open_lab(cache, Connection) as lab:
        lab.check()
        assert lab._process is not None
        os.kill(private._child_of(lab._process.pid), signal.SIGKILL)
        lab._process.wait(SOON_S)
        with pytest.raises(LabGoneError, match="^the lab was killed$"):
            lab.check()


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


def test_where_nothing_listens_is_a_refusal(living: tuple[PrivateLab, Connection]) -> None:
    with pytest.raises(ConnectionRefusedError):
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


def test_the_lab_forwards_nothing(living: tuple[PrivateLab, Connection]) -> None:
    assert living[0].run("cat", "/proc/sys/net/ipv4/ip_forward").stdout == "0\n"


def test_the_labs_sys_shows_its_own_interfaces(living: tuple[PrivateLab, Connection]) -> None:
    """By which libvirt isolates the ports of its bridge."""
    lab, _ = living
    assert lab.why_together == ""
    assert lab.run("ls", "/sys/class/net").stdout.split() == ["lo", network.BRIDGE]


def test_where_sys_cannot_show_them_the_lab_says_so() -> None:
    ask = (
        'mount -t tmpfs none /run && mount -t tmpfs none /sys && exec "$0" -c '
        "'import sys; sys.path.insert(0, sys.argv[1]); import init; print(init.own_interfaces())' \"$1\""
    )
    users = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *users, "--net", "--mount", "sh", "-c", ask, sys.executable]
    done = subprocess.run(
        [*argv, str(Path(init.__file__).parent)], capture_output=True, text=True, check=True
    )
    assert "mount on /sys/class/net: No such file or directory" in done.stdout


def test_a_run_says_where_guests_cannot_be_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(run, "open_lab", lambda *_: SimpleNamespace(why_together="no room in /sys"))
    options = cast(Options, SimpleNamespace(cache=Path(), libvirt=None, kernels={}))
    assert run.Run(options, cast(Progress, SimpleNamespace(once=said.append))).lab
    assert said == ["guests can reach each other: no room in /sys"]


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

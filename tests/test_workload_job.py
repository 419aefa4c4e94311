"""What all workloads share; and their server, for real: on this machine, in namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from virtproof.errors import MissingToolError
from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.iperf3 import Iperf3
from virtproof.workload.job import (
    MOST_JSON,
    Ends,
    cost,
    far_json,
    number,
    parsed,
    require,
    server,
    unpacked,
)
from virtproof.workload.sockperf import RoundTrips
from workload_fakes import Clock, Says, ends, packed

# --- what is read -----------------------------------------------------------------------------


def test_what_was_packed_comes_back() -> None:
    assert unpacked(packed("äß{}") + "\n", "fio") == "äß{}"
    assert unpacked(packed(b"\xff"), "fio") == "\ufffd"


def test_the_most_that_is_unpacked() -> None:
    assert len(unpacked(packed(bytes(MOST_JSON - 1)), "fio")) == MOST_JSON - 1
    with pytest.raises(MeasurementError, match="no whole file of at most 4 MiB"):
        unpacked(packed(bytes(MOST_JSON + 1)), "fio")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = packed(bytes(200 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(MeasurementError):
            unpacked(bomb, "fio")
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST_JSON
    finally:
        tracemalloc.stop()


def test_a_number_by_its_path() -> None:
    found = {"end": [{"sum": 2}, {"sum": 0.5}]}
    assert number(found, "end", 1, "sum", what="x") == 0.5
    with pytest.raises(MeasurementError, match="x: its JSON has no end/2/sum"):
        number(found, "end", 2, "sum", what="x")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -1, -0.1, True, None, "9", [1] * 9999, 10**400]
)
def test_what_is_no_measurement_is_said_shortly(value: object) -> None:
    with pytest.raises(MeasurementError, match="x: rate is .*, no measurement$") as caught:
        number({"rate": value}, "rate", what="x")
    assert len(str(caught.value)) < 120


def test_what_is_no_json_is_told_by_its_end() -> None:
    with pytest.raises(MeasurementError, match="fio: no JSON but 'x+ the end'"):
        parsed("x" * 5000 + "\nthe end", "fio")
    with pytest.raises(MeasurementError, match=r"fio: no JSON object but '\[1\]'"):
        parsed("[1]", "fio")


@pytest.mark.parametrize("error", ["a\nb", ["a"], {"a": {"b": {}}}, 7, "x" * 9999])
def test_an_error_member_is_one_line(error: object) -> None:
    with pytest.raises(MeasurementError, match="^tool: ") as caught:
        far_json(ends(far=json.dumps({"error": error})), "tool", timeout_s=1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 220


def test_cost_is_time_by_bytes_where_both_are_known() -> None:
    (figure,) = cost("read", 2.0, 4)
    assert (figure.name, figure.unit, figure.better) == ("read.cpu", "s/B", "lower")
    assert figure.value == 0.5
    assert cost("read", 0.0, 4) == cost("read", 2.0, 0) == cost("read", 2.0, 10**400) == ()


def test_a_tool_is_asked_for_once_a_guest() -> None:
    guest = Says(lambda _: (0, "fio-3.33   x\nmore\n"))
    both = ends(guest)
    assert require(both, "fio") == require(both, "fio") == "fio-3.33 x"
    assert guest.ran == ["fio --version 2>&1"]


def test_a_missing_tool_is_asked_for_again_and_told() -> None:
    guest = Says(lambda _: (127, ""))
    for _ in range(2):
        with pytest.raises(MissingToolError, match="put the package fio into the image"):
            require(ends(guest), "fio")


# --- the server -------------------------------------------------------------------------------

HOLD = "mount -t tmpfs none /run && ip link set lo up && echo up && cat"


class Here:
    """Runs commands by the shell of this machine, in namespaces of their own (with a /run of theirs)."""

    def __init__(self) -> None:
        user = [] if os.getuid() == 0 else ["--map-root-user"]
        flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen(
            ["unshare", *user, *flags, "sh", "-c", HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != "up\n":
            self.close()
            pytest.skip("no namespaces of our own")
        children = f"/proc/{self._holder.pid}/task/{self._holder.pid}/children"
        with open(children, encoding="ascii") as file:
            inner = file.read().split()[0]
        mine = ["--user", "--preserve-credentials"] if user else []
        self.enter = ["nsenter", "--target", inner, *mine, "--net", "--mount", "--pid"]

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        line = quote(command, args)
        done = subprocess.run(
            [*self.enter, "sh", "-c", line],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s or 30,
        )
        return checked(CommandResult(line, done.returncode, done.stdout, done.stderr), check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError((path, data))

    def far(self, *argv: str, timeout_s: float) -> CommandResult:
        return self.run(" ".join(["%s"] * len(argv)), *argv, check=False, timeout_s=timeout_s)

    def close(self) -> None:
        self._holder.communicate()


@pytest.fixture
def here() -> Iterator[Here]:
    if shutil.which("nsenter") is None or shutil.which("unshare") is None:
        pytest.skip("no unshare and nsenter")
    made = Here()
    yield made
    made.close()


@pytest.fixture
def between(here: Here) -> Ends:
    return Ends(here, here.far, Clock(), address="127.0.0.1")


def listeners(here: Here) -> str:
    said = here.run("cat /proc/net/tcp /proc/net/tcp6").stdout
    return " ".join(line.split()[1] for line in said.splitlines() if line.split()[3] == "0A")


def processes(here: Here) -> str:
    """What runs in the namespaces beside the holder (and what asks); dead ones do not."""
    said = here.run("cat /proc/[0-9]*/stat 2>/dev/null; true").stdout.splitlines()
    running = [line.split()[1] for line in said if line.split()[2] != "Z"]
    return " ".join(name for name in running if name not in ("(sh)", "(cat)"))


PYTHON = "python3 -u /run/server.py {port}"
LISTENS = """
import socket, sys, time
time.sleep(float({delay}))
one = socket.create_server(("", int(sys.argv[1])))
{then}
time.sleep(60)
"""


def script(here: Here, delay: float = 0, then: str = "") -> None:
    here.run("printf %%s %s >/run/server.py", LISTENS.format(delay=delay, then=then))


def iperf3() -> str:
    if shutil.which("iperf3") is None:
        pytest.skip("no iperf3 on this machine")
    return "iperf3 --server --one-off --port {port}"


def test_it_listens_when_the_block_begins_and_is_gone_after(here: Here, between: Ends) -> None:
    script(here, delay=0.5)
    begin = time.monotonic()
    with server(between, 20001, PYTHON):
        assert ":4E21" in listeners(here)
        assert "python3" in processes(here)
        assert 0.5 < time.monotonic() - begin < 8
    assert listeners(here) == ""
    assert processes(here) == ""
    assert here.run("ls /run").stdout == "server.py\n"


def test_it_is_gone_after_a_fault_in_the_block(here: Here, between: Ends) -> None:
    script(here)
    with pytest.raises(ZeroDivisionError), server(between, 20001, PYTHON):
        raise ZeroDivisionError
    assert processes(here) == ""


def test_one_that_will_not_go_is_killed(here: Here, between: Ends) -> None:
    script(here, then="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with server(between, 20001, PYTHON):
        time.sleep(0.2)  # until the signal is ignored
    assert processes(here) == ""


def test_one_that_served_and_went_is_no_fault(here: Here, between: Ends) -> None:
    script(here, then="one.accept(); sys.exit(0)")
    with server(between, 20001, PYTHON):
        here.run("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 20001))'")
    assert processes(here) == ""


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("false", ""),
        ("no-such-server --port {port}", "not found"),
        ("cat /nonexistent", "cat: /nonexistent: No such file or directory"),
    ],
)
def test_one_that_dies_at_once_is_an_error_with_its_line(
    here: Here, between: Ends, command: str, line: str
) -> None:
    begin = time.monotonic()
    with pytest.raises(MeasurementError) as caught, server(between, 20001, command):
        pytest.fail("the block began")
    assert str(caught.value).startswith(f"in the guest, {command.format(port=20001)!r} does not")
    assert str(caught.value).endswith(line)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < 5, "it was waited for, dead"
    assert here.run("ls /run").stdout == ""


def test_one_that_never_listens_is_ended_after_some_seconds(here: Here, between: Ends) -> None:
    with pytest.raises(MeasurementError, match="does not listen"), server(between, 1, "sleep 60"):
        pytest.fail("the block began")
    assert processes(here) == ""


@pytest.mark.parametrize("by", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_in_use_is_not_taken_for_the_servers(here: Here, between: Ends, by: str) -> None:
    family = "AF_INET6" if ":" in by else "AF_INET"
    other = f"import socket,time; s=socket.create_server(({by!r}, 20001), family=socket.{family})"
    here.run("python3 -c %s >/run/other 2>&1 </dev/null &", f"{other}; time.sleep(60)")
    wait(lambda: ":4E21" in listeners(here))
    script(here)
    with (
        pytest.raises(MeasurementError, match="does not listen: its port is in use"),
        server(between, 20001, PYTHON),
    ):
        pytest.fail("the block began")
    assert ":4E21" in listeners(here), "the other one was ended"


def wait(there: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not there():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_iperf3_and_its_server_for_real(here: Here, between: Ends) -> None:
    iperf3()
    jobs = [Iperf3("to", seconds=1, omit_s=0), Iperf3("x2", True, 2, seconds=1, omit_s=0)]
    jobs.append(Iperf3("udp", udp_mbit_s=5, seconds=1, omit_s=0))
    for job in jobs:
        outcome = job.run(between)
        assert outcome.figures[0].value > 1e6
        assert outcome.version.startswith("iperf 3.")
        assert processes(here) == ""
    figures = {one.name: one.value for one in outcome.figures}
    assert 0 < figures["udp"] < 7e6
    assert 0 <= figures["udp.loss"] < 1


def test_sockperf_and_its_server_for_real(here: Here, between: Ends) -> None:
    if shutil.which("sockperf") is None:
        pytest.skip("no sockperf on this machine")
    p50, *_ = RoundTrips(seconds=1).run(between).figures
    assert 1e-7 < p50.value < 0.1
    assert processes(here) == ""


def test_iperf3_that_finds_no_server_says_so(here: Here, between: Ends) -> None:
    iperf3()
    argv = Iperf3("x", seconds=1).command("127.0.0.1", 20009)
    with pytest.raises(MeasurementError, match="iperf3: unable to connect to server: Connection"):
        far_json(between, *argv, timeout_s=10)
    assert listeners(here) == ""

"""The control channel over a small guest agent that speaks QEMU's protocol, and misbehaves."""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from virtproof.deadline import Deadline
from virtproof.errors import CommandError, GuestError
from virtproof.guest.agent import CHUNK, RESYNC_S, Agent
from virtproof.guest.console import Console

SOON_S = 10.0


class Simulator:
    """A Port with a guest agent behind it. Commands run in the host's own shell.

    ``drop`` requests are lost; ``silent`` names calls that are never answered; ``late`` those whose
    answer is held back until ``release``; ``polls`` is how often a command says that it still runs.
    """

    def __init__(self) -> None:
        self.drop = 0
        self.polls = 0
        self.silent: set[str] = set()
        self.late: set[str] = set()
        self.answers: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []
        self.files: dict[int, bytearray] = {}
        self.closed_files: list[int] = []
        self.close_on = ""
        self.echo = False
        self.sentinels = True
        self.before_sync = b""  # said right before each answer to a sync
        self._held: list[bytes] = []
        self._says: queue.Queue[bytes] = queue.Queue()
        self._heard = b""
        self._closed = False
        self._done: dict[int, dict[str, Any]] = {}

    # -- the port --------------------------------------------------------------------------------

    def receive(self) -> bytes:
        return self._says.get()

    def send(self, data: bytes) -> int:
        if self._closed:
            raise GuestError("the guest's serial port is closed")
        if self.echo:
            self.say(data)
        self._heard += data
        while b"\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\n")
            self._request(line)
        return len(data)

    def say(self, data: bytes) -> None:
        self._says.put(data)

    def close(self) -> None:
        self._closed = True
        self._says.put(b"")

    # -- the agent -------------------------------------------------------------------------------

    def _request(self, line: bytes) -> None:
        if self.drop:
            self.drop -= 1
            return
        request = json.loads(line.lstrip(b"\xff"))
        self.calls.append(request)
        name = request["execute"]
        if name == self.close_on:
            self.close()
            return
        if name in self.silent:
            return
        answer = self._answer(name, request.get("arguments", {}))
        data = json.dumps(answer).encode() + b"\n"
        if name == "guest-sync-delimited" and self.sentinels:
            data = self.before_sync + b"\xff" + data
        if name in self.late:
            self._held.append(data)
            return
        # in two pieces, as a serial port gives them
        self.say(data[:5])
        self.say(data[5:])

    def release(self) -> None:
        self.late.clear()
        while self._held:
            self.say(self._held.pop(0))

    def _answer(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name in self.answers:
            answer: dict[str, Any] = self.answers[name]
            return answer
        handler: Callable[..., Any] = getattr(self, name.replace("-", "_"))
        keys = {key.replace("-", "_"): value for key, value in arguments.items()}
        return {"return": handler(**keys)}

    def guest_sync_delimited(self, id: int) -> int:  # noqa: A002 - QEMU's name
        return id

    def guest_exec(self, path: str, arg: list[str], capture_output: bool) -> dict[str, int]:
        assert capture_output
        done = subprocess.run([path, *arg], capture_output=True, check=False, timeout=SOON_S)
        status: dict[str, Any] = {"exited": True}
        if done.returncode < 0:
            status["signal"] = -done.returncode
        else:
            status["exitcode"] = done.returncode
        for key, stream in (("out-data", done.stdout), ("err-data", done.stderr)):
            if stream:  # as the real one: no member where there was no output
                status[key] = base64.b64encode(stream).decode()
        pid = 4000 + len(self._done)
        self._done[pid] = status
        return {"pid": pid}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        if self.polls:
            self.polls -= 1
            return {"exited": False}
        return self._done[pid]

    def guest_file_open(self, path: str, mode: str) -> int:
        assert (path, mode) == ("/root/file", "wb")
        self.files[7] = bytearray()
        return 7

    def guest_file_write(self, handle: int, buf_b64: str) -> dict[str, int]:
        chunk = base64.b64decode(buf_b64)
        self.files[handle] += chunk
        return {"count": len(chunk)}

    def guest_file_close(self, handle: int) -> dict[str, int]:
        self.closed_files.append(handle)
        return {}

    def count(self, name: str) -> int:
        return sum(call["execute"] == name for call in self.calls)


@pytest.fixture
def port() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.close()


@pytest.fixture
def agent(port: Simulator) -> Agent:
    """An agent that has been synchronised; time-outs as on KVM."""
    agent = Agent(Console(port), 1.0)
    assert agent.sync(Deadline.after(SOON_S))
    return agent


def elapsed(begin: float) -> float:
    return time.monotonic() - begin


# --- finding the agent ----------------------------------------------------------------------


def test_an_agent_that_answers_is_found_at_once(port: Simulator) -> None:
    agent = Agent(Console(port), 1.0)
    assert not agent.synchronised
    begin = time.monotonic()
    assert agent.sync(Deadline.after(SOON_S))
    assert elapsed(begin) < RESYNC_S
    assert agent.synchronised


def test_stale_bytes_before_the_answer_do_not_confuse_it(port: Simulator) -> None:
    port.say(b'{"return": 1}\n\xff{"return": 99}\n[    1.2] kernel says\xff\xff{"ret')
    agent = Agent(Console(port), 1.0)
    assert agent.sync(Deadline.after(SOON_S))
    assert agent.run("echo fresh").stdout == "fresh\n"


def test_stale_bytes_while_it_answers_do_not_either(port: Simulator) -> None:
    port.late = {"guest-sync-delimited"}
    agent = Agent(Console(port), 1.0)
    assert not agent.sync(Deadline.after(0.05))
    port.say(b'{"error": {"desc": "JSON parse error"}}\n')
    port.release()  # the answer to a request that was given up
    assert agent.sync(Deadline.after(SOON_S))
    assert agent.run("echo fresh").stdout == "fresh\n"


def test_a_late_answer_right_before_the_right_one_is_passed_over(port: Simulator) -> None:
    port.before_sync = b'\xff{"return": 77}\n\xff'
    agent = Agent(Console(port), 1.0)
    begin = time.monotonic()
    assert agent.sync(Deadline.after(SOON_S))
    assert elapsed(begin) < RESYNC_S
    assert agent.run("echo fresh").stdout == "fresh\n"


def test_a_terminal_that_echoes_is_no_agent(port: Simulator) -> None:
    port.echo = True
    port.silent = {"guest-sync-delimited"}
    agent = Agent(Console(port), 1.0)
    assert not agent.sync(Deadline.after(0.1))
    assert not agent.synchronised


def test_an_answer_without_its_delimiter_is_none(port: Simulator) -> None:
    port.sentinels = False
    assert not Agent(Console(port), 1.0).sync(Deadline.after(0.1))


def test_an_answer_to_another_number_is_none(port: Simulator) -> None:
    port.answers["guest-sync-delimited"] = {"return": 12345}
    assert not Agent(Console(port), 1.0).sync(Deadline.after(0.1))


def test_a_request_that_a_booting_guest_dropped_is_sent_anew(port: Simulator) -> None:
    port.drop = 1
    agent = Agent(Console(port), 1.0)
    begin = time.monotonic()
    assert agent.sync(Deadline.after(SOON_S))
    assert RESYNC_S <= elapsed(begin) < SOON_S / 2
    numbers = [call["arguments"]["id"] for call in port.calls]
    assert numbers == [2]


def test_no_agent_is_a_plain_no_at_the_deadline(port: Simulator) -> None:
    port.silent = {"guest-sync-delimited"}
    begin = time.monotonic()
    assert not Agent(Console(port), 6.0).sync(Deadline.after(0.1))
    assert 0.1 <= elapsed(begin) < RESYNC_S


def test_a_port_that_closes_ends_the_search(port: Simulator) -> None:
    port.silent = {"guest-sync-delimited"}
    agent = Agent(Console(port), 1.0)
    timer = threading.Timer(0.05, port.say, [b""])
    timer.start()
    begin = time.monotonic()
    assert not agent.sync(Deadline.after(SOON_S))
    assert elapsed(begin) < SOON_S / 2
    timer.join()


# --- commands -------------------------------------------------------------------------------


def test_a_command_gives_status_and_both_streams(agent: Agent) -> None:
    result = agent.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert result.command == "echo out; echo err >&2; exit 3"


def test_arguments_are_quoted(agent: Agent) -> None:
    nasty = "a b; echo $HOME '\"`id`\n%s"
    assert agent.run("printf '%%s' %s", nasty).stdout == nasty


def test_a_percent_sign_without_arguments_stays(agent: Agent) -> None:
    assert agent.run("printf 100%%").stdout == "100%"


def test_output_is_decoded_and_what_is_no_utf8_replaced(agent: Agent) -> None:
    result = agent.run("printf '\\303\\244\\377\\n'; printf '\\200' >&2")
    assert (result.stdout, result.stderr) == ("ä\N{REPLACEMENT CHARACTER}\n", "\ufffd")


def test_much_output_arrives_whole(agent: Agent) -> None:
    assert len(agent.run("head -c 2000000 /dev/zero | tr '\\0' x").stdout) == 2_000_000


def test_a_command_has_a_path_and_a_locale_of_its_own(agent: Agent) -> None:
    said = agent.run('echo "$PATH $LC_ALL"').stdout
    assert said == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin C.UTF-8\n"


def test_a_failure_carries_command_status_and_last_line(agent: Agent) -> None:
    with pytest.raises(CommandError) as failure:
        agent.run("echo one >&2; echo two >&2; exit 7")
    line = "in the guest, 'echo one >&2; echo two >&2; exit 7' exited with 7: two"
    assert str(failure.value) == line
    assert "one\ntwo" in failure.value.detail


def test_a_signal_is_128_and_its_number_as_a_shell_has_it(agent: Agent) -> None:
    assert agent.run("kill -9 $$", check=False).status == 137


def test_a_command_that_takes_its_time_is_waited_for(port: Simulator, agent: Agent) -> None:
    port.polls = 3
    assert agent.run("echo done").stdout == "done\n"
    assert port.count("guest-exec-status") == 4


def asked(port: Simulator) -> int:
    """How often it was asked whether a command has ended."""
    return [call["execute"] for call in port.calls].count("guest-exec-status")


def test_a_command_that_rings_is_asked_after_once(
    port: Simulator, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked before; the byte that rang is no answer; control: without it, nobody asks."""
    monkeypatch.setattr("virtproof.guest.agent.RING_S", 60.0)
    found: list[str] = []
    run = threading.Thread(target=lambda: found.append(agent.run("echo it", rings=True).stdout))
    run.start()
    run.join(0.5)
    assert (found, asked(port)) == ([], 0)
    port.say(b"\n")
    run.join(SOON_S)
    assert (found, asked(port)) == (["it\n"], 1)
    assert agent.run("echo more").stdout == "more\n"


def test_a_ring_that_is_lost_or_early_costs_no_answer(
    port: Simulator, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtproof.guest.agent.RING_S", 0.1)
    assert agent.run("echo lost", rings=True).stdout == "lost\n"
    port.polls = 3
    port.say(b"\n")
    assert agent.run("echo early", rings=True).stdout == "early\n"


def test_a_command_that_does_not_end_is_given_up_by_name(
    port: Simulator, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtproof.guest.agent.STUCK_S", 0.1)
    port.polls = 10**6
    begin = time.monotonic()
    with pytest.raises(GuestError, match="'true 99' did not end within 0 s") as failure:
        agent.run("true %s", 99, timeout_s=0.2)  # fmt: skip
    assert 0.2 <= elapsed(begin) < SOON_S / 2
    assert not isinstance(failure.value, CommandError)


def test_time_outs_are_scaled_to_the_accelerator(port: Simulator) -> None:
    agent = Agent(Console(port), 3.0)
    assert agent.sync(Deadline.after(SOON_S))
    port.silent = {"guest-info"}
    begin = time.monotonic()
    with pytest.raises(GuestError, match="did not answer guest-info in time"):
        agent.call("guest-info", timeout_s=0.1)
    assert 0.3 <= elapsed(begin) < SOON_S / 2


def test_a_commands_time_is_scaled_too(port: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtproof.guest.agent.STUCK_S", 0.1)
    agent = Agent(Console(port), 3.0)
    assert agent.sync(Deadline.after(SOON_S))
    port.polls = 10**6
    begin = time.monotonic()
    with pytest.raises(GuestError, match="did not end within"):
        agent.run("true", timeout_s=0.1)
    assert 0.3 <= elapsed(begin) < SOON_S / 2


def test_several_threads_do_not_get_each_others_answers(agent: Agent) -> None:
    said: dict[int, str] = {}

    def ask(number: int) -> None:
        for _ in range(5):
            said[number] = agent.run("echo %s", number).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert said == {number: f"{number}\n" for number in range(6)}


# --- an agent that misbehaves ---------------------------------------------------------------


def test_the_agents_error_is_told_with_its_reason(port: Simulator, agent: Agent) -> None:
    port.answers["guest-exec"] = {
        "error": {"class": "GenericError", "desc": "Failed to execute child process"}
    }
    with pytest.raises(CommandError) as failure:
        agent.run("true")
    assert str(failure.value) == "guest agent: guest-exec: Failed to execute child process"


@pytest.mark.parametrize("line", [b"garbage\n", b"[1]\n", b"\xff\xfe\n", b'"a"\n'])
def test_what_is_no_object_is_said_so(port: Simulator, agent: Agent, line: bytes) -> None:
    port.silent = {"guest-info"}
    port.say(line)
    with pytest.raises(CommandError, match="not a JSON object"):
        agent.call("guest-info")


def test_an_object_without_a_return_is_said_so(port: Simulator, agent: Agent) -> None:
    port.answers["guest-info"] = {"event": "RESET"}
    with pytest.raises(CommandError, match="guest-info: no 'return' in"):
        agent.call("guest-info")


@pytest.mark.parametrize(
    ("call", "answer", "line"),
    [
        ("guest-exec", {}, "no 'pid' in '{}'"),
        ("guest-exec", "4000", "no 'pid' in '4000'"),
        ("guest-exec-status", [], "no 'exited' in '[]'"),
        ("guest-exec-status", {"exited": True}, "no 'signal' in \"{'exited': True}\""),
        ("guest-exec-status", {"exited": True, "exitcode": "0"}, "no 'exitcode' in "),
        ("guest-exec-status", {"exited": True, "exitcode": 0, "out-data": 1}, "no 'out-data' in "),
        (
            "guest-exec-status",
            {"exited": True, "exitcode": 0, "err-data": "x"},
            "err-data is not base64: 'x'",
        ),
    ],
)
def test_an_answer_of_another_shape_is_one_line(
    port: Simulator, agent: Agent, call: str, answer: object, line: str
) -> None:
    port.answers[call] = {"return": answer}
    with pytest.raises(CommandError) as failure:
        agent.run("true")
    assert str(failure.value).startswith(f"guest agent: {line}")


def test_an_error_that_is_no_object_is_told_too(port: Simulator, agent: Agent) -> None:
    port.answers["guest-info"] = {"error": "nope"}
    with pytest.raises(CommandError, match="guest agent: guest-info: nope"):
        agent.call("guest-info")


def test_no_answer_is_a_fault_of_the_guest_and_is_remembered(port: Simulator, agent: Agent) -> None:
    port.silent = {"guest-exec"}
    begin = time.monotonic()
    with pytest.raises(GuestError, match="the guest agent did not answer guest-exec in time"):
        agent.call("guest-exec", timeout_s=0.1, path="/bin/true", arg=[])
    assert 0.1 <= elapsed(begin) < SOON_S / 2
    assert not agent.synchronised


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    port: Simulator, agent: Agent
) -> None:
    port.late = {"guest-info"}
    port.answers["guest-info"] = {"return": "late"}
    with pytest.raises(GuestError, match="in time"):
        agent.call("guest-info", timeout_s=0.05)
    port.release()
    assert agent.run("echo fresh").stdout == "fresh\n"
    assert agent.synchronised


def test_an_agent_that_stays_silent_stays_a_fault(port: Simulator, agent: Agent) -> None:
    port.silent = {"guest-info", "guest-sync-delimited"}
    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(GuestError, match="the guest agent did not answer guest-info in time"):
            agent.call("guest-info", timeout_s=0.1)
        assert 0.1 <= elapsed(begin) < SOON_S / 2


def test_a_port_that_closes_in_the_middle_names_what_ran(port: Simulator, agent: Agent) -> None:
    port.close_on = "guest-exec"
    begin = time.monotonic()
    with pytest.raises(GuestError, match="the guest went away while guest-exec ran"):
        agent.run("reboot -f")
    assert elapsed(begin) < SOON_S / 2


def test_a_port_that_closes_while_a_command_runs_names_the_command(
    port: Simulator, agent: Agent
) -> None:
    port.polls = 10**6
    timer = threading.Timer(0.15, port.say, [b""])  # the end is seen before a poll is sent
    timer.start()
    begin = time.monotonic()
    with pytest.raises(GuestError, match="the guest went away while"):
        agent.run("true")
    assert elapsed(begin) < SOON_S / 2
    timer.join()


def test_half_an_answer_and_then_the_end_is_no_answer(port: Simulator, agent: Agent) -> None:
    port.silent = {"guest-info"}
    port.say(b'{"return": ')
    port.say(b"")
    with pytest.raises(GuestError, match="went away"):
        agent.call("guest-info")


# --- files, shutdown ------------------------------------------------------------------------


def test_a_file_arrives_whole_in_chunks_and_is_closed(port: Simulator, agent: Agent) -> None:
    data = bytes(range(256)) * 500
    agent.put("/root/file", data)
    assert bytes(port.files[7]) == data
    assert port.count("guest-file-write") == -(-len(data) // CHUNK) > 1
    assert port.closed_files == [7]


def test_an_empty_file_is_made_too(port: Simulator, agent: Agent) -> None:
    agent.put("/root/file", b"")
    assert port.files == {7: bytearray()}
    assert port.closed_files == [7]


def test_a_file_is_closed_even_if_the_disk_is_full(port: Simulator, agent: Agent) -> None:
    port.answers["guest-file-write"] = {"error": {"desc": "No space left on device"}}
    with pytest.raises(CommandError, match="No space left"):
        agent.put("/root/file", b"x")
    assert port.closed_files == [7]


def test_power_off_does_not_wait_for_an_answer(port: Simulator, agent: Agent) -> None:
    port.silent = {"guest-shutdown"}
    begin = time.monotonic()
    agent.power_off()
    assert elapsed(begin) < 1
    assert port.calls[-1] == {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}


def test_a_spawned_command_is_not_waited_for(agent: Agent, tmp_path: Any) -> None:
    mark = tmp_path / "it's ready"
    begin = time.monotonic()
    agent.spawn("sleep 0.3; touch %s", mark)
    assert elapsed(begin) < 0.3
    assert not mark.exists()
    while not mark.exists() and elapsed(begin) < SOON_S:
        time.sleep(0.02)
    assert mark.exists()


def test_a_guest_that_is_halted_is_not_waited_for(port: Simulator) -> None:
    """As QEMU halts a guest when its disk is full: the reason comes long before the time-out."""
    why = [""]
    agent = Agent(Console(port), 100.0, lambda: why[0])
    assert agent.sync(Deadline.after(SOON_S))
    assert agent.run("echo well").stdout == "well\n"
    port.silent = {"guest-exec"}
    why[0] = "no room"
    begin = time.monotonic()
    with pytest.raises(GuestError, match="guest-exec: no room"):
        agent.run("true")
    assert elapsed(begin) < SOON_S
    assert not agent.synchronised

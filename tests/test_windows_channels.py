"""One script and its answer over each channel: WinRM, SSH and the guest agent, with a stand-in for Windows'
powershell.exe at the other end. The agent and sshd are those of a real guest, a Linux."""

from __future__ import annotations

import base64
import functools
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtproof.errors import CommandError, GuestError, UsageError
from virtproof.guest.connection import Connection
from virtproof.guest.guest import Guest
from virtproof.guest.shell import CommandResult
from virtproof.guest.ssh import Ssh
from virtproof.guest.warm import Host, WarmGuests
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import open_lab
from virtproof.spec import Accel, GuestSpec
from virtproof.windows.online import channels
from virtproof.windows.online.channels import Channel
from virtproof.windows.online.facts import Disk
from virtproof.windows.online.probes import Windows
from virtproof.windows.online.runner import BEGIN, END, OverShell, PowerShell, answer_of
from virtproof.windows.online.winrm import Winrm
from winrm_server import Server, serving

STAND_IN = Path(__file__).parent / "data" / "windows" / "powershell.sh"
USER, PASSWORD = "Administrator", "Pass wörd 1"
DISKS = [
    {
        "number": 0, "model": "Rød Hat “VirtIO”", "serial": "root", "bus": "SAS", "size_bytes": 1 << 40,
        "boot": True, "system": True, "offline": False, "service": "viostor",
    }
]  # fmt: skip
NAMED = "# %s\nGet-Something"


def stand_in(folder: Path) -> Path:
    shutil.copy(STAND_IN, folder / "powershell.exe")
    (folder / "powershell.exe").chmod(0o755)
    for name, answer in answers().items():
        (folder / f"{name}.json").write_bytes(answer)
    (folder / "slow.json.slow").touch()
    return folder


def answers() -> dict[str, bytes]:
    return {
        "disks": json.dumps({"value": DISKS}, ensure_ascii=False).encode(),
        "refused": b'{"error": "Access is\\u001b[31m denied.\\nand more", "at": "3"}',
        "garbled": b'{"value": [1, ',
        "large": json.dumps({"value": ["x" * 200_000]}).encode(),
    }


@pytest.fixture
def winrm(tmp_path: Path) -> Iterator[Server]:
    with serving(stand_in(tmp_path), USER, PASSWORD) as server:
        yield server


def client(server: Server, password: str = PASSWORD, scale: float = 1.0) -> Winrm:
    def connect(timeout_s: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.port), timeout_s)

    return Winrm(connect, "guest", USER, password, scale)


def holds(shell: PowerShell) -> None:
    """The contract of a channel."""
    assert Windows(shell).disks() == (Disk(**DISKS[0]),)
    assert shell.run_powershell(NAMED % "large") == ["x" * 200_000]
    with pytest.raises(CommandError, match=r"^Windows: refused: Access is\?\[31m denied. and more"):
        shell.run_powershell(NAMED % "refused")
    with pytest.raises(CommandError, match="garbled: the answer is no JSON"):
        shell.run_powershell(NAMED % "garbled")
    with pytest.raises(CommandError, match=r"status 3\): no answer to unknown"):
        shell.run_powershell(NAMED % "unknown")


def test_winrm(winrm: Server) -> None:
    """By pypsrp: its shell is made, asked, and deleted; nothing goes over the network in clear."""
    channel = client(winrm)
    holds(channels.over(channel))
    channel.close()
    assert winrm.actions[:4] == ["Create", "Command", "Receive", "Delete"]
    assert winrm.actions.count("Create") == winrm.actions.count("Delete") == 5
    assert not winrm.plain


def test_winrm_that_does_not_end_in_time(winrm: Server) -> None:
    """It is ended in the guest, too."""
    with pytest.raises(GuestError, match=r"'powershell.exe' did not end within 2 s"):
        channels.over(client(winrm)).run_powershell(NAMED % "slow", 2)
    assert winrm.actions[-2:] == ["Signal", "Delete"]
    assert not winrm.running


def test_winrm_refuses_a_wrong_password_and_does_not_tell_it(winrm: Server) -> None:
    with pytest.raises(GuestError, match="does not let us in .*VIRTPROOF_WINDOWS_PASSWORD") as told:
        channels.over(client(winrm, "wrong word")).run_powershell(NAMED % "disks")
    assert "wrong word" not in str(told.value) + told.value.detail
    assert not winrm.actions


@pytest.mark.parametrize("nonsense", [b"<html>", b"<a/>", b"\0" * 9, b"<s:Envelope/>"])
def test_winrm_that_speaks_nonsense_is_one_line(winrm: Server, nonsense: bytes) -> None:
    winrm.nonsense = nonsense
    with pytest.raises(GuestError, match="^WinRM of the guest: ") as told:
        channels.over(client(winrm)).run_powershell(NAMED % "disks")
    assert "\n" not in str(told.value)


def test_winrm_where_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Server(Path(), port=free.getsockname()[1])
        with pytest.raises(GuestError, match="^WinRM of the guest: .*refused"):
            channels.over(client(nobody)).run_powershell(NAMED % "disks")


@pytest.fixture(scope="module")
def guest(runtime: Path, cache: Path) -> Iterator[Guest]:
    """A copy of a warm Linux guest, which runs the stand-in where it is asked for powershell.exe."""
    del runtime
    store = ImageStore(default_cache(), Accel.TCG)
    image = store.prepared("debian-12")
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    with open_lab(cache, connect) as lab:
        warm = WarmGuests(store.cache, Host(connections[0].versions()))
        with Guest(GuestSpec("debian-12"), image, lab, connections[0]) as made:
            warm.boot(made.define())
            made.runner.put("/usr/local/bin/powershell.exe", STAND_IN.read_bytes())
            for name, answer in answers().items():
                made.runner.put(f"/usr/local/bin/{name}.json", answer)
            made.runner.run("cd /usr/local/bin && chmod +x powershell.exe && touch slow.json.slow")
            made.runner.run(
                "printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\n'"
                " >/etc/ssh/sshd_config.d/00-password.conf && echo root:%s | chpasswd"
                " && mv /etc/ssh/sshd_config.d/00-virtproof.conf /root/ && systemctl restart ssh",
                PASSWORD,
            )
            yield made


@pytest.mark.real
def test_the_guest_agent(guest: Guest) -> None:
    agent = guest.boots[-1].agent
    holds(channels.over(agent))
    with pytest.raises(GuestError, match=r"'powershell.exe' did not end within 2 s"):
        channels.over(agent).run_powershell(NAMED % "slow", 2 / guest.scale)
    assert agent.call("guest-ping") == {}  # and it answers on


@pytest.mark.real
def test_the_guest_agent_where_there_is_no_powershell(guest: Guest) -> None:
    agent = guest.boots[-1].agent
    there = OverShell(lambda _program, argv, left_s: agent.execute("pwsh.exe", argv, left_s))
    with pytest.raises(CommandError, match=r"guest-exec: .*pwsh.exe"):
        there.run_powershell(NAMED % "disks")


@pytest.mark.real
def test_sshd(guest: Guest) -> None:
    """By a password, as on Windows, and in the guests' network only."""
    connect = functools.partial(guest.lab.connect_tcp, guest.address(), Channel.SSH.port)
    ssh = Ssh(connect, None, "root", guest.scale, PASSWORD)
    ssh.open()
    holds(channels.over_ssh(ssh))
    with pytest.raises(GuestError, match="did not end in time"):
        channels.over_ssh(ssh).run_powershell(NAMED % "slow", 2 / guest.scale)
    ssh.close()


# --- a script's answer ------------------------------------------------------------------------


def said(text: str, status: int = 0) -> CommandResult:
    return CommandResult("powershell.exe", status, text, "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "gave no answer"),
        (f"{END}{BEGIN}", "gave no answer"),
        (f"{BEGIN}AAA{END}", "is no JSON"),
        (f"{BEGIN}{END}", "is no JSON"),
        (f"{BEGIN}W10={END}", "neither a value nor an error"),
        (f"{BEGIN}e30={END}", "neither a value nor an error"),
    ],
)
def test_an_answer_that_is_none(text: str, line: str) -> None:
    with pytest.raises(CommandError, match=line):
        answer_of("x", said(text))


def test_an_answer_too_deep_or_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base64.b64encode(b"[" * 200_000).decode()
    with pytest.raises(CommandError, match="is no JSON"):
        answer_of("x", said(f"{BEGIN}{deep}{END}"))
    monkeypatch.setattr("virtproof.windows.online.runner.LARGEST_ANSWER", 1000)
    with pytest.raises(CommandError, match="an answer of"):
        answer_of("x", said(f"{BEGIN}{deep}{END}"))


@pytest.mark.parametrize("script", ["", "Get-Disk", "# \nGet-Disk"])
def test_a_script_without_a_name_is_refused(script: str) -> None:
    with pytest.raises(UsageError, match="has no name"):
        OverShell(never).run_powershell(script)


def test_a_script_that_no_command_line_holds_is_refused() -> None:
    with pytest.raises(UsageError, match="cmd.exe takes 8191"):
        OverShell(never).run_powershell("# long\n" + "x" * 3000)


def never(*_: object) -> CommandResult:
    raise AssertionError("it was run")

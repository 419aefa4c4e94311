"""A script's output has its shape, or the error names it; what a guest says cannot hurt."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from test_probe_replay import RECORDINGS, ReplayRunner
from virtproof.errors import CommandError
from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.probe.block import BlockProbe
from virtproof.probe.facts import MAX_OUTPUT, MAX_VALUE, Facts, parse
from virtproof.probe.initramfs import InitramfsProbe
from virtproof.probe.kernel import KernelProbe
from virtproof.probe.net import NetProbe
from virtproof.probe.pci import PciProbe
from virtproof.probe.system import SystemProbe
from virtproof.probe.virtio import VirtioProbe

SHELLS = [
    shell
    for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"])
    if shutil.which(shell[0]) is not None
]


class LocalRunner:
    """Runs a command on this machine by one POSIX shell or another."""

    def __init__(self, shell: list[str]) -> None:
        self._shell = shell

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        text = quote(command, args)
        done = subprocess.run(
            [*self._shell, "-c", text], capture_output=True, timeout=timeout_s, check=False
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        return checked(CommandResult(text, done.returncode, out, err), check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError(f"a probe wrote {len(data)} bytes to {path}")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    "probe", [PciProbe, BlockProbe, NetProbe, KernelProbe, VirtioProbe, InitramfsProbe]
)
def test_every_script_runs_in_every_shell(probe: type[PciProbe], shell: list[str]) -> None:
    facts = probe(LocalRunner(shell))._facts
    assert isinstance(facts.records, tuple)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_the_kernel_is_the_one_that_runs(shell: list[str]) -> None:
    uname = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout
    kernel = KernelProbe(LocalRunner(shell))
    assert kernel.release == uname.strip()
    assert kernel.taint == int(Path("/proc/sys/kernel/tainted").read_text())


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("", "cut short"),
        ("@ disk sda\nsize\t1\n", "cut short"),
        ("size\t1\n.\n", "line 1 is 'size.1', expected '@ KIND NAME'"),
        ("@ disk sda\nwhat is this\n.\n", "line 2 is 'what is this'"),
        ("@ disk\n.\n", "line 1"),
        ("@ disk sda\nno key\tx\n.\n", "line 2"),
        (f"@ disk sda\nx\t{'y' * MAX_OUTPUT}\n.\n", "at most"),
    ],
)
def test_another_shape_is_named(output: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        parse("block", output)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_number_that_is_none_is_named() -> None:
    text = (RECORDINGS / "ide" / "block.txt").read_text().replace("size\t16384", "size\tmany")
    with pytest.raises(CommandError, match="size of disk sda is 'many', not a number of base 10"):
        BlockProbe(ReplayRunner("ide", block=text)).disks  # noqa: B018


def test_a_guests_escapes_do_not_pass() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e<script>"
    record = parse("block", f"@ disk sda{hostile}\nserial\t{hostile}{'z' * 10_000}\n.\n")[0]
    serial = record.text("serial")
    assert len(serial) == MAX_VALUE
    assert serial.startswith("?]0;owned??[2J?<script>")
    assert record.name.isprintable()
    with pytest.raises(CommandError) as caught:
        parse("block", f"@ disk sda\n{hostile}\n.\n")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("topic", "old", "new", "says"),
    [
        ("net", "inet 10.0.2.15", "inet six", "expected 'N: NAME inet A.B.C.D/P'"),
        ("kernel", "module\tfuse ", "module\tfuse x ", "expected 'NAME SIZE USERS BY'"),
        ("kernel", "module\tfuse 176128 1 -", "module\tfuse 176128 1", "expected 'NAME SIZE"),
        ("kernel", "release\t6.1.0", "release\tsix", "does not begin with N.N"),
    ],
)
def test_malformed_facts_are_named(topic: str, old: str, new: str, says: str) -> None:
    text = (RECORDINGS / "ide" / f"{topic}.txt").read_text()
    assert old in text
    runner = ReplayRunner("ide", **{topic: text.replace(old, new)})
    net, kernel = NetProbe(runner), KernelProbe(runner)
    with pytest.raises(CommandError, match=says):
        net.nics, kernel.lsmod, kernel.version  # noqa: B018


def test_a_failing_script_is_an_error() -> None:
    runner = LocalRunner(["sh"])
    with pytest.raises(CommandError, match="exited with 3"):
        Facts(runner, "broken", "exit 3").records  # noqa: B018


def test_a_unit_name_that_is_none_is_named() -> None:
    runner = ReplayRunner("ide")
    command = "systemctl list-units --failed --no-legend --plain --no-pager --full"
    runner._commands[command] = [0, "ssh.service loaded failed failed OpenSSH\n", ""]
    assert SystemProbe(runner).failed_units == ("ssh.service",)
    runner._commands[command] = [0, "\x1b[31m loaded\n", ""]
    with pytest.raises(CommandError, match="expected NAME.TYPE"):
        SystemProbe(runner).failed_units  # noqa: B018

"""A guest's recorded answers, replayed to the probes; and the control that it invents none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.probe.facts import MARKER
from virtproof.probe.kernel import KernelProbe
from virtproof.probe.system import SystemProbe

RECORDINGS = Path(__file__).parent / "data" / "probe"


class ReplayRunner:
    """Answers as a real guest did: TOPIC.txt of a probe's script, commands.json for the others.

    ``instead`` holds outputs that take the place of a topic's recording.
    """

    def __init__(self, guest: str, **instead: str) -> None:
        self._folder = RECORDINGS / guest
        self._instead = instead
        commands = self._folder / "commands.json"
        self._commands = json.loads(commands.read_text()) if commands.exists() else {}
        self.asked: list[str] = []

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        assert timeout_s is None or timeout_s > 0
        text = quote(command, args)
        first = text.split("\n", 1)[0]
        self.asked.append(first)
        if first.startswith(MARKER):
            topic = first.removeprefix(MARKER)
            recorded = self._instead.get(topic)
            if recorded is None:
                recorded = (self._folder / f"{topic}.txt").read_text()
            return CommandResult(text, 0, recorded, "")
        status, stdout, stderr = self._commands[text]
        return checked(CommandResult(text, status, stdout, stderr), check)

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError(f"a probe wrote {len(data)} bytes to {path}")


def test_replay_knows_only_what_was_recorded() -> None:
    with pytest.raises(KeyError):
        ReplayRunner("ide").run("uname --never-asked")
    with pytest.raises(FileNotFoundError):
        KernelProbe(ReplayRunner("no-such-guest")).release  # noqa: B018


def test_testinfra_works_over_any_runner() -> None:
    runner = ReplayRunner("ide")
    system = SystemProbe(runner)
    assert (system.distribution, system.version) == ("debian", "12")
    assert runner.asked == ["uname -s", "cat /etc/os-release", "uname -m"]
    runner._commands["echo é"] = [0, "é\n", ""]
    assert system.host.run("echo é").stdout == "é\n"
    assert "python" not in " ".join(runner.asked)
    assert system.host.run("cat %s", "/etc/os-release").stdout.startswith("PRETTY_NAME=")

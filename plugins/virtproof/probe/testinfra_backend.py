"""testinfra over our own Runner: its modules work over SSH and over the guest agent alike."""

from __future__ import annotations

from typing import Any

import testinfra.backend.base
import testinfra.host

from virtproof.guest.shell import Runner


class RunnerBackend(testinfra.backend.base.BaseBackend):  # type: ignore[misc]  # has no type hints
    """A testinfra backend whose commands go through a Runner. Its host name is only a label."""

    NAME = "virtproof"

    def __init__(self, runner: Runner, hostname: str = "guest") -> None:
        super().__init__(hostname)
        self._runner = runner

    def get_encoding(self) -> str:
        """UTF-8, as the Runner decodes; testinfra would ask the guest's Python, twice."""
        return "UTF-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> testinfra.backend.base.CommandResult:
        """Run ``command``, quoted in testinfra's way; ``encoding`` has no effect."""
        text = self.get_command(command, *args)
        done = self._runner.run(text, check=False, timeout_s=kwargs.get("timeout"))
        return self.result(
            done.status, text.encode(), done.stdout.encode("utf-8"), done.stderr.encode("utf-8")
        )


def host_over(runner: Runner, hostname: str = "guest") -> testinfra.host.Host:
    """A testinfra Host of the guest behind ``runner``.

    >>> host_over(runner).system_info.distribution
    'debian'
    """
    backend = RunnerBackend(runner, hostname)
    host = testinfra.host.Host(backend)
    backend.set_host(host)
    return host

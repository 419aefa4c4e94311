"""Live progress of what takes long: image builds, boots. Quiet where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO

import pytest


class Progress:
    """Prints lines past pytest's capture, on the terminal alone.

    On a TTY every step is shown; elsewhere (CI logs) only what takes minutes, so that a log stays short
    and a silent quarter of an hour does not look like a hang.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        worker = getattr(config, "workerinput", {}).get("workerid")
        self._first = worker in (None, "gw0")
        # pytest stands in the middle of a line while a test runs; with workers it begins each anew.
        self._lead, self._end = (f"\n[{worker}] ", "") if worker else ("\n  ", "\n")
        self._stream: TextIO = sys.__stderr__ or sys.stderr
        self._live = self._stream.isatty()

    @contextmanager
    def _uncaptured(self) -> Iterator[None]:
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            yield

    def long(self, line: str) -> None:
        """Something that takes a minute or more."""
        with self._uncaptured():
            print(f"\nvirtproof: {line}", file=self._stream, flush=True)

    def once(self, line: str) -> None:
        """Something that is the same for all workers: one of them says it."""
        if self._first:
            self.long(line)

    def step(self, line: str) -> None:
        """Something that takes seconds: shown on a TTY."""
        if self._live:
            with self._uncaptured():
                print(f"{self._lead}{line}", end=self._end, file=self._stream, flush=True)

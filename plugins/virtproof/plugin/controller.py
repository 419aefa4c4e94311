"""The controller's half: one per session, also under xdist. Records, report, closing verdict."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from virtproof.errors import VirtproofError
from virtproof.measure.results import EVIDENCE_MARK, RunRecord
from virtproof.plugin.options import require_out
from virtproof.plugin.records import Collector
from virtproof.plugin.sharding import Sharding
from virtproof.report.terminal import summary_lines


class Controller:
    """Collects what workers report and closes the run."""

    def __init__(self, config: pytest.Config, out: Path, sharding: Sharding | None = None) -> None:
        arguments = [str(argument) for argument in config.invocation_params.args]
        self._config = config
        self._out = out
        self._sharding = sharding
        self._collector = Collector(out, ["pytest", *arguments])
        self._run: RunRecord | None = None
        self._fault = ""

    @pytest.hookimpl(tryfirst=True)  # a session that cannot be kept does not even start its workers
    def pytest_sessionstart(self) -> None:
        """An earlier run's evidence goes; nothing else in the directory is touched."""
        try:
            require_out(self._out)
        except VirtproofError as error:
            raise pytest.UsageError(f"virtproof: {error}") from None
        old = self._out / "evidence"
        if (old / EVIDENCE_MARK).exists() and not self._config.option.collectonly:
            shutil.rmtree(old)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        try:
            if report.when in ("setup", "call", "teardown"):
                self._collector.add(report)
            else:  # xdist's word for a worker that died
                self._collector.crashed(report.nodeid, report.longreprtext)
        except VirtproofError as error:  # a run whose results nobody can read is not worth its time
            pytest.exit(f"virtproof: {error}", returncode=pytest.ExitCode.INTERNAL_ERROR)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        try:
            # Not the hook's argument: the status may have been changed since.
            share = self._sharding.share if self._sharding else None
            self._run = self._collector.finish(
                int(session.exitstatus), share.as_dict() if share else None
            )
        except VirtproofError as error:
            self._fault = str(error)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._fault:
            terminalreporter.line(f"virtproof: {self._fault}", red=True)
        if self._run is None:
            for reason in _all_skipped(terminalreporter):
                terminalreporter.line(reason)
            return
        terminalreporter.section("virtproof")
        writer = self._config.get_terminal_writer()
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        for line in summary_lines(
            self._run,
            self._collector.records,
            writer.fullwidth,
            out=self._shown(),
            encoding=encoding,
        ):
            terminalreporter.line(line)
        terminalreporter.line("")
        terminalreporter.line(f"report: {self._shown() / 'report.html'}")

    def _shown(self) -> Path:
        here = self._config.invocation_params.dir
        return self._out.relative_to(here) if self._out.is_relative_to(here) else self._out


def _all_skipped(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """Where all that was selected was skipped: each reason once, which says what to give."""
    stats = terminalreporter.stats
    if any(stats.get(outcome) for outcome in ("passed", "failed", "error")):
        return []
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in stats.get("skipped", ())]
    return list(dict.fromkeys(reasons))

"""The harness on trial: guests with a known defect, which it must catch and call by its right name.

Each trial says what the defect is by the mark ``trial``; the fixture ``caught`` holds the verdict against
the name that is right. After the run the table stands in ``out/trials.json``; ``table.py`` makes
docs/trials.md of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtproof.diagnose.evidence import Diagnosis
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.options import read_options
from virtproof.spec import DiskBus, NicModel

READY_S = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--healthy",
        type=int,
        default=4,
        metavar="N",
        help="how many healthy guests are examined, of whom none may raise an alarm (default: 4)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trial(layer, defect): a defect that a trial seeds")
    config.addinivalue_line("markers", "sample: a trial that runs with the harness's own tests")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(config), "virtproof-trials")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside the harness's other tests only a sample runs: all of them take half an hour."""
    here = Path(__file__).parent
    named = (
        Path(config.invocation_params.dir, arg.split("::")[0]).resolve() for arg in config.args
    )
    if any(path == here or here in path.parents for path in named):
        return
    left = [i for i in items if here in i.path.parents and i.get_closest_marker("sample") is None]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "healthy" in metafunc.fixturenames:
        metafunc.parametrize("healthy", range(metafunc.config.getoption("--healthy")))


class Table:
    """Collects the trials' verdicts, from all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._rows: list[dict[str, Any]] = []
        self._calls: dict[str, tuple[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._calls[report.nodeid] = (report.outcome, round(report.duration, 1))
        found = dict(report.user_properties)
        if report.when == "teardown" and "trial" in found and report.nodeid in self._calls:
            outcome, seconds = self._calls[report.nodeid]
            row = json.loads(str(found["trial"]))
            self._rows.append({**row, "outcome": outcome, "seconds": seconds})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._rows:
            return
        out = read_options(self._config).out
        (out / "trials.json").write_text(json.dumps(self._rows, indent=1) + "\n")
        defects = [row for row in self._rows if row["layer"] != "healthy"]
        healthy = [row for row in self._rows if row["layer"] == "healthy"]
        named = sum(row["outcome"] == "passed" for row in defects)
        alarms = sum(row["outcome"] != "passed" for row in healthy)
        terminalreporter.section("trials")
        terminalreporter.line(f"{named} of {len(defects)} defects were caught by their right name")
        terminalreporter.line(f"{alarms} alarms on {len(healthy)} healthy guests")


@pytest.fixture(autouse=True)
def noted(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[dict[str, str]]:
    """The trial's row of the table: what caught the defect, by what name."""
    layer, defect = request.node.get_closest_marker("trial").args
    callspec = getattr(request.node, "callspec", None)
    values = dict(callspec.params) if callspec else {}
    row = {"layer": layer, "defect": defect.format(**values), "by": "", "name": "", "line": ""}
    yield row
    record_property("trial", json.dumps(row))


@pytest.fixture
def caught(noted: dict[str, str]) -> Callable[..., Diagnosis]:
    """Holds what a guest's end, or its check-up, was called against the right name."""

    def verdict(name: str, found: Diagnosis | None, by: str) -> Diagnosis:
        called = found.name if found else "nothing"
        noted.update(by=by, name=called, line=found.line if found else "")
        assert called == name, found
        assert found is not None
        return found

    return verdict


@pytest.fixture
def fails_to_boot(caught: Callable[..., Diagnosis]) -> Callable[..., Diagnosis]:
    """``fails_to_boot(name, start)``: a start that must fail, by that name."""

    def check(name: str, start: Callable[[], object]) -> Diagnosis:
        with pytest.raises(BootFailedError) as failed:
            start()
        return caught(name, failed.value.diagnosis, "boot")

    return check


@pytest.fixture
def complains(caught: Callable[..., Diagnosis]) -> Callable[..., Diagnosis]:
    """``complains(name, guest)``: a guest that is up, and whose check-up must say so."""

    def check(name: str, guest: Guest) -> Diagnosis:
        return caught(name, guest.check_up().diagnosis, "check-up")

    return check


@pytest.fixture
def ide(guest_on: GuestFactory) -> Guest:
    """A guest of the emulated kind."""
    return guest_on(disk=DiskBus.IDE, nic=NicModel.RTL8139)


@pytest.fixture
def virtio_nic(guest_on: GuestFactory) -> Guest:
    """A guest with a virtio NIC, its root on IDE."""
    return guest_on(disk=DiskBus.IDE, nic=NicModel.VIRTIO)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough."""
    path = Path(tempfile.mkdtemp(prefix="vp-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def nbdkit(short_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts nbdkit with the arguments given, on the socket ``short_path/nbd``."""
    if shutil.which("nbdkit") is None:
        pytest.skip("nbdkit is not installed; ./run trials installs it")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        socket = short_path / "nbd"
        socket.unlink(missing_ok=True)
        command = ["nbdkit", "--foreground", "--unix", str(socket), *arguments]
        env = {**os.environ, "TMPDIR": str(short_path)}
        started.append(subprocess.Popen(command, env=env))
        end = time.monotonic() + READY_S
        while not socket.exists():
            assert started[-1].poll() is None, f"{command} ended"
            assert time.monotonic() < end, f"{command} does not listen"
            time.sleep(0.02)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()

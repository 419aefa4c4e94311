"""pytest's hooks: options, the images axis, evidence of failures, records, the closing verdict."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from virtproof.claims import claim
from virtproof.errors import LabGoneError, UsageError, VirtproofError
from virtproof.guest.failure import BootFailedError
from virtproof.measure.results import GuestRecord, TestRecord
from virtproof.measure.store import clean_text
from virtproof.plugin import evidence, guests, matrix, virtio_win, windows
from virtproof.plugin.cells import CELL, cell
from virtproof.plugin.comparing import CANNOT_TELL, UNSURE, compare
from virtproof.plugin.controller import Controller
from virtproof.plugin.guests import (
    KEEP,
    REMARK,
    RUN,
    accel,
    defined_guest,
    evidence_directory,
    guest_on,
    image,
    image_name,
    lab,
    remark,
    shared_guest_on,
    used,
    virtproof_run,
)
from virtproof.plugin.guests import _shared as _shared
from virtproof.plugin.options import Options, add_options, read_options
from virtproof.plugin.progress import Progress
from virtproof.plugin.records import diagnosis_of, guest_record
from virtproof.plugin.run import Run
from virtproof.plugin.sharding import register
from virtproof.plugin.throughput import BENCH, bench
from virtproof.report.junit import properties

__all__ = [
    "accel",
    "bench",
    "cell",
    "compare",
    "defined_guest",
    "evidence_directory",
    "guest_on",
    "image",
    "image_name",
    "lab",
    "remark",
    "shared_guest_on",
    "virtproof_run",
]

OPTIONS = pytest.StashKey[Options]()
FOUND = pytest.StashKey[dict[str, str]]()  # by the check-up of a failed test's guest
LOST = pytest.StashKey[bool]()  # the lab went while the test ran


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Under xdist, a worker takes a test when it is free, unless the user chose a --dist.

    Tests take minutes here: what is handed out in greater lots (xdist's own choice, and worksteal's)
    leaves one worker alone at the end. Not ``loadgroup``: xdist 3.8 waits for ever there once a worker
    has died, and pytest 9.2 hides its groups from it.
    """
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "load"
        config.option.maxschedchunk = 1
    return _list_matrix(config) if config.getoption("--list-matrix") else None


def _list_matrix(config: pytest.Config) -> int:
    """What ``--list-matrix`` prints in the place of a run."""
    try:
        options = read_options(config)
        lines = list(matrix.listing(options.matrix, options.images))
    except VirtproofError as error:
        raise pytest.UsageError(f"virtproof: {error}") from None
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return pytest.ExitCode.OK


@pytest.hookimpl(tryfirst=True)  # before any conftest that reads the options
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "claim(*ids): the claims of docs/claims.md that a test proves"
    )
    config.addinivalue_line(
        "markers", "boots(n): a test takes about as long as n boots; under xdist the longest begin"
    )
    config.addinivalue_line(
        "markers", "cell(**axes): a cell of the matrix, as in -m \"cell(disk='virtio')\""
    )
    config.addinivalue_line(
        "markers", "nightly: measured by --throughput nightly and release, left out of a quick run"
    )
    try:
        options = read_options(config)
        config.stash[virtio_win.MEDIUM] = virtio_win.read_medium(config)
    except VirtproofError as error:
        raise pytest.UsageError(f"virtproof: {error}") from None
    config.stash[OPTIONS] = options
    config.stash[RUN] = Run(options, Progress(config))
    config.pluginmanager.register(windows, "virtproof-windows")  # its fixtures
    sharding = register(config, options.shard, _boots)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(
            Controller(config, options.out, sharding), "virtproof-controller"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config.stash[OPTIONS]
    guests.generate(metafunc, options.images, options.matrix)
    virtio_win.generate(metafunc)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    matrix.arrange(items)
    for item in items:
        try:
            for name in _claims(item):
                claim(name)
            _boots(item)
        except VirtproofError as error:
            raise pytest.UsageError(f"virtproof: {item.nodeid}: {error}") from None
    if items and hasattr(items[0].config, "workerinput"):
        items.sort(key=_boots, reverse=True)  # so that no worker ends alone with a long one


def _boots(item: pytest.Item) -> int:
    """What the mark ``boots`` says; without it 1 for a test with guests of its own, 0 for others."""
    marker = item.get_closest_marker("boots")
    if marker is None:
        return int("defined_guest" in getattr(item, "fixturenames", ()))
    if len(marker.args) != 1 or marker.kwargs or not isinstance(marker.args[0], int):
        raise UsageError("the mark boots takes one number", hint="as @pytest.mark.boots(3)")
    return marker.args[0]


def _claims(item: pytest.Item) -> list[str]:
    names = [str(name) for marker in item.iter_markers("claim") for name in marker.args]
    return list(dict.fromkeys(names))


def pytest_runtest_setup(item: pytest.Item) -> None:
    run = item.config.stash[RUN]
    if "virtproof_run" in getattr(item, "fixturenames", ()):
        if run.broken is not None:
            raise run.broken
        run.renew()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    run = item.config.stash[RUN]
    failure = call.excinfo.value if call.excinfo is not None else None
    if report.failed and (lost := _lost(item, failure, run)) is not None:
        item.stash[LOST] = True
        report.longrepr = clean_text(lost)
    elif isinstance(failure, VirtproofError):
        report.longrepr = clean_text(_one_line(item, call, failure))
    asked = {"virtproof_run", "cell"} & {*getattr(item, "fixturenames", ())}
    if asked or _claims(item):
        _note(item, report, run)
    if run.broken is not None and failure is run.broken:
        item.session.shouldstop = f"virtproof: {run.broken}"
    return report


def _lost(item: pytest.Item, failure: BaseException | None, run: Run) -> str | None:
    """What to say of a test that its lab was lost under, whatever the test itself then saw."""
    lost = run.lost_lab() if used(item) or isinstance(failure, LabGoneError) else None
    if lost is None:
        return None
    said = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
    return f"{lost} while the test ran, which saw: {said}\n{lost.detail}".strip()


def _one_line(item: pytest.Item, call: pytest.CallInfo[None], error: VirtproofError) -> str:
    """A fault that has a name needs no traceback: the line, the place in the test, the detail."""
    assert call.excinfo is not None
    inside = [entry for entry in call.excinfo.traceback if Path(entry.path) == item.path]
    where = f"{item.path.name}:{inside[-1].lineno + 1}" if inside else item.nodeid
    tail = f"\n{error.detail.strip()[-2000:]}" if error.detail else ""
    return f"{error}\n[{where}]{tail}"


def _note(item: pytest.Item, report: pytest.TestReport, run: Run) -> None:
    """Attach our facts to the last phase's report; save evidence while the guests still live.

    Evidence is left by what failed, by a control that saw the failure it provoked, and by a switch.
    """
    test_guests = used(item)
    options = item.config.stash[OPTIONS]
    failure: BootFailedError | None = diagnosis_of(test_guests)
    directory = evidence.place(options.out, item.nodeid)
    switched = any(guest.switches for guest in test_guests)
    wanted = report.failed or (report.when == "call" and (failure is not None or switched))
    if test_guests and report.when != "teardown" and wanted:
        evidence.save(directory, test_guests, failure)
        if report.failed and failure is None and LOST not in item.stash:
            _examine(item, report, directory)
        item.stash[KEEP] = report.failed and options.keep_guest and LOST not in item.stash
    if report.when != "teardown":
        return
    facts: dict[str, Any] = {
        "claims": _claims(item),
        "guest": guest_record(test_guests[-1]) if test_guests else None,
        "diagnosis": failure.diagnosis.as_dict() if failure else item.stash.get(FOUND, None),
        **_throughput(item),
        "compat": asdict(item.stash[CELL]) if CELL in item.stash else None,
        "remark": item.stash.get(REMARK, None),
        "evidence": str(directory.relative_to(options.out)) if directory.is_dir() else None,
        "environment": _environment(run),
        "lost": LOST in item.stash,
        "spent_s": {"guests": round(run.guests_s, 3), "images": round(run.images_s, 3)},
    }
    report.virtproof = facts  # type: ignore[attr-defined]  # pytest carries extra attributes to xdist's controller
    report.user_properties.extend(properties(_sketch(item, facts)))


def _examine(item: pytest.Item, report: pytest.TestReport, directory: Path) -> None:
    """A test failed on a guest that is up: what is wrong with the guest may be why."""
    checkup = evidence.examine(used(item))
    if checkup is None:
        return
    evidence.save_check_up(directory, checkup)
    report.sections.append(("the guest's check-up", str(checkup)))
    if checkup.diagnosis is not None:
        item.stash[FOUND] = checkup.diagnosis.as_dict()


def _sketch(item: pytest.Item, facts: dict[str, Any]) -> TestRecord:
    guest = GuestRecord(**facts["guest"]) if facts["guest"] else None
    return TestRecord(
        item.nodeid,
        "passed",
        None,
        facts["claims"],
        guest,
        facts["diagnosis"],
        facts["measurements"],
        0.0,
        facts["evidence"],
        facts["comparisons"],
    )


def _throughput(item: pytest.Item) -> dict[str, Any]:
    """What the test measured, if it did."""
    made = item.stash.get(BENCH, None)
    return {
        "measurements": [one.as_dict() for one in made.measured] if made else [],
        "comparisons": [one.as_dict() for one in made.comparisons] if made else [],
    }


def _environment(run: Run) -> dict[str, Any]:
    """Versions and accelerator, as far as this process has come to know them."""
    found: dict[str, Any] = {}
    if "accelerator" in run.__dict__:
        found["accelerator"] = {"name": run.accelerator.accel.value, "why": run.accelerator.why}
    if run.has_lab:
        found["versions"] = {
            "virtproof": importlib.metadata.version("virtproof"),
            "python": platform.python_version(),
            "pytest": pytest.__version__,
            **run.versions,
        }
    return found


@pytest.hookimpl(tryfirst=True)  # before the run's record is made
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash.get(UNSURE, False) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = CANNOT_TELL
    session.config.stash[RUN].close()

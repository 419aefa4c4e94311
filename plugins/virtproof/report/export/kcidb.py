"""KCIDB v5.3: the run as the kernel's CI database takes it; what is not known is left out.

A distribution's kernel was neither checked out nor built here: the checkout and the build say which kernel it
is, and nothing of how it came to be. A test's figures are tests below it, with the status DONE. A test that
fills a cell of the compatibility matrix has the check for its path (``virtproof.matrix.nic.rtl8139``): the
same on every kernel, as only the build differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.series import comparisons_of, series_of
from virtproof.measure.store import clean_line, clean_text
from virtproof.report.compat.grid import UNKNOWN, System, placed
from virtproof.report.compat.kernels import flavour
from virtproof.report.export.named import slug

VERSION = {"major": 5, "minor": 3}
STATUS = {"passed": "PASS", "failed": "FAIL", "error": "ERROR", "skipped": "SKIP"}
# The unit as KCIDB shows it, and the kind of prefix that it may put before.
UNITS: dict[str, dict[str, str]] = {
    "bit/s": {"unit": "bit/s", "prefix": "metric"},
    "B/s": {"unit": "B/s", "prefix": "binary"},
    "1/s": {"unit": "IOPS"},
    "s": {"unit": "s", "prefix": "metric"},
    "s/B": {"unit": "s/B", "prefix": "metric"},
    "1": {},
}
EXCERPT = 16_000  # of 16384 characters that an excerpt may have
_Kernel = tuple[str, str]  # what runs it, and its release


def kcidb(run: RunRecord, records: Sequence[TestRecord], origin: str) -> str:
    """The run as KCIDB's JSON. ``origin`` names the CI system that sends it: ``[a-z0-9_]+``."""
    tested = [(_kernel(run, record, system), record) for system, record in placed(records)]
    kernels = dict.fromkeys(kernel for kernel, _ in tested)
    made = {
        "version": VERSION,
        "checkouts": [_checkout(run, kernel, origin) for kernel in kernels],
        "builds": [_build(run, kernel, origin) for kernel in kernels],
        "tests": [test for one in tested for test in _tests(run, *one, origin)],
    }
    return json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _kernel(run: RunRecord, record: TestRecord, system: System) -> _Kernel:
    """The kernel under test: the guest's or the cell's; the host's for tests that had neither."""
    if record.guest is None and record.compat is None:
        return "host", clean_line(str(run.host["kernel"]))
    return clean_line(system.image), "" if system.kernel == UNKNOWN else clean_line(system.kernel)


def _checkout(run: RunRecord, kernel: _Kernel, origin: str) -> dict[str, Any]:
    return {
        "id": _id(origin, "checkout", run.start, *kernel),
        "origin": origin,
        "comment": f"the kernel of {kernel[0]}: {kernel[1] or 'unknown'}",
    }


def _build(run: RunRecord, kernel: _Kernel, origin: str) -> dict[str, Any]:
    return {
        "id": _id(origin, "build", run.start, *kernel),
        "checkout_id": _id(origin, "checkout", run.start, *kernel),
        "origin": origin,
        "architecture": "x86_64",
        "comment": f"as {kernel[0]} has it: {kernel[1] or 'release unknown'}",
        "config_name": flavour(kernel[1]) or "default",
    }


def _tests(
    run: RunRecord, kernel: _Kernel, record: TestRecord, origin: str
) -> Iterator[dict[str, Any]]:
    test = {
        "build_id": _id(origin, "build", run.start, *kernel),
        "origin": origin,
        "environment": {"comment": _environment(run, record)},
    }
    path = _path(record)
    whole = {
        **test,
        "id": _id(origin, "test", run.start, record.test),
        "path": path,
        "status": STATUS[record.outcome],
        "comment": clean_line(record.test.rpartition("::")[2]),
        "duration": record.duration_s,
        "misc": {"claims": record.claims, **_cell(record)},
    }
    if record.reason:
        whole["log_excerpt"] = clean_text(record.reason)[:EXCERPT]
    yield whole
    for name, number, misc in _figures(record):
        yield {
            **test,
            "id": _id(origin, "figure", run.start, record.test, *name),
            "path": ".".join([path, *(slug(part, also="-") for part in name)]),
            "status": "DONE",
            "comment": clean_line(" ".join(name)),
            "number": number,
            "misc": misc,
        }


def _figures(
    record: TestRecord,
) -> Iterator[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]]:
    """Name, number and what else is known of each figure and comparison."""
    for one in series_of(record):
        known: dict[str, Any] = {"low": one.low, "high": one.high, "sessions": len(one.values)}
        known |= {"better": one.better, "profile": clean_line(one.profile)}
        name = (one.name, one.whose, *(() if one.profile == "quick" else (one.profile,)))
        yield name, {"value": one.centre, **UNITS[one.unit]}, _known(known)
    for pair in comparisons_of(record):
        known = {"low": pair.low, "high": pair.high, "blocks": pair.n, "p": pair.p}
        known |= {"better": pair.better, "verdict": pair.verdict, "floor": pair.floor}
        yield (pair.name, f"{pair.b}-over-{pair.a}"), {"value": pair.ratio}, _known(known)


def _known(misc: dict[str, Any]) -> dict[str, Any]:
    """Nothing in KCIDB may be null."""
    return {key: value for key, value in misc.items() if value is not None}


def _environment(run: RunRecord, record: TestRecord) -> str:
    parts = [f"QEMU {run.versions.get('qemu', 'unknown')}, {run.accelerator['name']}"]
    parts.append(f"{run.host['cpus']} x {run.host['cpu_model']}, host kernel {run.host['kernel']}")
    if guest := record.guest:
        parts.append(f"guest: {guest.machine}, disk {guest.disk}, nic {guest.nic or 'none'}")
    return clean_line("; ".join(parts))


def _cell(record: TestRecord) -> dict[str, Any]:
    """What the test said of its cell: the verdict, for which KCIDB has no status, and the features."""
    cell = record.compat
    if cell is None:
        return {}
    features = {clean_line(device): names for device, names in cell.features.items()}
    return {"check": cell.check, "verdict": cell.verdict, "features": features}


def _path(record: TestRecord) -> str:
    """``suites/network/test_mtu.py::test_x[a]`` as ``virtproof.network.test_mtu.test_x.a``."""
    if record.compat is not None:
        checked = record.compat.check.split("/")
        return ".".join(["virtproof.matrix", *(slug(step, also="-") for step in checked)])
    file, _, name = record.test.removeprefix("suites/").partition("::")
    steps = [*file.removesuffix(".py").split("/"), *name.rstrip("]").split("[", 1)]
    return ".".join(["virtproof", *(slug(step, also="-") for step in steps if step)])


def _id(origin: str, *parts: str) -> str:
    return f"{origin}:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"

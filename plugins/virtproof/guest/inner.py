"""The harness itself inside of a guest (level 1), where it runs guests of its own (level 2)."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from virtproof.errors import GuestError
from virtproof.guest.fetch import fetch
from virtproof.guest.guest import Guest
from virtproof.images.catalog import catalog_dir
from virtproof.images.handover import CACHE, SOURCES
from virtproof.measure.results import TestRecord
from virtproof.measure.store import clean_line, clean_text, read_results

PLACE = "/srv/virtproof"
SITE, SOURCE, OUT, LOG = "site", "source", "out", "pytest.log"
# Pure Python, and newer than what Debian 12 has; the other libraries are packages of the image.
CARRIED = ("pytest", "pluggy", "iniconfig", "pytest-testinfra")
INNER_S = 900.0  # on KVM; scaled to level 1's accelerator
END_S = 60.0
LOG_BYTES = 4000


@dataclass(frozen=True, slots=True)
class InnerRun:
    """What a run at level 2 came to. ``status``: pytest's; ``out``: its results, on this machine
    now; ``said``: the end of what it printed."""

    status: int
    out: Path
    said: str

    @property
    def records(self) -> list[TestRecord]:
        """Its tests; none where it did not come as far as a test."""
        path = self.out / "results.jsonl"
        return read_results(path) if path.exists() else []

    @property
    def verdict(self) -> str:
        """The run in one line: the first test that did not pass, with its reason."""
        records = self.records
        for record in records:
            if record.outcome != "passed":
                name = record.test.rpartition("::")[2]
                cause = f"{record.diagnosis['name']}: " if record.diagnosis else ""
                return clean_line(f"{name} {record.outcome}: {cause}{record.reason}")
        if self.status != 0 or not records:
            lines = [line for line in self.said.splitlines() if line.strip()]
            last = clean_line(lines[-1]) if lines else "it said nothing"
            return f"{len(records)} tests ran, then it ended with status {self.status}: {last}"
        names = ", ".join(f"{r.test.rpartition('::')[2]} {r.duration_s:.0f} s" for r in records)
        return clean_line(f"{len(records)} passed: {names}")

    def check(self) -> None:
        """GuestError with the verdict, unless every test of it passed, and there was one."""
        if self.status != 0 or {record.outcome for record in self.records} != {"passed"}:
            raise GuestError(f"level 2: {self.verdict}", detail=self.said)


def pack(to: Path, checkout: Path) -> None:
    """Lay out what level 1 lacks in ``to``: ``site`` for PYTHONPATH, and ``source`` with the suites."""
    site = to / SITE
    for name in CARRIED:
        for file in importlib.metadata.files(name) or ():
            # Scripts lie outside of the packages' folder, and level 1 compiles for itself.
            if ".." not in file.parts and file.suffix != ".pyc":
                _copy(Path(str(file.locate())), site / file)
    skip = shutil.ignore_patterns("__pycache__")
    own = site / "virtproof"
    shutil.copytree(Path(__file__).parents[1], own, ignore=skip)
    shutil.copytree(catalog_dir(), own / "catalog", ignore=skip, dirs_exist_ok=True)
    about = importlib.metadata.distribution("virtproof")
    facts = site / f"virtproof-{about.version}.dist-info"
    facts.mkdir()
    # Without the first there is no version, without the second no plugin.
    metadata = about.read_text("METADATA") or about.read_text("PKG-INFO") or ""
    (facts / "METADATA").write_text(metadata, encoding="utf-8")
    points = about.read_text("entry_points.txt") or ""
    (facts / "entry_points.txt").write_text(points, encoding="utf-8")
    shutil.copytree(checkout / "suites", to / SOURCE / "suites", ignore=skip)
    for name in ("conftest.py", "pyproject.toml"):
        _copy(checkout / name, to / SOURCE / name)


def run_inner(guest: Guest, tests: Sequence[str], image: str, out: Path, factor: float) -> InnerRun:
    """Run tests on KVM in a guest that was handed all they need; their results come to ``out``.

    ``factor`` is what level 2 multiplies its deadlines by. A run that takes too long is interrupted
    from within, so that it still tells how far it came.
    """
    environment = {
        "PYTHONPATH": f"{PLACE}/{SITE}",
        "VIRTPROOF_CACHE": f"{PLACE}/{CACHE}",
        "VIRTPROOF_APT_SOURCES": f"{PLACE}/{SOURCES}",
    }
    argv = ["env", *(f"{name}={value}" for name, value in environment.items())]
    argv += ["timeout", "-s", "INT", "-k", f"{END_S:.0f}", f"{INNER_S * guest.scale:.0f}"]
    argv += ["python3", "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests]
    argv += ["--accel", "kvm", "--cold", "--image", image, "--deadline-factor", f"{factor:g}"]
    argv += ["--out", f"{PLACE}/{OUT}"]
    log = f"{PLACE}/{OUT}/{LOG}"
    command = f"mkdir -p {PLACE}/{OUT} && cd {PLACE}/{SOURCE} && {shlex.join(argv)} >{log} 2>&1"
    guest.say("runs the harness at level 2")
    status = guest.runner.run(command, check=False, timeout_s=INNER_S + 2 * END_S).status
    said = guest.runner.run("tail -c %s %s", LOG_BYTES, log, check=False).stdout
    fetch(guest.ssh, f"{PLACE}/{OUT}", out)
    return InnerRun(status, out, clean_text(said))


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)

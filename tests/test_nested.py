"""The parts of a nested run that need no guest: what is handed in, what comes out, what it says."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from virtproof.errors import GuestError, VirtproofError
from virtproof.guest import fetch as fetching
from virtproof.guest.fetch import fetch
from virtproof.guest.inner import CARRIED, SITE, SOURCE, InnerRun, pack
from virtproof.guest.shell import CommandResult, checked, quote
from virtproof.guest.warm import _may_be_saved
from virtproof.images import catalog, sources
from virtproof.images.handover import CACHE, SOURCES, hand_over
from virtproof.images.store import ImageStore
from virtproof.lab import accel as accelerators
from virtproof.measure.results import GuestRecord, TestRecord
from virtproof.measure.store import ResultsWriter
from virtproof.plugin import run as runs
from virtproof.plugin.run import Run
from virtproof.spec import Accel, GuestSpec

ROOT = Path(__file__).resolve().parents[1]


class Here:
    """A Runner whose guest is this machine: real sh, tar and base64."""

    def __init__(self, sent: str | None = None) -> None:
        self.sent = sent  # what a guest that lies sends instead

    def run(
        self, command: str, *args: object, check: bool = True, timeout_s: float | None = None
    ) -> CommandResult:
        text = quote(command, args)
        if self.sent is not None and "base64" in text:
            return CommandResult(text, 0, self.sent, "")
        done = subprocess.run(
            ["sh", "-c", text], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return checked(CommandResult(text, done.returncode, done.stdout, done.stderr), check)

    def put(self, path: str, data: bytes) -> None:
        Path(path).write_bytes(data)


IMPORTED = """import sys, virtproof.plugin.hooks
from importlib import metadata
known = metadata.packages_distributions()
print(*{one for name in sys.modules for one in known.get(name.partition(".")[0], ())})"""


def test_level_1_has_every_library_that_the_plugin_imports() -> None:
    """Its packages are Debian's and what is handed in; a dependency that it lacks ends the run at once."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
    )
    imported = {name.lower() for name in done.stdout.split()}
    wants = {re.split(r"[^\w.-]", one)[0] for one in metadata.requires("virtproof") or ()}
    needed = (wants & imported) - set(CARRIED)
    assert {"pyelftools", "libvirt-python"} <= needed
    has = catalog.load()["debian-12-nested"].packages
    packages = {f"python3-{name.removesuffix('-python')}" for name in needed}
    assert packages - set(has) == set()


def archive(*members: tuple[str, bytes, bytes]) -> str:
    """A packed archive of (name, type, content), as a guest would send it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(file.getvalue()).decode()


def test_a_directory_comes_out_of_a_guest_as_it_was(tmp_path: Path) -> None:
    inside = tmp_path / "in side"
    (inside / "evidence" / "test").mkdir(parents=True)
    (inside / "results.jsonl").write_bytes(b"{}\n")
    (inside / "evidence" / "test" / "console.log").write_bytes(bytes(range(256)) * 999)
    fetch(Here(), str(inside), tmp_path / "out")
    for name in ("results.jsonl", "evidence/test/console.log"):
        assert (tmp_path / "out" / name).read_bytes() == (inside / name).read_bytes()


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (archive(("../gone", tarfile.REGTYPE, b"x")), "'../gone', no plain file in it"),
        (archive(("/gone", tarfile.REGTYPE, b"x")), "'/gone', no plain file in it"),
        (archive(("a", tarfile.SYMTYPE, b"")), "'a', no plain file in it"),
        (archive(("a", tarfile.LNKTYPE, b"")), "'a', no plain file in it"),
        (archive(("a", tarfile.CHRTYPE, b"")), "'a', no plain file in it"),
        (archive(("big", tarfile.REGTYPE, bytes(3 << 20))), "has over 2 MiB"),
        (base64.b64encode(bytes(2 << 20)).decode(), "has over 1 MiB packed"),
        ("not base64!", "did not come as base64"),
        ("bm8gYXJjaGl2ZQ==", "cannot be unpacked"),
        (archive(("a", tarfile.REGTYPE, b"x" * 999))[:60], "cannot be unpacked"),
    ],
    # An archive has the time of its making in it, and workers must agree on the names of tests.
    ids=["up", "absolute", "link", "hard-link", "device", "big", "long", "text", "no-tar", "cut"],
)
def test_a_guest_that_lies_leaves_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: str, fault: str
) -> None:
    monkeypatch.setattr(fetching, "PACKED_MIB", 1)
    monkeypatch.setattr(fetching, "UNPACKED_MIB", 2)
    (tmp_path / "inside").mkdir()
    with pytest.raises(GuestError) as caught:
        fetch(Here(sent), str(tmp_path / "inside"), tmp_path / "out")
    assert fault in str(caught.value)
    assert not (tmp_path / "gone").exists()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# --- what is handed in ------------------------------------------------------------------------


def test_the_cache_that_is_handed_over_has_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of level 1 finds it there, on a machine that has no mirror, and builds nothing."""
    own = tmp_path / "own.list"
    own.write_text("deb http://user:word@mirror.example/debian bookworm main\n")
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    outer = ImageStore(tmp_path / "outer", Accel.TCG)
    entry = catalog.builds()["debian-12"]

    def maker(name: str):  # a function, typed within
        def make(scratch: Path) -> dict[str, str]:
            (scratch / name).write_text(f"this is {name}")
            return {"initramfs": "dracut", "agent": "yes"}

        return make

    outer.cache.make("prepared", outer.prepared_key(entry), maker("disk.qcow2"))
    outer.cache.make("kernel", "k", maker("vmlinuz"))
    hand_over(outer, "debian-12", tmp_path / "to")
    assert "mirror" not in (tmp_path / "to" / SOURCES).read_text()
    monkeypatch.setenv(sources.ENVIRONMENT, str(tmp_path / "to" / SOURCES))
    inner = ImageStore(tmp_path / "to" / CACHE, Accel.TCG)
    image = inner.prepared("debian-12")
    assert image.path.read_text() == "this is disk.qcow2"
    assert tmp_path / "to" in image.path.parents
    assert image.key.read_bytes() == (tmp_path / "outer" / "ssh" / "id_ed25519").read_bytes()
    kernel = inner.probe_kernel()
    assert kernel is not None
    assert kernel.read_text() == "this is vmlinuz"
    (tmp_path / "less").mkdir()
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    hand_over(outer, "debian-12", tmp_path / "less", with_image=False)
    assert not list((tmp_path / "less").rglob("disk.qcow2"))


def test_what_is_packed_is_the_plugin_with_its_entry_point(tmp_path: Path) -> None:
    """Alone on a Python's path: the libraries that are carried, ours, and pytest finds the plugin."""
    pack(tmp_path, ROOT)
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".pyc", ".so")] == []
    script = (
        "import importlib.metadata as m, json, pluggy, iniconfig, virtproof.spec as s\n"
        "from virtproof.images.catalog import load\n"
        "points = [p.value for p in m.entry_points(group='pytest11')]\n"
        "names = [d.name for d in m.distributions()]\n"
        "print(json.dumps([s.__file__, sorted(load()), points, names, m.version('virtproof')]))\n"
    )
    # -S hides the libraries of this environment, -P the working directory.
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", script], env={"PYTHONPATH": str(tmp_path / SITE)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, images, points, names, version = json.loads(done.stdout)
    assert file == str(tmp_path / SITE / "virtproof" / "spec.py")
    assert "debian-12-nested" in images
    assert "virtproof.plugin.hooks" in points
    assert {*CARRIED, "virtproof"} <= set(names)
    assert version
    assert (tmp_path / SOURCE / "suites" / "nested" / "level_2.py").is_file()


def test_the_image_has_the_libraries_that_are_not_carried() -> None:
    packages = catalog.builds()["debian-12-nested"].packages
    wanted = {"jsonschema", "libvirt", "lxml", "paramiko", "pycdlib", "packaging", "pygments"}
    assert {f"python3-{name}" for name in wanted} <= set(packages)


# --- what it says -----------------------------------------------------------------------------


def record(test: str, outcome: str = "passed", reason: str | None = None) -> TestRecord:
    guest = GuestRecord("debian-12", None, None, "pc", "bios", "ide", None, "kvm", 1, 768)
    return TestRecord(f"suites/x.py::{test}", outcome, reason, [], guest, None, [], 12.3, None)  # type: ignore[arg-type]


def inner(out: Path, *records: TestRecord, status: int = 0, said: str = "") -> InnerRun:
    if records:
        with ResultsWriter(out / "results.jsonl") as writer:
            for each in records:
                writer.write(each)
    return InnerRun(status, out, said)


def test_a_good_run_names_its_tests(tmp_path: Path) -> None:
    run = inner(tmp_path, record("test_a"), record("test_b[ide]"))
    run.check()
    assert run.verdict == "2 passed: test_a 12 s, test_b[ide] 12 s"


@pytest.mark.parametrize(
    ("records", "status", "said", "line"),
    [
        (["passed", "failed"], 1, "", "test_1 failed: no \\x1bsuch /dev/kvm"),
        (["passed", "skipped"], 0, "", "test_1 skipped: no"),
        (["error"], 1, "", "test_0 error: no"),
        (["passed"], 2, "Terminated\n\n", "1 tests ran, then it ended with status 2: Terminated"),
        ([], 4, "ERROR: no option\n", "0 tests ran, then it ended with status 4: ERROR: no option"),
        ([], 0, "", "0 tests ran, then it ended with status 0: it said nothing"),
    ],
)
def test_a_bad_run_is_one_line_with_its_reason(
    tmp_path: Path, records: list[str], status: int, said: str, line: str
) -> None:
    made = [
        record(f"test_{number}", outcome, None if outcome == "passed" else "no \x1bsuch /dev/kvm")
        for number, outcome in enumerate(records)
    ]
    run = inner(tmp_path, *made, status=status, said=said)
    with pytest.raises(GuestError) as caught:
        run.check()
    told = str(caught.value)
    assert told.startswith(f"level 2: {line.split(' no ')[0]}")
    assert "\n" not in told
    assert "\x1b" not in told
    assert "failed" not in records or "/dev/kvm" in told


def test_results_of_another_shape_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"test": "made up"}\n')
    with pytest.raises(VirtproofError, match=r"results\.jsonl, line 1"):
        InnerRun(0, tmp_path, "").check()


# --- what the plugin has for it ---------------------------------------------------------------


class FakeGuest:
    def __init__(self, spec: GuestSpec) -> None:
        self.spec = spec
        self.image = type("Image", (), {"agent": True})


def test_a_guest_with_kvm_of_its_own_is_never_saved() -> None:
    assert _may_be_saved(FakeGuest(GuestSpec("x")))  # type: ignore[arg-type]
    assert not _may_be_saved(FakeGuest(GuestSpec("x", nested=True)))  # type: ignore[arg-type]


FACTOR = """
def test_factor(virtproof_run, request):
    assert virtproof_run.options.deadline_factor == 2.5
    assert virtproof_run.options.nested
"""
REMARKED = """
import pytest

@pytest.mark.claim("HOST-3")
def test_good(remark, evidence_directory):
    (evidence_directory / "level-2").mkdir()
    (evidence_directory / "level-2" / "run.json").write_text("{}")
    remark("level 2:\\x1b[31m 2 passed")

@pytest.mark.claim("HOST-3")
def test_bad(remark):
    remark("never seen")
    assert False, "the failure's own"
"""


def test_the_options_reach_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FACTOR)
    done = pytester.runpytest_inprocess("--nested", "--deadline-factor", "2.5")
    done.assert_outcomes(passed=1)


def test_the_factor_multiplies_the_probes_deadlines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[Accel, float] = {}

    def probe(
        *_: object, deadline_s: dict[Accel, float], **__: object
    ) -> accelerators.AccelVerdict:
        given.update(deadline_s)
        return accelerators.AccelVerdict(Accel.TCG, "asked for")

    monkeypatch.setattr(runs, "probe", probe)
    options = type(
        "Options", (), {"cache": tmp_path, "accel": "tcg", "deadline_factor": 30.0, "kernels": {}}
    )
    progress = type("Progress", (), {"long": print, "once": print})
    Run(options, progress)._probe()  # type: ignore[arg-type]
    assert given == {accel: 30 * s for accel, s in accelerators.DEADLINE_S.items()}


def test_a_remark_is_the_record_of_a_test_that_passed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(REMARKED)
    pytester.runpytest_inprocess().assert_outcomes(passed=1, failed=1)
    out = pytester.path / "out"
    good, bad = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert (good["outcome"], good["reason"]) == ("passed", "level 2: 2 passed")
    assert "the failure's own" in bad["reason"]
    assert (out / good["evidence"] / "level-2" / "run.json").read_text() == "{}"
    assert bad["evidence"] is None
    # A new run replaces it: the directory is known as ours.
    pytester.runpytest_inprocess("-k", "bad")
    assert not (out / good["evidence"]).exists()


@pytest.mark.parametrize("option", [(), ("--nested",)])
def test_the_suite_is_skipped_with_a_line_unless_it_is_asked_for(
    tmp_path: Path, option: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "suites/nested", "--setup-plan", "-rs"),
            *(*option, "--image", "debian-12", f"--out={tmp_path}", "-p", "no:cacheprovider"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    skipped = done.stdout.count("takes many minutes: asked for by --nested")
    assert skipped == (0 if option else 2), done.stdout
    assert "level_2" not in done.stdout

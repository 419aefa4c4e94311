"""The plugin's options: a mistake is one line with the way out, before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GUESTLESS = """
import pytest

@pytest.mark.claim("HOST-1")
def test_one():
    pass
"""
WITH_GUEST = """
def test_guest(guest_on):
    guest_on()

def test_other(guest_on):
    guest_on()
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: neither cache nor labs nor options of an outer pytest."""
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path_factory.mktemp("run")))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test)
    return pytester.runpytest_inprocess(*options)


def said(result: pytest.RunResult) -> str:
    text = "\n".join([*result.outlines, *result.errlines])
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return text


USAGE = [
    (
        ["--image", "debain-12"],
        "no image is called 'debain-12' (did you mean debian-12",
    ),
    (["--image", "./no-such.qcow2"], "--image ./no-such.qcow2: there is no such file"),
    (["--control", "./frozen.qcow2"], "--control ./frozen.qcow2: there is no such file"),
    (["--control", "debian-21"], "no image is called"),
    (["--image", "disk.raw"], "--image disk.raw: there is no such file"),
    (["--accel", "bogus"], "--accel bogus: no such accelerator (one of auto, kvm, tcg)"),
    (["--accel", "KVM"], "--accel KVM: no such accelerator (one of auto, kvm, tcg)"),
    (["--network", "lan"], "--network goes with --libvirt (the private lab has its own)"),
    (["--pool", "ssd"], "--pool goes with --libvirt (the private lab has its own)"),
    (["--deadline-factor", "0"], "--deadline-factor 0: no such factor (a number above 0, at most"),
    (["--deadline-factor", "inf"], "--deadline-factor inf: no such factor (a number above 0, at"),
    (["--deadline-factor", "two"], "--deadline-factor two: no such factor (a number above 0, at"),
]


@pytest.mark.parametrize(("options", "line"), USAGE, ids=lambda value: str(value)[:30])
def test_a_mistake_is_a_usage_error_in_one_line(
    pytester: pytest.Pytester, options: list[str], line: str
) -> None:
    result = run(pytester, GUESTLESS, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [text for text in said(result).splitlines() if "virtproof:" in text]
    assert error.startswith(f"ERROR: virtproof: {line}")
    assert not (pytester.path / "out").exists()


def test_the_same_tests_with_good_options_run(pytester: pytest.Pytester) -> None:
    (pytester.path / "disk.raw").write_bytes(b"")
    options = ("--image", "debian-12", "--image", "disk.raw", "--accel", "tcg", "--keep-guest")
    result = run(pytester, GUESTLESS, *options)
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_every_image_gives_each_test_with_a_guest_a_run(pytester: pytest.Pytester) -> None:
    (pytester.path / "my disk.raw").write_bytes(b"")
    images = ("--image", "debian-12", "--image", "./my disk.raw", "--image", "debian-12")
    result = run(pytester, WITH_GUEST + GUESTLESS, "--collect-only", "-q", *images)
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert sorted(names) == [
        "test_guest[debian-12]",
        "test_guest[my disk.raw]",
        "test_one",
        "test_other[debian-12]",
        "test_other[my disk.raw]",
    ]
    assert not (pytester.path / "out").exists()


def test_a_claim_that_is_not_there_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = run(pytester, GUESTLESS.replace("HOST-1", "HSOT-1"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = said(result)
    assert "test_one: no claim is called 'HSOT-1' (did you mean HOST-1" in text
    assert not (pytester.path / "out").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
        "qemu+tcp://127.0.0.1:1/system",
        "x:/",
    ],
)
def test_a_libvirt_that_does_not_answer_is_one_line_and_ends_the_run(
    pytester: pytest.Pytester, uri: str
) -> None:
    test = """
        def test_lab(lab):
            pass

        def test_never(lab):
            pass
    """
    result = run(pytester, test, "--libvirt", uri, "--accel", "tcg")
    assert result.ret != 0
    text = said(result)
    assert f"virtproof: libvirt at {uri} does not answer: " in text
    (record,) = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert record["outcome"] == "error"
    assert record["reason"].startswith(f"libvirt at {uri} does not answer: ")
    assert "test_never" not in text


def test_without_guests_no_libvirt_is_asked(pytester: pytest.Pytester) -> None:
    result = run(pytester, GUESTLESS, "--libvirt", "qemu+tcp://127.0.0.1:1/system")
    assert result.ret == 0


def test_a_machine_without_qemu_says_so_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
        import pytest
        from virtproof import host

        @pytest.fixture(scope="session", autouse=True)
        def no_qemu():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(host, "find_program", lambda name: None)
                yield

        def test_accel(accel):
            pass

        def test_never(accel):
            pass
    """
    monkeypatch.setenv("PATH", "/nonexistent")
    result = run(pytester, test, "--accel", "tcg")
    assert result.ret != 0
    text = said(result)
    assert "virtproof: no program qemu-system-x86_64 (./run doctor says how to install it)" in text
    assert "test_never" not in text


def test_the_help_names_every_option(pytester: pytest.Pytester) -> None:
    text = "\n".join(pytester.runpytest_inprocess("--help").outlines)
    for option in (
        *("--image=NAME|FILE", "--accel=auto|kvm|tcg", "--libvirt=URI", "--network=NAME"),
        *("--pool=NAME", "--out=DIR", "--keep-guest"),
    ):
        assert option in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--image=debain-12",), "no image is called 'debain-12' (did you mean debian-12"),
        (("--image=debain-12", "-n2"), "no image is called 'debain-12'"),
        (("--accel=kmv",), "--accel kmv: no such accelerator"),
        (("--out=/etc/passwd",), "--out /etc/passwd is not a directory"),
        (("--network=x",), "--network goes with --libvirt"),
    ],
)
def test_beside_the_suites_a_wrong_option_is_one_line_too(
    options: tuple[str, ...], said: str
) -> None:
    """The suites' conftest reads the options as well, and before any plugin's turn."""
    root = Path(__file__).parent.parent
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "suites/host"]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"ERROR: virtproof: {said}")
    assert "INTERNALERROR" not in done.stdout

"""The plugin's options: a mistake is one line with the way out, before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from virtproof.errors import ImageError
from virtproof.images import catalog
from virtproof.images.store import ImageStore, default_cache
from virtproof.spec import Accel

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
    (["--disk", "virtio,nmve"], "--disk: no DiskBus is called 'nmve' (did you mean nvme?)"),
    (["--virtio", "moderne"], "--virtio: no VirtioMode is called 'moderne' (did you mean modern?)"),
    (["--queues", "2,none"], "--queues none: no such number (1 to 16)"),
    (["--queues", "0"], "--queues 0: no such number (1 to 16)"),
    (["--matrix", "pairs"], "no Profile is called 'pairs' (did you mean pairwise?)"),
    (["--image", "debain-*"], "--image debain-*: nothing that can be built is called so (one of: "),
    (["--image", "all-built"], "--image all-built: none is built yet (./run images build NAME)"),
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


WITH_CELLS = """
def test_boots(root_cell, image_name):
    assert root_cell.fields

def test_plugged(device_cell, image_name):
    pass

def test_switched(switch_cell, image_name):
    pass
"""


KINDS = ("legacy", "transitional", "modern", "packed")


def collected(result: pytest.RunResult) -> list[str]:
    assert result.ret in (0, pytest.ExitCode.NO_TESTS_COLLECTED), said(result)
    return sorted(line.partition("::")[2] for line in result.outlines if "::" in line)


def test_every_cell_of_every_image_gives_a_run(pytester: pytest.Pytester) -> None:
    images = ("--image", "debian-12", "--image", "debian-12-virtio", "--disk", "nvme,virtio")
    result = run(pytester, WITH_CELLS, "--collect-only", "-q", *images)
    assert collected(result) == sorted(
        [
            *("test_boots[debian-12/pc/nvme+rtl8139]", "test_boots[debian-12/pc/virtio+rtl8139]"),
            "test_boots[debian-12-virtio/pc/nvme+virtio]",
            "test_boots[debian-12-virtio/pc/virtio+virtio]",
            "test_switched[debian-12/root/ide-to-virtio]",
            *(
                f"test_plugged[{image}/disk/{device}]"
                for image in ("debian-12", "debian-12-virtio")
                for device in ("nvme", "virtio", *(f"virtio/{kind}" for kind in KINDS))
            ),
        ]
    )
    assert not (pytester.path / "out").exists()


def test_an_images_cells_follow_each_other(pytester: pytest.Pytester) -> None:
    """Or each cell would want another guest than the one before."""
    images = ("--image", "debian-12", "--image", "debian-12-virtio")
    result = run(pytester, WITH_CELLS, "--collect-only", "-q", *images)
    names = [line.partition("[")[2] for line in result.outlines if "::" in line]
    seen = [name.partition("/")[0] for name in names]
    assert len(seen) > 50
    assert seen == sorted(seen, key=["debian-12", "debian-12-virtio"].index)


def test_values_are_repeated_or_separated_and_no_cell_is_no_test(pytester: pytest.Pytester) -> None:
    asked = ("--nic", "e1000", "--nic", "e1000e, pcnet", "--image", "debian-12")
    found = collected(run(pytester, WITH_CELLS, "--collect-only", "-q", *asked))
    models = ("e1000", "e1000e", "pcnet")
    assert found == sorted(
        [*(f"test_boots[debian-12/pc/ide+{model}]" for model in models)]
        + [f"test_plugged[debian-12/nic/{model}]" for model in models]
    )


def test_cells_are_chosen_by_their_values(pytester: pytest.Pytester) -> None:
    asked = ("--image", "debian-12", "--matrix", "full", "--collect-only", "-q")
    found = collected(
        run(pytester, WITH_CELLS, *asked, "-m", "cell(disk='nvme', nic='virtio', packed=True)")
    )
    assert len(found) == 4  # on two machines, transitional and modern
    assert all("nvme+virtio" in name and "packed" in name for name in found)
    one = run(pytester, WITH_CELLS, *asked, "-k", "q35/usb+vmxnet3 or ide-to-virtio")
    assert collected(one) == [
        "test_boots[debian-12/q35/usb+vmxnet3]",
        "test_switched[debian-12/root/ide-to-virtio]",
    ]


def test_the_matrix_is_listed_and_nothing_runs(pytester: pytest.Pytester) -> None:
    asked = ("--image", "debian-12", "--machine", "q35", "--disk", "ide,usb", "--list-matrix")
    result = run(pytester, "def test_never():\n    assert False\n", *asked)
    assert result.ret == 0
    no_ide = "machine q35 has no IDE controller (use machine pc, or bus sata)"
    assert result.outlines == [
        "debian-12: 3 cells, profile given",
        "  boots         q35/usb+rtl8139",
        "  is given      disk/ide",
        "  is given      disk/usb",
        f"  left out      q35/ide+rtl8139  {no_ide}",
    ]
    assert not (pytester.path / "out").exists()
    wrong = run(pytester, GUESTLESS, "--list-matrix", "--disk", "floppy")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    assert "virtproof: --disk: no DiskBus is called 'floppy'" in said(wrong)


def test_a_pattern_is_what_can_be_built_and_is_called_so(pytester: pytest.Pytester) -> None:
    asked = ("--image", "debian-12*", "--image", "debian-12", "--collect-only", "-q")
    found = collected(run(pytester, WITH_GUEST, *asked))
    names = [name for name in found if name.startswith("test_guest")]
    assert "test_guest[debian-12-virtio]" in names
    assert len(set(names)) == len(names) > 2


def test_all_built_is_what_lies_in_the_cache(pytester: pytest.Pytester) -> None:
    store = ImageStore(default_cache(), Accel.TCG)
    entries = catalog.builds()
    try:
        keys = [store.prepared_key(entries[name]) for name in ("debian-12-virtio", "debian-12")]
    except ImageError as error:
        pytest.skip(str(error))
    for key in (*keys, "of-another-recipe"):
        item = store.cache.root / "prepared" / key
        item.mkdir(parents=True)
        (item / "manifest.json").write_text("{}")
    found = collected(run(pytester, WITH_GUEST, "--image", "all-built", "--collect-only", "-q"))
    assert [name for name in found if name.startswith("test_guest")] == [
        "test_guest[debian-12-virtio]",
        "test_guest[debian-12]",
    ]


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        ((), False),
        (("suites",), False),
        (("suites/matrix",), True),
        (("suites", "--matrix", "small"), True),
        (("suites/matrix/test_matrix.py",), True),
    ],
    ids=str,
)
def test_a_plain_run_has_no_matrix(arguments: tuple[str, ...], there: bool) -> None:
    root = Path(__file__).parent.parent
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-n0"]
    done = subprocess.run(
        [*argv, "--image=debian-12", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("test_device[debian-12/nic/e1000e]" in done.stdout) == there


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
        *("--matrix=", "--list-matrix", "--machine=", "--firmware=", "--disk=", "--nic="),
        *("--virtio=", "--packed", "--queues="),
    ):
        assert option in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--image=debain-12",), "no image is called 'debain-12' (did you mean debian-12"),
        (("--image=debain-12", "-n2"), "no image is called 'debain-12'"),
        (("--accel=kmv",), "--accel kmv: no such accelerator"),
        (("--out=/etc/passwd",), "--out /etc/passwd is not a directory"),
        (("--out=/proc/none/such",), "--out /proc/none/such cannot be made: No such file"),
        (("--out=/proc/none/such", "-n2"), "--out /proc/none/such cannot be made: No such file"),
        (("--out=/proc/sys",), "--out /proc/sys is a directory that cannot be written to"),
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


def test_a_run_starts_without_what_takes_a_second_to_import() -> None:
    """Each worker starts so, and so does the harness in an emulated guest, many times as slow."""
    script = "import sys, virtproof.plugin.hooks; print('scipy.stats' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"

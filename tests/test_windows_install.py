"""`images build windows` as a user gives it: wrong uses, and installations that really boot and run.

What boots is no Windows but a phony of its medium (phony_setup.py): its code reads the answer medium, writes
a disk with NTFS and hives, and restarts; the disk's own boot record reports and switches the machine off.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import phony_setup as setup
import phony_windows
from lab_owner import alive, processes_naming
from test_windows_answers import KEY
from test_windows_image import DEVICES, VIOSTOR
from virtproof import cli, host
from virtproof.deadline import Deadline, wait_for
from virtproof.errors import ImageError, UsageError
from virtproof.images import installed, scratch
from virtproof.images.cache import WINDOWS, Cache
from virtproof.spec import Accel
from virtproof.windows.iso import Iso
from virtproof.windows.platform import Arch, windows_of
from virtproof.windows.unattended import disc, install, machine
from virtproof.windows.unattended.install import Order
from virtproof.windows.unattended.machine import Limits, Machine, Seen, _is_over, reported

# Generous: what they end is a machine that would go on for ever.
PATIENT = Limits(600, 600, poll_s=0.2, tell_s=0.5)
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes a medium that installs a Windows which is ready for virtio; by how that goes."""
    if lacks := f"{setup.missing_tools()} {phony_windows.missing_tools()}".strip():
        pytest.skip(f"no phony medium can be made: apt install {lacks}")
    folder = tmp_path_factory.mktemp("setup")
    files = phony_windows.installed(b"MZ", services={"viostor": VIOSTOR}, devices=DEVICES)
    files["Windows/System32/drivers/viostor.sys"] = b"MZ"
    disk = phony_windows.disk(folder / "disk.raw", files, 16)
    wim = setup.wim(folder / "install.wim")

    def make(**how: int) -> Path:
        iso = folder / f"{'-'.join(f'{k}{v}' for k, v in how.items()) or 'whole'}.iso"
        if not iso.exists():
            boot = setup.installer(folder, disk, **how)
            setup.iso(iso, {"sources/install.wim": wim}, boot=boot)
        return iso

    return make


@pytest.fixture(scope="module")
def virtio_win(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an installation takes of virtio-win's, and what it does not."""
    root = tmp_path_factory.mktemp("virtio-win")
    for driver in ("viostor", "vioscsi", "NetKVM", "Balloon"):
        for place in ("w10/amd64", "w10/x86"):
            folder = root / driver / place
            folder.mkdir(parents=True)
            for end in ("inf", "cat", "sys", "pdb"):
                (folder / f"{driver}.{end}").write_bytes(f"{driver} {place} {end}".encode())
    (root / "guest-agent").mkdir()
    (root / "guest-agent/qemu-ga-x86_64.msi").write_bytes(b"agent")
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache of the test's own, which is the user's, too."""
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path / "run"))
    return Cache(tmp_path / "cache", lambda _line: None)


def build(*options: str | Path, accept: bool = True) -> int:
    licence = ["--accept-licence"] if accept else []
    return cli.main(["images", "build", "windows", *map(str, options), *licence])


# --- wrong uses: one line each ---------------------------------------------------------------------


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "needs --iso"),
        (["--iso", "w.iso"], "needs --virtio-win"),
        (["--iso", "w.iso", "--virtio-win", "v"], "w.iso: there is no such file"),
        (["--iso", "w.iso", "--virtio-win", "v", "--unsigned"], "--unsigned is of images"),
    ],
)
@pytest.mark.usefixtures("home")
def test_what_is_missing_is_said(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(*options) == 2
    assert said in one_line(capsys)


@pytest.mark.usefixtures("home")
def test_licence_is_accepted_by_the_user_alone(
    made: Made, virtio_win: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--iso", made(), "--virtio-win", virtio_win, accept=False) == 2
    assert "licence is not accepted" in one_line(capsys)


@pytest.mark.usefixtures("home")
def test_edition_must_be_named(
    made: Made, virtio_win: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--iso", made(), "--virtio-win", virtio_win) == 2
    assert "of: 1 Windows 10 Home; 2 Windows 10 Pro" in one_line(capsys)


@pytest.mark.parametrize("names", [["debian-12"], ["windows", "debian-12"]])
@pytest.mark.usefixtures("home")
def test_options_go_with_windows_alone(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["images", "build", *names, "--iso", "w.iso"]) == 2
    assert "windows" in one_line(capsys)


@pytest.mark.parametrize("size", ["0", "-1", "x", "4096", "1" * 5000])
@pytest.mark.usefixtures("home")
def test_size_is_a_number(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build(f"--size={size}")
    assert "GiB" in capsys.readouterr().err


def order(made: Made, virtio_win: Path, **fields: Any) -> Order:
    return Order(**{"iso": made(), "virtio_win": virtio_win, "edition": "2", **fields})


@pytest.mark.parametrize("name", ["../x", "a b", "x.qcow2", "windows", "-x", ""])
def test_bad_name(home: Cache, made: Made, virtio_win: Path, name: str) -> None:
    if name:
        with pytest.raises(UsageError, match="is no name for an image"):
            install.plan(order(made, virtio_win, name=name), home)
    else:
        assert install.plan(order(made, virtio_win), home).name == "windows-10-pro"


def test_drivers_for_another_windows(home: Cache, made: Made, tmp_path: Path) -> None:
    (tmp_path / "v/viostor/w11/amd64").mkdir(parents=True)
    (tmp_path / "v/viostor/w11/amd64/viostor.sys").touch()
    with pytest.raises(UsageError, match=r"no viostor, vioscsi, NetKVM for Windows 10 amd64"):
        install.plan(order(made, tmp_path / "v"), home)


def test_arm_and_old_windows_are_refused(home: Cache, virtio_win: Path, tmp_path: Path) -> None:
    if lacks := setup.missing_tools():
        pytest.skip(f"apt install {lacks}")
    arm = setup.wim(tmp_path / "arm.wim", arch=12)
    iso = setup.iso(tmp_path / "arm.iso", {"sources/install.wim": arm})
    with pytest.raises(UsageError, match="is for ARM64; machines here are x86"):
        install.plan(Order(iso, virtio_win, "1"), home)


def test_no_room_on_the_disk(
    home: Cache, made: Made, virtio_win: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = install.plan(order(made, virtio_win), home)
    monkeypatch.setattr(host, "disk_free_mib", lambda _path: 4095)
    with pytest.raises(ImageError, match="needs 4096 MiB free in .*, there are 4095"):
        install.build(planned, home, Accel.TCG, None, PATIENT)


# --- media, machine, events ------------------------------------------------------------------------


def test_answer_medium(tmp_path: Path, virtio_win: Path) -> None:
    """Drivers of that Windows and architecture, the agent, script and answers; for the owner alone."""
    windows = windows_of("w10")
    assert windows is not None
    payload = disc.payload(virtio_win, windows, Arch.AMD64)
    assert payload.agent
    path = tmp_path / "answers.iso"
    disc.write(path, b"<unattend/>", payload)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    iso = Iso(path)
    assert iso.labels["joliet"] == "VIRTPROOF"
    assert set(iso.trees["joliet"]) == set(iso.trees["rr"])
    drivers = ("viostor", "vioscsi", "NetKVM", "Balloon")
    assert set(iso.files) == {
        "autounattend.xml",
        "first-logon.ps1",
        "guest-agent/qemu-ga-x86_64.msi",
        *(f"drivers/{one}/{one}.{end}" for one in drivers for end in ("inf", "cat", "sys")),
    }
    assert iso.read("drivers/viostor/viostor.sys") == b"viostor w10/amd64 sys"
    assert iso.read("autounattend.xml") == b"<unattend/>"


@pytest.mark.parametrize(
    ("bus", "device"), [("ide", "ide-hd,bus=ide.0,unit=0"), ("virtio", "virtio-blk-pci")]
)
def test_machine(bus: str, device: str) -> None:
    """The disk boots before the medium, nothing reaches out, and no path ends an option."""
    path = Path("/x,y/disk")
    argv = machine.command(Machine(path, bus, path, path, path, Accel.TCG), 7)
    assert f"{device},drive=disk,bootindex=1" in argv
    assert "ide-cd,bus=ide.1,unit=0,drive=setup,bootindex=2" in argv
    assert argv[argv.index("-nic") + 1] == "none"
    assert [word for word in argv if "/x,y" in word] == []


def test_qemu_that_does_not_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text("#!/bin/sh\necho no such machine\nexit 1\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "file"
    order = Machine(path, "ide", path, path, path, Accel.TCG)
    with pytest.raises(ImageError, match="^QEMU does not start: no such machine$"):
        machine.install(order, PATIENT, print, tmp_path / "screen.png")


def event(name: str, at: float = 0, **data: object) -> dict[str, Any]:
    stamp = {"seconds": int(at), "microseconds": int(at % 1 * 1e6)}
    return {"event": name, "timestamp": stamp, "data": data}


def test_resets_within_a_moment_are_one_restart() -> None:
    seen, said = Seen(), list[str]()
    for at in (100.0, 100.1, 100.9, 101.5, 101.6, 200.0):
        assert not _is_over(event("RESET", at, guest=True), seen, PATIENT, said.append)
    assert not _is_over(event("RESET", 300.0, guest=False), seen, PATIENT, said.append)
    assert said == ["restarted (1)", "restarted (2)", "restarted (3)"]


def test_full_disk_of_the_host_is_one_line() -> None:
    full = event("BLOCK_IO_ERROR", device="disk", operation="write", reason="No space left")
    with pytest.raises(ImageError, match="disk: write fails on the host: No space left"):
        _is_over(full, Seen(), PATIENT, print)


def test_what_the_guest_reports_is_bounded() -> None:
    """It is only a guest's word: no control characters, no long values."""
    assert reported(b"x\r\nvirtproof: prepared agent=yes a=b;c d=\x1b[1m .\r\n") == {"agent": "yes"}
    with pytest.raises(ImageError, match="failed at drivers"):
        reported(b"virtproof: failed at drivers: \x1b[2Jx .\r\n")


# --- real machines ---------------------------------------------------------------------------------


def modes(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below, with its text, that somebody else could read."""
    for folder, names, files in os.walk(root):
        names[:] = [one for one in names if (Path(folder) / one).stat().st_mode & 0o055]
        for file in files:
            path = Path(folder) / file
            if path.stat().st_mode & 0o044:
                yield path, path.read_bytes().decode("latin-1")


@pytest.mark.real
def test_command_to_sealed_image(
    home: Cache,
    made: Made,
    virtio_win: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Installed, sealed, listed, found by its name, not made twice, removed; secrets nowhere."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    ran: list[str] = []
    popen = subprocess.Popen.__init__

    def spy(self: Any, args: Any, *rest: Any, **named: Any) -> None:
        ran.append(" ".join(map(str, args)))
        popen(self, args, *rest, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", spy)
    options = ["--iso", made(), "--virtio-win", virtio_win, "--edition", "Windows 10 Pro"]
    options += ["--product-key-file", key, "--accel", "tcg"]
    assert build(*options) == 0
    said = capsys.readouterr()
    item = installed.find(home, "windows-10-pro")
    assert item is not None
    assert f"ready, {item.path}/disk.qcow2" in said.out
    assert "restarted (1)" in said.err
    # The phony read its edition from the answers, on the answer medium, in the machine.
    assert item.facts["setup"] == "2"
    assert item.facts["name"] == "windows-10-pro", "the guest has named it"
    assert (item.facts["agent"], item.facts["bus"], item.facts["restarts"]) == ("yes", "ide", 1)

    assert set(item.digests) == {"disk.qcow2", "administrator-password"}, "the answers are left"
    password = (item.path / "administrator-password").read_text().strip()
    assert len(password) == 20
    seen = [said.out, said.err, *ran, json.dumps(item.facts)]
    for secret in (KEY, password):
        assert not any(secret in text for text in seen)
        assert not [path for path, text in modes(home.root) if secret in text]
    assert stat.S_IMODE(item.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE((item.path / name).stat().st_mode) for name in item.digests} == {0o400}

    machines = sum("qemu-system" in one for one in ran)
    assert build(*options) == 0
    assert sum("qemu-system" in one for one in ran) == machines, "it was installed a second time"
    assert cli.main(["images", "list"]) == 0
    assert "windows-10-pro" in capsys.readouterr().out
    assert cli.main(["windows-image", "windows-10-pro"]) == 0
    assert "viostor: ready to boot from it" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"another image called windows-10-pro"):
        install.plan(order(made, virtio_win, size_gib=65), home)
    with pytest.raises(UsageError, match=r"is a Windows, and --image is for Linux"):
        installed.refuse(home.root, "windows-10-pro")
    assert cli.main(["images", "remove", "windows-10-pro"]) == 0
    assert installed.find(home, "windows-10-pro") is None


@pytest.mark.real
def test_virtio_disk(home: Cache, made: Made, virtio_win: Path) -> None:
    planned = install.plan(order(made, virtio_win, bus="virtio"), home)
    item = install.build(planned, home, Accel.TCG, None, PATIENT)
    assert (item.facts["bus"], item.facts["setup"]) == ("virtio", "2")


FAILURES = {
    "never-off": ({"boot": setup.BOOT_STANDS}, {"whole_s": 4.0}, "is not off after 4 s"),
    "asks": ({"setup": setup.SETUP_STANDS}, {"idle_s": 2.0}, "has written nothing for 2 s"),
    "restarts": ({"boot": setup.BOOT_RESTARTS}, {"restarts": 1}, "has restarted 2 times"),
    "empty": ({"setup": setup.SETUP_EMPTY}, {}, "went off and left its disk empty"),
    "silent": ({"boot": setup.BOOT_SILENT}, {}, "never reported its end"),
    "fault": ({"boot": setup.BOOT_FAULT}, {}, "failed at driver viostor: status 2"),
}


@pytest.mark.real
@pytest.mark.parametrize(("how", "limits", "said"), FAILURES.values(), ids=list(FAILURES))
def test_failure_is_one_line_and_nothing_is_kept(
    home: Cache,
    made: Made,
    virtio_win: Path,
    how: dict[str, int],
    limits: dict[str, Any],
    said: str,
) -> None:
    planned = install.plan(Order(made(**how), virtio_win, "2"), home)
    with pytest.raises(ImageError, match=said) as caught:
        install.build(planned, home, Accel.TCG, None, replace(PATIENT, **limits))
    assert "\n" not in str(caught.value)
    assert home.items(WINDOWS) == []
    assert list((home.root / "tmp").iterdir()) == []
    (log,) = (home.root / "failed").glob("*.log")
    assert str(log) in str(caught.value)
    pictures = list((home.root / "failed").glob("*.png"))
    assert len(pictures) == ("whole_s" in limits or "idle_s" in limits)
    assert all(str(one) in str(caught.value) for one in pictures)


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_killed_installation_leaves_nothing(
    home: Cache, made: Made, virtio_win: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """No QEMU, no medium with a password, no half an image that somebody would take for a whole one; in
    TMPDIR nothing at once, and in the runtime directory nothing after the next sweep."""
    argv = [sys.executable, "-m", "virtproof", "images", "build", "windows", "--accept-licence"]
    argv += ["--iso", str(made(setup=setup.SETUP_STANDS)), "--virtio-win", str(virtio_win)]
    argv += ["--edition", "2", "--accel", "tcg"]
    # A shell's background job inherits that Ctrl-C is ignored.
    heeding = ["env", "--default-signal=INT", *argv]
    (tmp_path / "tmp").mkdir()
    build = subprocess.Popen(
        heeding,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )

    def begun() -> int | None:
        """Bytes on the console of the machine, once there are some."""
        return (
            next((p.stat().st_size for p in (home.root / "tmp").glob("*/console.log")), 0) or None
        )

    assert wait_for(begun, Deadline.after(120), 0.05), "no machine was started"
    machines = set(processes_naming(str(home.root)))
    assert machines
    build.send_signal(number)
    said, _ = build.communicate(timeout=120)
    assert build.returncode == (130 if number == signal.SIGINT else -number)
    assert (b"nothing half-made is left" in said) == (number == signal.SIGINT)
    assert wait_for(lambda: not alive(machines) or None, Deadline.after(120), 0.05)
    assert list((tmp_path / "tmp").iterdir()) == []
    scratch.sweep()
    assert list((tmp_path / "run" / scratch.SHORT).iterdir()) == []
    assert Cache(home.root, lambda _line: None).items(WINDOWS) == []
    assert list((home.root / "tmp").iterdir()) == []


def test_script_of_the_first_logon_parses() -> None:
    """By PowerShell, where it is installed."""
    shell = shutil.which("pwsh")
    if shell is None:
        pytest.skip("needs PowerShell (pwsh), which no distribution packages")
    parse = "[Management.Automation.Language.Parser]::ParseInput"
    check = (
        f"$e = $null; [void]{parse}([Console]::In.ReadToEnd(), [ref]$null, [ref]$e); exit $e.Count"
    )
    argv = [shell, "-NoProfile", "-Command", check]
    done = subprocess.run(argv, input=disc.script(), text=True, check=False)
    assert done.returncode == 0


def test_script_is_plain_ascii() -> None:
    """Windows PowerShell 5 takes a file without a mark for the machine's code page."""
    assert disc.script().isascii()

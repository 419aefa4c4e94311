"""The first boot's end: known at once, whichever it is; and by real QEMU where that is cheap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from virtproof.errors import ImageError, MissingToolError
from virtproof.images import firstboot, ovmf
from virtproof.images.catalog import catalog_dir
from virtproof.images.child import spawned
from virtproof.images.firstboot import FirstBoot, judged, last_lines
from virtproof.spec import Accel

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64"
)
GOOD = (
    b"[  OK  ] x\r\n\r\nvirtproof: prepared initramfs=dracut agent=yes kernel=6.1.0-9-amd64 .\r\n"
)


def boot(folder: Path, **changes: object) -> FirstBoot:
    values: dict[str, object] = {
        "disk": folder / "disk.raw",
        "format": "raw",
        "bus": "ide",
        "seed": folder / "seed.iso",
        "console": folder / "console.log",
        "accel": Accel.TCG,
        "own_build": True,
    }
    return FirstBoot(**(values | changes))  # type: ignore[arg-type]


def test_the_script_s_last_words_are_the_facts() -> None:
    verdict = judged(GOOD)
    assert verdict is not None
    assert not verdict.fault
    assert verdict.facts == {"initramfs": "dracut", "agent": "yes", "kernel": "6.1.0-9-amd64"}


@pytest.mark.parametrize("cut", range(len(b"virtproof: prepared"), 65, 7))
def test_half_a_line_is_no_end(cut: int) -> None:
    assert judged(GOOD[: GOOD.index(b"virtproof") + cut]) is None


def test_a_line_that_the_kernel_broke_into_is_passed_over_for_the_next() -> None:
    torn = b"\nvirtproof: prepared initramfs=dra[   12.3] sd 0:0:0:0: x\n"
    assert judged(torn) is None
    verdict = judged(torn + GOOD)
    assert verdict is not None
    assert verdict.facts["initramfs"] == "dracut"


def test_values_that_no_script_of_ours_says_are_dropped() -> None:
    verdict = judged(b"virtproof: prepared initramfs=dracut kernel=<script> a\x1b[31m=b .\n")
    assert verdict is not None
    assert verdict.facts == {"initramfs": "dracut"}


@pytest.mark.parametrize(
    "line",
    [
        b"[    3.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        b"ALERT!  UUID=0c02-99 does not exist.  Dropping to a shell!",
        b"(initramfs) ",
        b"Entering emergency mode. Exit the shell to continue.",
        b"You are in emergency mode. After logging in, type",
        b"No bootable device.",
        b"grub rescue> ",
        b"UEFI Interactive Shell v2.2",
        b"virtproof: failed while setting up SSH (status 1) .",
    ],
)
def test_a_boot_that_is_over_is_known_by_its_words(line: bytes) -> None:
    verdict = judged(b"one\r\n" + line + b"\r\n")
    assert verdict is not None
    assert verdict.fault
    assert judged(b"one\r\ntwo\r\n") is None


def test_a_console_s_escapes_do_not_reach_the_terminal() -> None:
    lines = last_lines(b"\x1b[2J\x1b[31mred\x1b[0m\r\n\x00\x07\r\n\x1b]0;title\x07x\r\n")
    assert lines[0] == "red"
    assert not any("\x1b" in line or "\x07" in line for line in lines)


def test_a_comma_in_a_path_is_no_option_of_qemu_s(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    argv = firstboot.command(boot(folder))
    assert [arg for arg in argv if arg.startswith(f"file={tmp_path}/a,,b/disk.raw,if=none")]


def test_the_first_boot_reaches_no_network(tmp_path: Path) -> None:
    argv = firstboot.command(boot(tmp_path, own_build=False, bus="virtio"))
    assert argv[argv.index("-nic") + 1] == "none"
    assert argv[argv.index("-smbios") + 1] == "type=1,serial=ds=nocloud"
    assert "max" in argv
    assert any(arg.startswith("virtio-blk-pci") for arg in argv)


def test_uefi_is_two_flashes_on_q35_and_the_code_is_only_read(tmp_path: Path) -> None:
    uefi = ovmf.Firmware(tmp_path / "code.fd", tmp_path / "template.fd")
    argv = firstboot.command(boot(tmp_path, firmware=uefi, variables=tmp_path / "own.fd"))
    assert argv[argv.index("-machine") + 1].startswith("q35,")
    assert [arg for arg in argv if "pflash" in arg] == [
        f"if=pflash,format=raw,file={tmp_path / 'code.fd'},readonly=on",
        f"if=pflash,format=raw,file={tmp_path / 'own.fd'}",
    ]
    assert not [arg for arg in firstboot.command(boot(tmp_path)) if "pflash" in arg]


@needs_qemu
@pytest.mark.parametrize("name", ["plain", "a b,c=d"])
def test_a_disk_without_a_boot_loader_ends_the_wait_at_once(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in ("disk.raw", "seed.iso"):
        (folder / file).write_bytes(b"\0" * (1 << 20))
    begin = time.monotonic()
    with pytest.raises(ImageError, match="first boot: it says 'No bootable device'"):
        firstboot.run(boot(folder))
    assert time.monotonic() - begin < 60


@needs_qemu
def test_a_disk_that_only_halts_is_cut_off_by_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halt = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp
    (tmp_path / "disk.raw").write_bytes(halt + b"\0" * 506 + b"\x55\xaa" + b"\0" * (1 << 20))
    (tmp_path / "seed.iso").write_bytes(b"\0" * (1 << 20))
    monkeypatch.setitem(firstboot.DEADLINE_S, Accel.TCG, 1.5)
    with pytest.raises(ImageError, match=r"first boot: no end within 2 s.*cloud-init") as caught:
        firstboot.run(boot(tmp_path))
    assert "\n" not in str(caught.value)


@needs_qemu
@pytest.mark.parametrize("said", ["", "virtproof: prepared kernel=6.1.0 ."])
def test_a_full_disk_is_said_at_once_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """QEMU stops a guest whose disk has no room and says nothing, before its last words or after."""
    halt = b"\xfa\xf4\xeb\xfd"
    (tmp_path / "disk.raw").write_bytes(halt + b"\0" * 506 + b"\x55\xaa" + b"\0" * (1 << 20))
    (tmp_path / "seed.iso").write_bytes(b"\0" * (1 << 20))
    monkeypatch.setattr(firstboot, "judged", lambda _: judged(f"{said}\r\n".encode()))
    monkeypatch.setattr("virtproof.host.disk_free_mib", lambda _: 0)
    with pytest.raises(ImageError, match=r"first boot: the disk of the cache is full.*make room"):
        firstboot.run(boot(tmp_path))


@needs_qemu
def test_what_qemu_refuses_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"QEMU ended with status 1: .*disk\.raw"):
        firstboot.run(boot(tmp_path))


def test_a_machine_without_qemu_is_told_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("virtproof.host.SYSTEM_DIRECTORIES", ())
    with pytest.raises(MissingToolError, match="qemu-system-x86_64.*apt install"):
        firstboot.run(boot(tmp_path))


def test_a_program_ends_with_who_was_killed_while_waiting_for_it() -> None:
    """The soak saw a qemu-img that went on writing for a killed build."""
    script = "from virtproof.images.child import output; output(['sleep', '613.7'], 'x')"
    with subprocess.Popen([sys.executable, "-c", script]) as waiting:
        children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        end = time.monotonic() + 30
        while not (pids := children.read_text().split()) or not asleep(pids[0]):
            assert time.monotonic() < end
            time.sleep(0.01)
        waiting.kill()
    while asleep(pids[0]) and time.monotonic() < end:
        time.sleep(0.01)
    assert not asleep(pids[0])


def asleep(pid: str) -> bool:
    """Whether a process is our ``sleep``, and no zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00613.7\x00"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_outlives_an_interrupted_wait() -> None:
    def interrupted() -> None:
        with spawned(["sleep", "600"]) as child:
            started.append(child)
            raise KeyboardInterrupt

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started[0].poll() is not None
    gone = subprocess.run(["kill", "-0", str(started[0].pid)], capture_output=True, check=False)
    assert gone.returncode != 0


@pytest.mark.parametrize(
    ("emulator", "machine", "works", "personality"),
    [
        ("qemu", "pc-i440fx-7.2", True, "00040000"),
        ("qemu", "pc-q35-8.2", True, "00040000"),
        ("qemu", "pc-i440fx-10.0", True, "00000000"),
        ("kvm", "pc-i440fx-7.2", True, "00000000"),
        ("qemu", "pc-i440fx-7.2", False, "00000000"),
    ],
    ids=["qemu-7", "qemu-8", "qemu-10", "kvm", "no-setarch"],
)
def test_the_agent_starts_in_any_case_and_with_fixed_addresses_where_random_ones_cost(
    tmp_path: Path, emulator: str, machine: str, works: bool, personality: str
) -> None:
    """The script that starts it, as the recipe writes it, beside programs that say what the guest is."""
    recipe = (catalog_dir() / "recipes" / "first-boot.sh").read_text()
    costs = recipe.partition("slow_at_random='")[2].partition("'\n")[0]
    script = recipe.partition("virtproof-agent <<S\n")[2].partition("\nS\n")[0]
    version = tmp_path / "version"
    version.write_text(f"{machine}\n")
    programs = {"systemd-detect-virt": f"echo {emulator}", "agent": "cat /proc/self/personality"}
    for name, line in (programs | ({} if works else {"setarch": "exit 1"})).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    script = script.replace("$slow_at_random", costs).replace("\\$", "$").replace("$ga", "agent")
    script = script.replace("/sys/class/dmi/id/product_version", str(version))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (personality, 0)

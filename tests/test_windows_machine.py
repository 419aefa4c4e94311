"""The machine that a Windows is put into: its domain, its channels, its end. The guest in it is a Linux."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import paramiko
import pytest
from lxml import etree

from test_domain_xml import RNG
from test_windows_channels import answers, stand_in
from virtproof.deadline import Deadline, wait_for
from virtproof.diagnose.diagnosis import diagnose
from virtproof.diagnose.evidence import Evidence
from virtproof.errors import CommandError, GuestError
from virtproof.guest.connection import Connection
from virtproof.guest.domain_xml import Resources, domain_xml
from virtproof.guest.failure import BootFailedError
from virtproof.guest.screen import READER
from virtproof.guest.windows import Login, WindowsGuest
from virtproof.guest.windows_xml import dummy, for_windows, with_devices, with_medium
from virtproof.host import find_program
from virtproof.images.store import ImageStore, default_cache
from virtproof.lab import open_lab
from virtproof.spec import Accel, DiskBus, Firmware, GuestSpec, Machine, NicModel
from virtproof.windows.online.channels import Channel, NotLetInError
from virtproof.windows.online.runner import PowerShell

SPEC = GuestSpec("windows", memory_mib=4096, cpus=2)
Q35 = SPEC.but(machine=Machine.Q35, firmware=Firmware.UEFI, disk=DiskBus.SATA)
SYSTEM = (
    b'{"value":[{"caption":"Debian","version":"12","build":12,"revision":0,"architecture":"AMD64",'
    b'"powershell":"none","start_options":"","booted":""}]}'
)


def domain(spec: GuestSpec, cd_bus: str = "ide") -> str:
    resources = Resources(
        "w", "c7f2f2f6-0000-4000-8000-000000000000", "52:54:00:00:00:01", "n", "/r"
    )
    return for_windows(domain_xml(spec, resources), spec.accel, cd_bus)


def found(xml: str, path: str) -> list[str]:
    return [str(one) for one in etree.fromstring(xml).xpath(path)]


def test_a_stop_is_told_by_registers_under_kvm_and_by_a_device() -> None:
    emulated, kvm = domain(SPEC), domain(SPEC.but(accel=Accel.KVM))
    assert found(emulated, "devices/panic/@model") == ["isa"]
    assert found(kvm, "devices/panic/@model") == ["hyperv", "isa"]
    assert found(kvm, "on_crash/text()") == ["preserve"]
    assert "hyperv" not in emulated


def test_a_windows_has_the_instruction_that_it_wants() -> None:
    assert found(domain(SPEC), "cpu/@mode") == ["maximum"]
    assert found(domain(SPEC), "cpu/feature/@name") == []
    assert found(domain(SPEC.but(accel=Accel.KVM)), "cpu/@mode") == ["host-passthrough"]


@pytest.mark.parametrize(("spec", "bus"), [(SPEC, "ide"), (Q35, "sata")], ids=["bios", "uefi"])
def test_a_medium_is_put_into_the_cd_rom(spec: GuestSpec, bus: str) -> None:
    empty = domain(spec, bus)
    path = "devices/disk[@device='cdrom']/source/@file"
    assert found(empty, path) == []
    once, _ = with_medium(empty, "/a.iso")
    twice, cd = with_medium(once, "/b & c.iso")
    assert found(twice, path) == ["/b & c.iso"]
    assert found(cd, "source/@file") == ["/b & c.iso"]


@pytest.mark.parametrize("bus", [DiskBus.VIRTIO, DiskBus.VIRTIO_SCSI], ids=str)
@pytest.mark.parametrize(("spec", "cd"), [(SPEC, "ide"), (Q35, "sata")], ids=["bios", "uefi"])
def test_the_domain_is_libvirts(spec: GuestSpec, cd: str, bus: DiskBus) -> None:
    """By libvirt's own schema, with the disk that nobody needs; which can refuse."""
    if not RNG.exists():
        pytest.skip("libvirt's schemas are not installed")
    schema = etree.RelaxNG(etree.parse(str(RNG)))
    for accel in Accel:
        xml = with_devices(domain(spec.but(accel=accel), cd), dummy(bus, "dummy", 1024, "/d"))
        assert found(xml, "devices/disk[serial='dummy']/target/@bus") == [bus.libvirt_bus]
        assert schema.validate(etree.fromstring(xml)), schema.error_log.last_error
        broken = xml.replace('<panic model="isa"', '<panic model="blue"')
        assert not schema.validate(etree.fromstring(broken))


# --- stops ------------------------------------------------------------------------------------

LOG = (
    "2026-11-25 13:00:00.000+0000: panic hyper-v: "
    "arg1='{}', arg2='0x1', arg3='0x2', arg4='0x3', arg5='0x4'\n"
)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("0x7b", "0x0000007b INACCESSIBLE_BOOT_DEVICE"),
        ("0xc9", "0x000000c9 DRIVER_VERIFIER_IOMANAGER_VIOLATION"),
        ("0xfffffffffffffffe", "0xfffffffffffffffe unnamed"),
    ],
)
def test_a_stop_is_read_from_libvirts_line(code: str, name: str) -> None:
    diagnosis = diagnose(
        Evidence(qemu_log=LOG.format("0x1") + LOG.format(code), domain_state="crashed")
    )
    assert diagnosis.name == "windows-stop"
    assert diagnosis.line == f"hyper-v {name} (0x1, 0x2, 0x3, 0x4)"


def test_a_stop_without_a_code_and_a_log_without_a_stop() -> None:
    told = diagnose(Evidence(guest_panicked='{"type": "windows"}', domain_state="crashed"))
    assert (told.name, told.line.split(":")[0]) == ("windows-stop", "windows without a code")
    for log in ("", "panic hyper-v", LOG.format("123"), LOG.format("0x" + "1" * 17)):
        assert diagnose(Evidence(qemu_log=log)).name != "windows-stop"


# --- a real guest -----------------------------------------------------------------------------


@pytest.fixture
def guest(runtime: Path, cache: Path) -> Iterator[WindowsGuest]:
    del runtime
    image = ImageStore(default_cache(), Accel.TCG).prepared("debian-12")
    connections: list[Connection] = []

    def connect(uri: str) -> Connection:
        connections.append(Connection(uri))
        return connections[-1]

    with open_lab(cache, connect) as lab:
        spec = GuestSpec("debian-12")
        login = Login(Channel.AGENT)
        with WindowsGuest(spec, image, lab, connections[0], login) as made:
            yield made


def as_linux_wants_it(guest: WindowsGuest) -> None:
    """The processor of a Linux guest: QEMU 7.2 was seen to hang those that have a Windows'."""
    domain, linux = (
        etree.fromstring(xml)
        for xml in (guest.domain.xml(inactive=True), domain_xml(guest.spec, guest.resources))
    )
    for cpu in domain.findall("cpu"):
        domain.replace(cpu, linux.find("cpu"))
    guest._redefine(etree.tostring(domain, encoding="unicode"))


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_machine_is_reached_given_devices_and_seen_to_stop(
    guest: WindowsGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent answers for PowerShell; a disk and a medium come while it runs; a crash is a stop."""
    guest.define()
    as_linux_wants_it(guest)
    folder = tmp_path / "programs"
    folder.mkdir()
    program = (stand_in(folder) / "powershell.exe").read_bytes()
    asked: list[int] = []
    shell = guest._shell

    def late(deadline: Deadline) -> PowerShell | None:
        """Windows' services come one after another: at first there is no PowerShell."""
        found = shell(deadline)
        if found is not None:
            asked.append(len(asked))
        if len(asked) == 3:
            agent = guest.boots[-1].agent
            agent.put("/usr/local/bin/powershell.exe", program)
            for name, answer in {**answers(), "system": SYSTEM}.items():
                agent.put(f"/usr/local/bin/{name}.json", answer)
            agent.run("chmod +x /usr/local/bin/powershell.exe")
        return found

    monkeypatch.setattr(guest, "_shell", late)
    assert guest.start().system().caption == "Debian"
    assert asked == [0, 1, 2]
    linux = guest.boots[-1].agent

    guest.bus = DiskBus.VIRTIO_SCSI
    guest.add_dummy("dummy")
    medium = tmp_path / "medium.iso"
    medium.write_bytes(b"x" * 4096)
    guest.media = (medium,)
    guest.add_medium(0)
    look = "udevadm settle; ls /dev/disk/by-id | grep dummy; head -c 1 /dev/sr0"
    assert linux.run(look).stdout.endswith("dummy\nx")

    linux.spawn("modprobe pvpanic-mmio; modprobe pvpanic; sleep 1; echo c >/proc/sysrq-trigger")
    crashed = wait_for(lambda: guest.state == "crashed" or None, Deadline.after(60), 0.2)
    assert crashed, guest.console_text()[-2000:]
    with pytest.raises(BootFailedError) as failed:
        guest._answering(Deadline.after(60))
    assert failed.value.diagnosis.name == "windows-stop"
    guest.power_cut()

    guest.add_dummy("dummy")  # which went with the machine that it was plugged into
    guest.move()  # and what the domain becomes is what libvirt takes
    xml = guest.domain.xml(inactive=True)
    assert found(xml, "devices/disk[serial='root']/target/@bus") == ["scsi"]
    assert found(xml, "devices/disk[serial='dummy']/target/@dev") == ["sdz"]
    assert found(xml, "devices/interface/model/@type") == [NicModel.VIRTIO.value]
    assert guest.spec.disk is DiskBus.VIRTIO_SCSI


def stop_screen(text: bytes) -> bytes:
    """A boot sector that writes ``text`` in white on blue, and then does nothing any more."""
    # xor ax, ax; ds and es; mode 3; the screen's 80 x 25 cleared to attribute 1f; si: the text
    clear = bytes.fromhex("31c08ed88ec0b80300cd10b80006b71f31c9ba4f18cd10be")
    # lodsb; to the end where it is 0; int 10h's teletype; again; and for ever
    write = bytes.fromhex("ac84c07409b40ebb1f00cd10ebf2f4ebfd")
    at = 0x7C00 + len(clear) + 2 + len(write)
    return (clear + at.to_bytes(2, "little") + write + text + b"\0").ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.real
@pytest.mark.boots(1)
def test_a_stop_is_read_off_the_screen(
    guest: WindowsGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no panic device tells of it, and Windows only stands there."""
    if find_program(READER) is None:
        pytest.skip(f"{READER} is not installed (tesseract-ocr)")
    monkeypatch.setattr("virtproof.guest.windows.LOOK_S", 1.0)
    disk = tmp_path / "stopped.qcow2"
    (tmp_path / "sector").write_bytes(stop_screen(b"\r\n*** STOP: 0x0000007B (0xFFFFF880009A97E8)"))
    argv = ["qemu-img", "convert", "-O", "qcow2", str(tmp_path / "sector"), str(disk)]
    subprocess.run(argv, check=True)
    guest.image = replace(guest.image, path=disk)
    guest.define()
    with pytest.raises(BootFailedError) as failed:
        guest.start()
    diagnosis = failed.value.diagnosis
    assert (diagnosis.name, diagnosis.source) == ("windows-stop", "screenshot")
    assert diagnosis.line == "windows 0x0000007b INACCESSIBLE_BOOT_DEVICE"


class Ending(WindowsGuest):
    """A guest without a machine: ``states`` are what libvirt says, one after another."""

    def __init__(self, *states: str) -> None:
        self.spec, self.scale, self.states = SPEC, 0.001, list(states)
        self.login, self._refused = Login(Channel.SSH), None
        self.boots, self._ssh, self.asked = [Ended()], None, []  # type: ignore[assignment, list-item]

    @property
    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def fail(self, **known: object) -> NoReturn:
        raise GuestError(f"stopped: {known}")


class Ended:
    finished = False

    def finish(self) -> None:
        self.finished = True

    def over(self) -> bool:
        return False


class Programs:
    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []

    def program(self, *words: str) -> None:
        self.ran.append(words)


def end(guest: Ending) -> Programs:
    windows = Programs()
    guest.end(windows)  # type: ignore[arg-type]  # it runs a program, and nothing else
    return windows


def test_it_is_shut_down_by_windows_itself() -> None:
    """A power button might only hibernate its kernel."""
    guest = Ending("running", "shutoff")
    assert end(guest).ran == [("shutdown", "/s", "/t", "2")]
    assert guest.boots[0].finished  # type: ignore[attr-defined]


def test_a_windows_that_does_not_go_off_or_stops_meanwhile_is_said() -> None:
    with pytest.raises(GuestError, match="is not off"):
        end(Ending("running"))
    with pytest.raises(GuestError, match=r"stopped: .*windows"):
        end(Ending("running", "crashed"))


class Refusing(Ending):
    """Up, and its channel ends in ``errors``, the last of them for ever."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("running")
        self.errors = list(errors)

    def _shell(self, deadline: Deadline) -> PowerShell | None:
        del deadline
        raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]


def answers_at_last(guest: Refusing, seconds: float) -> object:
    deadline = Deadline.after(seconds)
    return guest._awaited(deadline, 0.001)


@pytest.mark.parametrize("error", [NotLetInError("WinRM"), paramiko.AuthenticationException("no")])
def test_a_wrong_password_is_said_long_before_the_deadline(error: Exception) -> None:
    begin = Deadline.after(60)
    with pytest.raises(NotLetInError, match="does not let us in .*VIRTPROOF_WINDOWS_PASSWORD"):
        answers_at_last(Refusing(OSError("refused"), error), 60)
    assert not begin.passed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionRefusedError(111, "Connection refused"), r"over ssh: .*Connection refused$"),
        (EOFError(), "over ssh: EOFError$"),
        (CommandError("Windows: system: a\nb"), "over ssh: Windows: system: a b$"),
    ],
)
def test_a_channel_that_nobody_answers_is_one_line_at_the_deadline(
    error: Exception, line: str
) -> None:
    with pytest.raises(GuestError, match=f"^Windows does not answer {line}"):
        answers_at_last(Refusing(error), 0.0)  # the one look at the deadline is a look


def test_it_is_not_examined_as_a_linux() -> None:
    with pytest.raises(GuestError, match="not examined"):
        WindowsGuest.check_up(None)  # type: ignore[arg-type]  # it looks at nothing


def test_a_login_does_not_tell_its_password() -> None:
    assert "hunter2" not in repr(Login(Channel.SSH, "u", "hunter2"))

"""Each way of failing is named from real evidence, and each row of the table is what names it."""

from __future__ import annotations

import shutil
import subprocess
import time
import tomllib
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virtproof.diagnose.checkup import RULES
from virtproof.diagnose.diagnosis import FATAL_TAIL, diagnose, fatal
from virtproof.diagnose.evidence import NAMES, Evidence
from virtproof.diagnose.explanations import EXPLANATIONS
from virtproof.diagnose.interrogate import BEGIN, COMMANDS, END, Prompt, parse, prompt
from virtproof.diagnose.table import Row, Table, TableError, table
from virtproof.diagnose.table import parse as parse_table
from virtproof.diagnose.text import TEXT_LIMIT, lines, plain, quoted

DATA = Path(__file__).parent / "data" / "consoles"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in tomllib.loads((DATA / "cases.toml").read_text())["case"]
}
FILES = ("console", "qemu_log", "host_log")
NAMED = [name for name, case in CASES.items() if case["row"]]
ROWS = [row.id for row in table().rows]


def read(name: str) -> str:
    return (DATA / name).read_bytes().decode("utf-8", "replace")


def evidence(case: dict[str, Any]) -> Evidence:
    known = {field.name for field in dataclass_fields(Evidence)}
    given = {key: value for key, value in case.items() if key in known}
    given |= {key: read(case[key]) for key in FILES if key in case}
    if "qemu_log_text" in case:
        given["qemu_log"] = case["qemu_log_text"]
    if case.get("asked"):
        given["shell_answers"] = parse(given["console"])
    return Evidence(**given)


def reduced(keep: str, name: str) -> Table:
    """The table less the rows of ``name``, ``keep`` excepted."""
    return Table(tuple(r for r in table().rows if r.name != name or r.id == keep))


@pytest.mark.parametrize("case", CASES)
def test_case_gets_its_name(case: str) -> None:
    found = diagnose(evidence(CASES[case]))
    assert found.name == CASES[case]["expect"], found
    assert len(found.line) <= 300
    assert found.line.isprintable()


@pytest.mark.parametrize("case", NAMED)
def test_row_alone_names_its_case_and_nothing_does_without_it(case: str) -> None:
    row, expect = CASES[case]["row"], CASES[case]["expect"]
    assert diagnose(evidence(CASES[case]), reduced(row, expect)).name == expect
    assert diagnose(evidence(CASES[case]), reduced("", expect)).name != expect


@pytest.mark.parametrize("case", NAMED)
def test_row_of_the_case_is_the_one_that_fires(case: str) -> None:
    whole = diagnose(evidence(CASES[case]))
    rows = {row.id: row for row in table().rows}
    assert diagnose(evidence(CASES[case]), reduced(CASES[case]["row"], whole.name)) == whole
    assert rows[CASES[case]["row"]].name == whole.name


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_case_or_is_fatal(row: str) -> None:
    used = {case["row"] for case in CASES.values()}
    fatal_rows = {r.id for r in table().rows if r.fatal}
    assert row in used | fatal_rows


def test_every_name_has_a_case_and_an_explanation() -> None:
    by_check_up = {name for name, _ in RULES}  # these have theirs in test_checkup.py
    assert {case["expect"] for case in CASES.values()} | by_check_up == set(NAMES)
    assert set(EXPLANATIONS) == set(NAMES)


@pytest.mark.parametrize(
    ("case", "source", "line"),
    [
        ("ide-image-on-virtio", "shell:1", "module virtio_blk absent"),
        ("initramfs-without-virtio_pci", "shell:2", "module virtio_pci absent"),
        ("root-sda1-not-asked", "console", "ALERT! /dev/sda1 does not exist. Dropping to a shell!"),
        ("grub-vanished-disk", "console:6", "error: hd1 cannot get C/H/S values."),
        ("blank-disk-first", "console:5", "No bootable device."),
        ("hang-grub", "console:3", "GRUB loading"),
        ("not-qcow2", "qemu.log", "Image is not in qcow2 format"),
        ("bad-device-no-log", "libvirt", "can't find value 'nowhere'"),
        ("oom-killed", "host.log:3", "Killed process"),
        ("windows-7b", "guest_panicked", "hyper-v 0x0000007b INACCESSIBLE_BOOT_DEVICE"),
        ("windows-7b-on-screen", "screenshot", "windows 0x0000007b INACCESSIBLE_BOOT_DEVICE"),
        ("no-lease", "address", "none"),
        ("ssh-refused-agent", "ssh", "Connection refused"),
        ("nic-without-driver", "nic_facts", "0000:00:02.0 1af4:1000 -"),
    ],
)
def test_diagnosis_quotes_the_line_and_says_where(case: str, source: str, line: str) -> None:
    found = diagnose(evidence(CASES[case]))
    assert line in found.line
    assert found.source == source or found.source.startswith(source + ":")


def test_source_is_the_line_in_the_file_as_an_editor_counts_it() -> None:
    found = diagnose(evidence(CASES["ide-image-on-virtio-not-asked"]))
    number = int(found.source.removeprefix("console:"))
    assert "ALERT!" in read("ide-on-virtio.console").split("\n")[number - 1]


# --- order


def test_host_comes_before_guest() -> None:
    panic = read("panic-init.console")
    died = evidence(CASES["oom-killed"])
    both = Evidence(console=panic, host_log=died.host_log, domain_state="shutoff")
    assert diagnose(both).name == "qemu-oom-killed"
    assert diagnose(Evidence(console=panic)).name == "kernel-panic"


def test_oom_of_another_program_or_another_guest_is_not_ours() -> None:
    log = read("oom.host.log")
    running = Evidence(host_log=log, domain_state="running", console="x")
    assert diagnose(running).name == "boot-hang"
    assert diagnose(Evidence(host_log=log.replace("qemu-system-x86", "chromium"))).name == "unknown"


def test_missing_driver_comes_before_the_name_of_the_root() -> None:
    answers = "module virtio_blk absent\nmodule virtio_pci absent\n"
    answers += "pci 0000:00:02.0 0x1af4 0x1001 unbound\nblock sr0 sda\nroot /dev/sda1 absent"
    found = diagnose(Evidence(shell_answers=answers, root_target="vda"))
    assert found.name == "initramfs-lacks-virtio_blk"


def test_virtio_data_disk_does_not_blame_the_drivers_of_an_ide_root() -> None:
    answers = "module virtio_blk absent\nmodule virtio_pci absent\n"
    answers += "pci 0000:00:02.0 0x1af4 0x1001 unbound\nblock sda\nroot /dev/hda1 absent"
    xml = "<domain><devices><disk><target dev='hda' bus='ide'/></disk></devices></domain>"
    found = diagnose(Evidence(shell_answers=answers, root_target="hda", domain_xml=xml))
    assert found.name == "root-names-device"


def test_virtio_scsi_root_without_the_bus_is_virtio_pci() -> None:
    answers = "module virtio_blk absent\nmodule virtio_pci absent\nmodule virtio_scsi present\n"
    answers += "pci 0000:00:02.0 0x1af4 0x1004 unbound"
    xml = (
        "<domain><devices><disk><target dev='sda' bus='scsi'/></disk>"
        "<controller type='scsi' index='0' model='virtio-scsi'/></devices></domain>"
    )
    found = diagnose(Evidence(shell_answers=answers, root_target="sda", domain_xml=xml))
    assert found.name == "initramfs-lacks-virtio_pci"


def test_last_boot_of_a_console_counts() -> None:
    healthy, broken = read("healthy-virtio.console"), read("ide-on-virtio.console")
    known = Evidence(root_target="vda", domain_state="running")
    again = diagnose(replace(known, console=healthy + "\n" + broken))
    assert again.name == "initramfs-lacks-virtio_blk"
    mended = diagnose(replace(known, console=broken + "\n" + healthy, ssh_error="refused"))
    assert mended.name == "ssh-refused"


def test_panic_before_a_reboot_that_says_nothing_is_found() -> None:
    text = read("panic-init.console") + "\n" + read("grub-cut.console")
    assert diagnose(Evidence(console=text, domain_state="running")).name == "kernel-panic"


def test_only_the_last_run_of_the_qemu_log_counts() -> None:
    log = read("not-qcow2.qemu.log") + read("killed.qemu.log")
    died = Evidence(qemu_log=log, domain_state="shutoff", domain_reason="crashed")
    found = diagnose(died)
    assert (found.name, "reason=crashed" in found.line) == ("qemu-died", True)


def test_order_in_the_xml_decides_without_boot_elements() -> None:
    disks = "<disk device='cdrom'><target dev='sda' bus='sata'/></disk>"
    disks += "<disk device='disk'><target dev='vdb' bus='virtio'/></disk>"
    disks += "<disk device='disk'><target dev='vda' bus='virtio'/></disk>"
    xml = f"<domain><devices>{disks}</devices></domain>"
    text = read("wiped-mbr.console")
    assert diagnose(Evidence(console=text, domain_xml=xml, root_target="vda")).name == "boot-order"
    other = diagnose(Evidence(console=text, domain_xml=xml, root_target="vdb"))
    assert other.name == "bootloader-not-found"


def test_unknown_quotes_the_end_of_the_console() -> None:
    found = diagnose(Evidence(console="one\ntwo\n\nthree\n"))
    assert (found.name, found.line, found.source) == ("unknown", "one | two | three", "console:4")
    assert diagnose(Evidence(libvirt_error="odd")).line == "odd"
    paused = diagnose(Evidence(domain_state="paused", domain_reason="ioerror", console="x"))
    assert paused.line == "the guest is paused (ioerror): x"
    assert diagnose(Evidence()).name == "unknown"


def test_guest_that_answers_does_not_hang() -> None:
    assert diagnose(Evidence(domain_state="running", agent_answered=True)).name == "unknown"
    assert diagnose(Evidence(domain_state="running", ssh_error="")).name == "unknown"
    assert diagnose(Evidence(domain_state="running")).name == "boot-hang"


# --- fatal


@pytest.mark.parametrize("case", [c for c in CASES if "fatal" in CASES[c]])
def test_fatal_of_each_console(case: str) -> None:
    assert (fatal(read(CASES[case]["console"])) or "") == CASES[case]["fatal"]


@pytest.mark.parametrize("name", ["healthy-ide", "healthy-virtio"])
def test_fatal_is_silent_through_a_healthy_boot(name: str) -> None:
    text = read(f"{name}.console")
    early = [end for end in range(0, len(text), 257) if fatal(text[:end]) is not None]
    assert early == []
    assert fatal(text) is None


@pytest.mark.parametrize("row", [row for row in table().rows if row.fatal], ids=lambda r: r.id)
def test_fatal_row_is_what_sees_the_end(row: Row) -> None:
    shown = {
        "no-bootable": "No bootable device.\n",
        "grub-prompt": "error: no such partition.\ngrub rescue> ",
        "panic": "[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
        "initramfs-prompt": "ALERT!\n(initramfs) [   35.1] random: crng init done\n",
        "emergency-mode": "Cannot open access to console, the root account is locked.\n",
        "dracut-prompt": "Press Control-D\n\ndracut:/# ",
    }[row.id]
    assert fatal(shown) == row.name
    assert fatal(shown, table().without(row.id)) is None


def test_prompt_that_was_left_is_not_fatal() -> None:
    assert fatal("(initramfs) exit\n" + "Starting something\n" * 20) is None
    assert fatal("(initramfs) \n" + "[   40.1] late message\n" * 20) == "emergency-shell"


@pytest.mark.parametrize("filler", ["x", "line\n", "\x1b[", "\x1b[0;1m\n", "\r", "[ 1.0] Kernel "])
def test_fatal_reads_only_the_end_of_a_huge_console(filler: str) -> None:
    huge = filler * (50_000_000 // len(filler))
    start = time.monotonic()
    assert fatal("Kernel panic - not syncing: early\n" + huge) is None
    assert fatal(huge + "\nKernel panic - not syncing: late\n") == "kernel-panic"
    assert time.monotonic() - start < 2.0
    assert len(huge) > 100 * FATAL_TAIL


def test_cut_does_not_make_a_beginning_of_a_line() -> None:
    text = "x" * 100 + "Kernel panic - not syncing: no\nend\n"
    assert lines(text, limit=len(text) - 100).texts == ("end",)


# --- hostile guests


BAIT = ("a", " ", "/dev/", "ALERT! ", "error: ", "[vd", "Dependency failed for ", "-", "(initramfs")


@pytest.mark.parametrize(
    "bait", [*BAIT, "Timed out waiting for device ", "qemu-system-x: ", "disk "]
)
def test_patterns_do_not_backtrack_for_ever(bait: str) -> None:
    text = "\n".join([bait * (3000 // len(bait))] * 300)
    slow = []
    for row in table().rows:
        start = time.monotonic()
        for regex in (row.regex, *(r for _, r in (*row.requires, *row.unless))):
            regex.search(text)
        if time.monotonic() - start > 3.0:
            slow.append(row.id)
    assert slow == []


def test_huge_line_and_huge_text_are_bounded() -> None:
    start = time.monotonic()
    found = diagnose(Evidence(console="A" * 60_000_000, domain_state="running", libvirt_error="x"))
    assert len(found.line) <= 300
    many = diagnose(
        Evidence(console="noise\n" * (3 * TEXT_LIMIT // 6) + "Kernel panic - not syncing: X")
    )
    assert many.name == "kernel-panic"
    assert many.source == f"console:{3 * TEXT_LIMIT // 6 + 1}"
    assert time.monotonic() - start < 20.0


def test_quotes_hold_no_escapes_and_no_tricks() -> None:
    text = "\x1b[31mKernel panic - not syncing: \x1b]0;title\x07a\u202eb\x9b1m\x00<script>\n"
    found = diagnose(Evidence(console=text))
    assert found.name == "kernel-panic"
    assert found.line == "Kernel panic - not syncing: ab1m<script>"
    assert plain("\x1b[0;1;\u2026end") == "\u2026end"


def test_painted_lines_are_lines() -> None:
    text = "\x1b[01;01H\x1b[2Jerror: no such device: x.\x1b[05;01Hgrub rescue> "
    assert fatal(text) == "bootloader-not-found"
    assert diagnose(Evidence(console=text)).line == "error: no such device: x."


def test_long_errors_keep_their_beginning_and_their_end() -> None:
    text = quoted("qemu: " + "j" * 5000 + ": No such file")
    assert (len(text) <= 300, text[:5], text[-12:]) == (True, "qemu:", "No such file")


@pytest.mark.parametrize(
    "xml", ["<domain", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain/>", "\x00", "<a/>"]
)
def test_strange_domain_xml_is_no_fault(xml: str) -> None:
    text = read("wiped-mbr.console")
    found = diagnose(Evidence(console=text, domain_xml=xml, root_target="vda"))
    assert found.name == "bootloader-not-found"


def test_entities_in_the_domain_xml_are_not_followed() -> None:
    disk = "<domain><devices><disk><target dev='&a;'/></disk></devices></domain>"
    xml = f"<!DOCTYPE domain [<!ENTITY a 'vdb'>]>{disk}"
    text = read("wiped-mbr.console")
    assert diagnose(Evidence(console=text, domain_xml=xml, root_target="vda")).name != "boot-order"


@pytest.mark.parametrize("event", ["{", "[]", '"x"', '{"type": "hyper-v"}', '{"info": 3}', "null"])
def test_strange_panic_events_are_no_fault(event: str) -> None:
    assert diagnose(Evidence(guest_panicked=event)).name in (
        "kernel-panic",
        "windows-stop",
        "unknown",
    )


# --- the table itself


ROW = 'id="a"\nname="kernel-panic"\nfield="console"\nregex="x"\npriority=1\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[pattern]]\n" + ROW.replace("kernel-panic", "kernel-picnic"), "kernel-picnic"),
        ("[[pattern]]\n" + ROW.replace('"console"', '"konsole"'), "konsole"),
        ("[[pattern]]\n" + ROW.replace('regex="x"', 'regex="("'), "is no regex"),
        ("[[pattern]]\n" + ROW.replace('regex="x"', 'regex="(a+)+"'), "repeats a repetition"),
        ("[[pattern]]\n" + ROW + 'unles={console="x"}\n', "unknown key unles"),
        ("[[pattern]]\n" + ROW + 'unless={konsole="x"}\n', "konsole"),
        ("[[pattern]]\n" + ROW + 'fatal="sometimes"\n', "sometimes"),
        ("[[pattern]]\n" + ROW + 'fatal="seen"\nunless={console="x"}\n', "without conditions"),
        ("[[pattern]]\n" + ROW.replace("priority=1", ""), "priority"),
        ("[[pattern]]\n" + ROW + "[[pattern]]\n" + ROW, "two rows"),
        ("[[pattern]", "no TOML"),
        ("", "something else"),
    ],
)
def test_broken_table_is_one_clear_error(text: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        parse_table(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_row_is_accepted() -> None:
    assert [row.id for row in parse_table("[[pattern]]\n" + ROW).rows] == ["a"]


# --- interrogation


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        ("ide-on-virtio.console", Prompt.INITRAMFS),
        ("dracut-none.console", Prompt.DRACUT),
        ("dracut-plain-none.console", Prompt.DRACUT),
        ("fstab-sda2-sulogin.console", Prompt.SHELL),
        ("fstab-sda2.console", Prompt.LOCKED),
        ("emergency-locked.console", Prompt.LOCKED),
        ("healthy-ide.console", None),
        ("hang-unit.console", None),
        ("grub-rescue.console", None),
    ],
)
def test_prompt_of_each_console(console: str, expected: Prompt | None) -> None:
    assert prompt(read(console)) is expected


def test_enter_is_asked_for_first() -> None:
    text = read("dracut-none.console")
    before = text[: text.index("(or press Control-D")] + "(or press Control-D to continue): "
    found = prompt(before + "[   44.8] random: crng init done\r\n")
    assert found is Prompt.ENTER
    assert (found.wake, found.answers) == ("\n", True)
    assert (Prompt.LOCKED.answers, Prompt.PASSWORD.answers) == (False, False)


def test_echo_alone_is_no_answer() -> None:
    for command in COMMANDS:
        assert not any(marker in command for marker in (BEGIN, END))
        assert all(piece.startswith('"') for piece in command.split("vp-")[1:])
    echoed = "\n".join(f"(initramfs) {command}" for command in COMMANDS)
    assert parse(echoed) == ""
    assert parse("virtproof-answers-begin\nvp-module virtio_blk absent\n") == ""


def test_only_the_last_answers_count_and_the_begin_may_be_lost() -> None:
    first = "virtproof-answers-begin\nvp-root /dev/a absent\nvirtproof-answers-end\n"
    assert parse(first + "vp-root /dev/b absent\nvirtproof-answers-end\n") == "root /dev/b absent"
    assert parse(first + first.replace("/dev/a", "/dev/c")) == "root /dev/c absent"
    assert "virtproof-answers-begin" not in read("dracut-sda1.console").split("Press Enter")[1]
    assert "root /dev/sda1 absent" in parse(read("dracut-sda1.console"))


def test_kernel_messages_between_the_answers_are_left_out() -> None:
    text = "virtproof-answers-begin\r\n[ 3.1] noise\r\n"
    text += "vp-root /dev/sda1 absent\r\nvirtproof-answers-end"
    assert parse(text) == "root /dev/sda1 absent"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_commands_run_in_every_shell(shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    argv = [path, "sh"] if shell == "busybox" else [path]
    script = "\n".join(COMMANDS) + "\n"
    ran = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=30, check=True)
    answers = parse(ran.stdout)
    assert ran.stderr == ""
    for word in (
        "module virtio_blk ",
        "module virtio_pci ",
        "block ",
        "cmdline ",
        "root",
        "modules",
    ):
        assert f"\n{word}" in f"\n{answers}"
    assert all(len(command) < 255 for command in COMMANDS)

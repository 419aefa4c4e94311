"""What a running Windows says, as facts: scripts held against the grammar, answers of every shape."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell
from hypothesis import given
from hypothesis import strategies as st

from virtproof.errors import CommandError, GuestError, UsageError
from virtproof.windows.online import facts, scripts, shapes
from virtproof.windows.online.probes import SERVICES, Windows
from virtproof.windows.online.runner import BEGIN, END, ENVELOPE, arguments, name_of
from virtproof.windows.online.transcript import Recording, Replay

GRAMMAR = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
SCRIPTS = (
    *scripts.PROBES,
    scripts.services(SERVICES),
    scripts.install(r"viostor\w11\amd64\viostor.inf"),
    scripts.remove("oem3.inf"),
    scripts.program("bcdedit", "/set", "{current}", "safeboot", "minimal"),
    scripts.set_address("52-54-00-00-00-01", "192.0.2.7", 24, "192.0.2.1", ["192.0.2.2"]),
    scripts.set_address("52-54-00-00-00-01", "192.0.2.7", 24, "", []),
)


class Says:
    """A channel that answers alike whatever it is asked."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        del script, timeout_s
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def whole(script: str) -> str:
    return ENVELOPE % (script, BEGIN, END)


def broken(text: str) -> bool:
    return GRAMMAR.parse(text.encode()).root_node.has_error


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_is_powershell_and_short_enough(script: str) -> None:
    assert not broken(whole(script))
    assert arguments(script)[-2] == "-EncodedCommand"


@pytest.mark.parametrize("cut", ["}", ")", "'"])
def test_the_grammar_sees_what_is_missing(cut: str) -> None:
    at = scripts.DISKS.rindex(cut)
    assert broken(whole(scripts.DISKS[:at] + scripts.DISKS[at + 1 :]))


@pytest.mark.parametrize("script", scripts.PROBES, ids=name_of)
def test_a_script_says_the_fields_of_its_facts(script: str) -> None:
    kinds = {
        "system": facts.System,
        "drivers": facts.BoundDriver,
        "devices": facts.Device,
        "disks": facts.Disk,
        "nics": facts.Nic,
        "crashes": facts.Crash,
        "packages": facts.Package,
    }
    made = script[script.index("[pscustomobject]@{") :]
    assert [one for one in kinds[name_of(script)].__slots__ if f"{one}=" not in made] == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [("it's", "'it''s'"), ("\u2018a\u2019", "'\u2018\u2018a\u2019\u2019'"), ("$(x)", "'$(x)'")],
)
def test_a_text_is_powershells_own(value: str, shown: str) -> None:
    assert scripts.text(value) == shown


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\x1b"])
def test_a_text_with_control_characters_is_refused(value: str) -> None:
    with pytest.raises(UsageError):
        scripts.text(value)


def test_only_packages_of_the_store_are_removed() -> None:
    with pytest.raises(UsageError, match="no package of the driver store"):
        scripts.remove("disk.inf")


# --- shapes -----------------------------------------------------------------------------------

NIC = {
    "index": 4, "name": "Ethernet 2", "description": "Red Hat VirtIO Ethernet Adapter", "device": "PCI\\X",
    "mac": "52-54-00-00-00-01", "status": "Up", "service": "netkvm", "driver_version": "100.1",
    "addresses": [{"ip": "192.0.2.7", "prefix": 24, "origin": "Manual"},
                  {"ip": "fe80::1", "prefix": 64, "origin": "WellKnown"}],
    "gateways": ["192.0.2.1"], "dns": None,
}  # fmt: skip


def test_a_nic() -> None:
    (nic,) = Windows(Says([NIC])).nics()
    assert nic.static == ("192.0.2.7/24",)
    assert (nic.gateways, nic.dns) == (("192.0.2.1",), ())


def test_an_array_as_powershell_5_has_some() -> None:
    nic = {**NIC, "gateways": {"value": ["192.0.2.9"], "Count": 1}}
    assert Windows(Says([nic])).nics()[0].gateways == ("192.0.2.9",)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "nics is None, not a list"),
        ({"index": 4}, "nics is {'index': 4}, not a list"),
        (["x"], r"nics\[0\] is 'x', not an object"),
        ([NIC, {}], r"nics\[1\] has no 'index'"),
        ([{**NIC, "index": "4"}], r"nics\[0\].index is '4', not a number"),
        ([{**NIC, "index": True}], r"nics\[0\].index is True, not a number"),
        ([{**NIC, "name": 4}], r"nics\[0\].name is 4, not text"),
        ([{**NIC, "dns": ["a", 1]}], r"nics\[0\].dns\[1\] is 1, not text"),
        ([{**NIC, "addresses": [{}]}], r"nics\[0\].addresses\[0\] has no 'ip'"),
        ([NIC] * 10_001, "nics has 10001 entries"),
    ],
)
def test_what_has_another_shape_is_one_line_with_its_place(value: Any, line: str) -> None:
    with pytest.raises(CommandError, match=f"^Windows: {line}$"):
        Windows(Says(value)).nics()


@pytest.mark.parametrize("value", [[], [{}, {}]])
def test_one_answer_is_one(value: Any) -> None:
    with pytest.raises(CommandError, match="^Windows: system"):
        Windows(Says(value)).system()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*NIC]), inner),
    max_leaves=12,
)


@given(anything)
def test_any_json_is_facts_or_one_line(value: Any) -> None:
    for kind in (facts.Nic, facts.Service, facts.System):
        with contextlib.suppress(CommandError):
            shapes.rows(kind, value, "x")


@pytest.mark.parametrize(
    ("text", "code"),
    [("0x0000007b (0xfffff, 0x0)", 0x7B), ("126", 0x7E), ("0", 0), ("", 0), ("crash", 0), ("9" * 30, 0)],
)  # fmt: skip
def test_the_code_of_a_crash(text: str, code: int) -> None:
    assert facts.Crash(41, "", text).code == code


def test_start_options() -> None:
    system = {
        "caption": "", "version": "10.0", "build": 26100, "revision": 1, "architecture": "AMD64",
        "powershell": "5.1", "start_options": " TESTSIGNING  SAFEBOOT:MINIMAL", "booted": "",
    }  # fmt: skip
    told = Windows(Says([system])).system()
    assert (told.test_signing, told.safe_mode) == (True, True)
    told = Windows(Says([{**system, "start_options": "NOEXECUTE=OPTIN"}])).system()
    assert (told.test_signing, told.safe_mode) == (False, False)


@pytest.mark.parametrize(("status", "ok"), [(0, True), (3010, True), (259, True), (5, False)])
def test_pnputil(status: int, ok: bool) -> None:
    windows = Windows(Says([{"status": status, "output": "Failed\x1b", "file": "E:\\a.inf"}]))
    if ok:
        assert windows.install("a.inf").reboot == (status == 3010)
    else:
        with pytest.raises(CommandError, match=r"/add-driver a.inf: status 5: Failed\?$"):
            windows.install("a.inf")


# --- transcripts ------------------------------------------------------------------------------


def test_what_was_recorded_is_replayed(tmp_path: Path) -> None:
    """Answers and failures, in their order; the password is not among them."""
    path = tmp_path / "t.jsonl"
    nic = {**NIC, "name": "has hunter2 in it"}
    assert Windows(Recording(Says([nic]), path, "hunter2")).nics()[0].name == "has hunter2 in it"
    with pytest.raises(GuestError, match="gone"):
        Windows(Recording(Says(GuestError("gone")), path)).disks()
    assert "hunter2" not in path.read_text()
    replay = Replay(path)
    assert Windows(replay).nics()[0].name == "has *** in it"
    assert replay.left == 1
    with pytest.raises(CommandError, match="gone"):
        Windows(replay).disks()
    with pytest.raises(UsageError, match="ends before the script 'nics'"):
        Windows(replay).nics()


def test_a_script_out_of_order_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"script": "disks", "value": []}))
    with pytest.raises(UsageError, match="t.jsonl:1: an answer to 'disks', where 'nics' is asked"):
        Windows(Replay(path)).nics()


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"script": "a"}', "[" * 100_000, "\0"])
def test_what_is_no_transcript_is_one_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"script": "a", "value": 1}\n' + line)
    with pytest.raises(UsageError, match="t.jsonl:2: no line of a transcript"):
        Replay(tmp_path / "t.jsonl")


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "t.jsonl").write_bytes(data)
    with pytest.raises(UsageError, match="is no transcript"):
        Replay(tmp_path / "t.jsonl")


# --- transcripts that were sent: each answer still has its probe's shape ----------------------

SENT = sorted((Path(__file__).parent / "data" / "windows" / "transcripts").glob("*.jsonl"))
PROBES: dict[str, Callable[[Windows], object]] = {
    "system": Windows.system,
    "drivers": Windows.drivers,
    "devices": Windows.devices,
    "disks": Windows.disks,
    "nics": Windows.nics,
    "services": Windows.services,
    "crashes": Windows.crashes,
    "packages": Windows.packages,
}


def read_again(path: Path) -> int:
    """How many of a transcript's answers a probe has read; CommandError where one has another shape."""
    read = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        if "value" in told and told["script"] in PROBES:
            PROBES[told["script"]](Windows(Says(told["value"])))
            read += 1
    return read


@pytest.mark.parametrize("path", SENT, ids=lambda path: path.stem)
def test_a_transcript_is_read_again(path: Path) -> None:
    assert read_again(path) > 0


def test_a_transcript_of_another_shape_is_found(tmp_path: Path) -> None:
    (simulated,) = (path for path in SENT if path.stem == "simulated")
    text = simulated.read_text().replace('"build": 26100', '"build": "26100"')
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(CommandError, match=r"system\[0\].build is '26100', not a number"):
        read_again(tmp_path / "t.jsonl")

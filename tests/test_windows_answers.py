"""Answers for Windows Setup: libosinfo's, corrected, held against golden ones; each fault is seen."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

import phony_setup
from virtproof.errors import ImageError, UsageError
from virtproof.windows.platform import Arch
from virtproof.windows.unattended import answers, corrections
from virtproof.windows.unattended.answers import corrected, product_key, template
from virtproof.windows.unattended.corrections import CORRECTIONS, Wish, name
from virtproof.windows.unattended.faults import faults
from virtproof.windows.unattended.wim import Edition

GOLDEN = Path(__file__).parent / "data/windows/answers"
# libosinfo's own text, of which the golden files are made; another release may write another.
KNOWN = {
    "1c78211fb2666dac62f4a7bc727686a924dda107130aaed95f144f5c1ab16215",
    "aa73275837a79203f5b7f3e9e8f82ee6b37bef324a800c096a635cf87c07d0d2",
}
KEY = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
WISHES = {
    "w10": Wish(
        Edition(6, "Windows 10 Pro", "Professional", Arch.AMD64, (10, 0, 19045), False, "en-US", 1),
        "pass",
    ),
    "w11": Wish(
        Edition(2, "Windows 11 Pro", "Professional", Arch.AMD64, (10, 0, 26100), False, "fr-FR", 1),
        "pass",
        KEY,
    ),
    "2k22": Wish(
        Edition(4, "Server 2022", "ServerStandard", Arch.AMD64, (10, 0, 20348), True, "en-US", 1),
        "pass",
    ),
    "w10-x86": Wish(
        Edition(1, "Windows 10", "Core", Arch.X86, (10, 0, 19045), False, "de-DE", 1), "pass"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if lacking := phony_setup.missing_tools():
        pytest.skip(f"needs packages: {lacking}")


@pytest.fixture(scope="module")
def written() -> bytes:
    return template(WISHES["w10"])[0]


@pytest.mark.parametrize("kind", WISHES)
def test_golden(kind: str) -> None:
    wish = WISHES[kind]
    text, of = template(wish)
    found = corrected(text, of, wish)
    if hashlib.sha256(re.sub(rb"<Value>[^<]*</Value>", b"", text)).hexdigest() not in KNOWN:
        pytest.skip("this libosinfo writes other answers than the golden files are made of")
    assert found.xml.decode() == (GOLDEN / f"{kind}.xml").read_text(encoding="utf-8")


def test_what_is_wrong_is_said() -> None:
    text, of = template(WISHES["w11"])
    said = " / ".join(corrected(text, of, WISHES["w11"]).corrected)
    for words in (
        "no answers for Windows 11",
        "no floppy",
        "no edition",
        "empty product key",
        "TPM 2.0",
    ):
        assert words in said


def test_another_architecture_is_corrected(written: bytes) -> None:
    """osinfo-install-script takes x86 where nobody tells it, or where the name is none of its own."""
    wrong = written.replace(b"amd64", b"x86")
    found = corrected(wrong, "10", WISHES["w10"])
    assert "processorArchitecture is x86: Setup ignores it" in found.corrected
    assert b"x86" not in found.xml


def test_secrets_are_in_no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = answers.output

    def output(argv: list[str], *rest: object, **named: object) -> str:
        seen.extend(argv)
        return real(argv, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(answers, "output", output)
    made = answers.answers(WISHES["w11"])
    assert KEY in made.xml.decode()
    assert KEY not in " ".join([*seen, *made.corrected, repr(WISHES["w11"])])
    assert "pass" not in repr(WISHES["w11"])


@pytest.mark.parametrize("left_out", CORRECTIONS, ids=lambda one: one.__name__)
def test_each_correction_is_needed(
    written: bytes, monkeypatch: pytest.MonkeyPatch, left_out: Callable[..., str]
) -> None:
    """The control: without it the checks find a fault."""
    wish = WISHES["w11"]
    monkeypatch.setattr(answers, "CORRECTIONS", [c for c in CORRECTIONS if c is not left_out])
    text = written.replace(b"amd64", b"x86") if left_out is corrections.architecture else written
    with pytest.raises(ImageError, match="does not hold"):
        corrected(text, "10", wish)


def _root(kind: str = "w11") -> etree._Element:
    return etree.fromstring((GOLDEN / f"{kind}.xml").read_bytes())


def _without(tag: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        for one in list(root.iter(name(tag))):
            one.getparent().remove(one)

    return change


def _text(tag: str, text: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        next(root.iter(name(tag))).text = text

    return change


def _twice(tag: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        one = next(root.iter(name(tag)))
        one.getparent().append(etree.fromstring(etree.tostring(one)))

    return change


DEFECTS = {
    "AcceptEula is not there": _without("AcceptEula"),
    "AcceptEula is false": _text("AcceptEula", "false"),
    "AutoLogon/Enabled is false": _text("Enabled", "false"),
    "Label is empty": _text("Label", " "),
    "settings": lambda root: root[0].set("pass", "winPE"),
    "comes 2 times in windowsPE": _twice("component"),
    "the orders are": _text("Order", "7"),
    "a keyValue comes twice": _twice("PathAndCredentials"),
    "CommandLine has 2000": _text("CommandLine", "x" * 2000),
    "index is": lambda root: (
        next(root.iter(name("MetaData"))).find(name("Value")).__setattr__("text", "9")
    ),
    "the product key is not where it belongs": _without("ProductKey"),
    "does not switch the machine off": lambda root: list(root.iter(name("CommandLine")))[
        -1
    ].__setattr__("text", "exit"),
    "the root is": lambda root: root.__setattr__("tag", "unattend"),
}


def test_golden_has_no_fault() -> None:
    assert faults(_root(), WISHES["w11"]) == []


@pytest.mark.parametrize(("said", "change"), DEFECTS.items(), ids=list(DEFECTS))
def test_defect_is_found(said: str, change: Callable[[etree._Element], None]) -> None:
    root = _root()
    change(root)
    found = faults(root, WISHES["w11"])
    said = "is no component of pass winPE" if said == "settings" else said
    assert any(said in one for one in found), found
    assert KEY not in str(found)


# --- the key's file -------------------------------------------------------------------------------


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_key_is_read(tmp_path: Path) -> None:
    assert product_key(key_file(tmp_path, KEY.lower() + "\n")) == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_key_that_others_may_read(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match=r"others may read it \(mode 6.*chmod 600"):
        product_key(key_file(tmp_path, KEY, mode))


@pytest.mark.parametrize("text", ["", KEY[:-1], KEY + "\n" + KEY, "\xff" * 30, KEY * 100])
def test_what_is_no_key_is_never_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="has no product key") as caught:
        product_key(key_file(tmp_path, text))
    assert "AAAAA" not in str(caught.value) + caught.value.detail


def test_no_file_of_a_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        product_key(tmp_path / "none")
    assert os.listdir(tmp_path) == []

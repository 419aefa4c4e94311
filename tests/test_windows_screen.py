"""A stop of Windows, read off its screen: of texts as a reader of pictures sees them, and of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtproof.diagnose.diagnosis import diagnose
from virtproof.diagnose.evidence import Evidence
from virtproof.diagnose.windows import _STOPS, screen_stop
from virtproof.guest.screen import READER, text_of
from virtproof.host import find_program

SCREENS = Path(__file__).parent / "data" / "windows" / "screens"

BOOT_DEVICE = "windows 0x0000007b INACCESSIBLE_BOOT_DEVICE"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Stop code: INACCESSIBLE_BOOT_DEVICE", BOOT_DEVICE),
        ("Stop code: INACCESSIBLE BOOT DEVICE,", BOOT_DEVICE),
        ("Stillstandcode: INACCESS1BLE_BOOT_DEVICE", BOOT_DEVICE),
        ("xx STOP: @x0000007B (OxFFFFF880009A97ES , OxFFFFFFFFCO000034)", BOOT_DEVICE),
        ("<x STOP: ©xO000007B (0xFFFFF88", BOOT_DEVICE),
        (
            "Stop code: CRITICAL_PROCESS_DIED (0xEF)\nWhat failed: x.sys",
            "windows 0x000000ef CRITICAL_PROCESS_DIED",
        ),
        ("Status: 0xc0000225", "windows 0xc0000225 STATUS_NOT_FOUND"),
        ("DRIVER_IRQL_NOT_LESS_OR_EQUAL", "windows 0x000000d1 DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
        ("IRQL_NOT_LESS_OR_EQUAL", "windows 0x0000000a IRQL_NOT_LESS_OR_EQUAL"),
        ("", ""),
        ("Getting Windows ready\nDon't turn off your computer", ""),
        ("Stop code: 0x12345678", ""),
        ("visit https://www.windows.com/stopcode", ""),
        ("STOP: 0x0000007B1", ""),
        ("ABOUT THE BOOT DEVICE", ""),
    ],
)
def test_what_a_screens_text_tells(text: str, told: str) -> None:
    assert screen_stop(text) == told


@pytest.mark.parametrize("code", list(_STOPS), ids=hex)
def test_no_name_is_taken_for_another(code: int) -> None:
    """Nor is one with a letter misread."""
    name = _STOPS[code]
    told = f"windows {code:#010x} {name}"
    assert screen_stop(f"Stop code: {name}") == told
    for place in (1, len(name) // 2, len(name) - 2):
        seen = screen_stop(f"Stop code: {name[:place]}I{name[place + 1 :]}")
        assert seen in ("", told), place


@pytest.fixture
def reader() -> None:
    if find_program(READER) is None:
        pytest.skip(f"{READER} is not installed (tesseract-ocr)")


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        ("blue", BOOT_DEVICE),
        ("black", "windows 0x000000d1 DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
        ("text-mode", BOOT_DEVICE),
        ("busy", ""),
    ],
)
@pytest.mark.usefixtures("reader")
def test_a_picture_of_a_stop_is_read(picture: str, told: str) -> None:
    """The pictures are our own, of the sizes and colours that Windows 7, 10 and 11 have."""
    text = text_of((SCREENS / f"{picture}.png").read_bytes())
    assert len(text.split()) > 8
    assert screen_stop(text) == told
    found = diagnose(Evidence(screen=text, domain_state="running"))
    assert found.name == ("windows-stop" if told else "boot-hang")
    if told:
        assert (found.line, found.source) == (told, "screenshot")


@pytest.mark.parametrize("picture", [b"", b"no picture", b"P6\n99999 99999\n255\n"])
@pytest.mark.usefixtures("reader")
def test_what_is_no_picture_has_no_words(picture: bytes) -> None:
    assert text_of(picture).strip() == ""


def test_without_a_reader_there_are_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtproof.guest.screen.find_program", lambda _name: None)
    assert text_of((SCREENS / "blue.png").read_bytes()) == ""

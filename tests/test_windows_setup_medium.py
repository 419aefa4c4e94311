"""What an installation ISO of Windows has: its editions, and what is no such ISO."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phony_setup
from virtproof.errors import ImageError, UsageError
from virtproof.windows.platform import Arch
from virtproof.windows.unattended import medium, wim
from virtproof.windows.unattended.wim import Edition

LIST = """<WIM><IMAGE INDEX="{index}"><NAME>Windows 10 Pro</NAME><WINDOWS><ARCH>{arch}</ARCH>
<EDITIONID>Professional</EDITIONID><INSTALLATIONTYPE>{kind}</INSTALLATIONTYPE>
<VERSION><MAJOR>{major}</MAJOR><MINOR>0</MINOR><BUILD>{build}</BUILD></VERSION></WINDOWS></IMAGE></WIM>"""


@pytest.fixture(scope="module")
def wim_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if lacking := phony_setup.missing_tools():
        pytest.skip(f"needs packages: {lacking}")
    return phony_setup.wim(tmp_path_factory.mktemp("wim") / "install.wim", language="de-DE")


def listed(**fields: object) -> str:
    return LIST.format(
        **{"index": 1, "arch": 9, "kind": "Client", "major": 10, "build": 19045, **fields}
    )


def read(data: bytes) -> list[Edition]:
    return wim.editions(io.BytesIO(data), len(data))


def test_what_wimlib_wrote_is_read(wim_file: bytes) -> None:
    home, pro = read(wim_file)
    assert (home.index, home.name, home.edition) == (1, "Windows 10 Home", "Core")
    assert (pro.index, pro.name, pro.edition) == (2, "Windows 10 Pro", "Professional")
    assert (pro.arch, pro.version, pro.server, pro.language) == (
        Arch.AMD64,
        (10, 0, 19041),
        False,
        "de-DE",
    )


@pytest.mark.parametrize("udf", [False, True], ids=["iso9660", "udf"])
def test_iso_is_read(tmp_path: Path, wim_file: bytes, udf: bool) -> None:
    """Microsoft's have their files in UDF alone."""
    iso = phony_setup.iso(tmp_path / "win.iso", {"sources/install.wim": wim_file}, udf=udf)
    found = medium.read(iso)
    assert found.image == "sources/install.wim"
    assert found.label == "CCCOMA_X64FRE_EN-US_DV9"
    assert [one.name for one in found.editions] == ["Windows 10 Home", "Windows 10 Pro"]


@pytest.mark.parametrize(
    ("build", "kind", "name"),
    [
        (19045, "Client", "w10"),
        (22000, "Client", "w11"),
        (26200, "Client", "w11"),
        (14393, "Server", "2k16"),
        (17763, "Server Core", "2k19"),
        (20348, "Server", "2k22"),
        (25398, "Server Core", "2k22"),
        (26100, "Server", "2k25"),
    ],
)
def test_drivers_are_those_of_the_build(build: int, kind: str, name: str) -> None:
    (edition,) = read(phony_setup.listed(listed(build=build, kind=kind)))
    assert edition.windows is not None
    assert edition.windows.name == name


def test_windows_before_10_has_no_drivers() -> None:
    (edition,) = read(phony_setup.listed(listed(major=6, build=7601)))
    assert edition.windows is None


BAD = {
    "is no WIM": b"PK\3\4" + bytes(300),
    "is no WIM: it does not begin": phony_setup.header()[:100],
    "is part 2 of 3": phony_setup.listed(listed(), part=2, parts=3),
    "compressed list": phony_setup.listed(listed(), flags=6),
    "is cut off": phony_setup.listed(listed())[:-1],
    "beyond its end": phony_setup.header(at=1 << 60, size=10),
    "of 0 bytes": phony_setup.header(size=0),
    "no XML": phony_setup.listed("<WIM><IMAGE>"),
    "no edition of Windows": phony_setup.listed("<WIM><IMAGE INDEX='1'/></WIM>"),
    "no edition": phony_setup.listed(listed(arch=5)),
    "claims 300 editions": phony_setup.listed("<WIM>" + "<IMAGE/>" * 300 + "</WIM>"),
}


@pytest.mark.parametrize(("said", "data"), BAD.items(), ids=list(BAD))
def test_bad_wim_is_one_line(said: str, data: bytes) -> None:
    with pytest.raises(ImageError, match=re.escape(said)) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_list_of_16_mib_is_refused() -> None:
    size = wim.LIMIT_XML + 2
    head = phony_setup.header(size=size)
    with pytest.raises(ImageError, match=f"of {size} bytes"):
        wim.editions(io.BytesIO(head), 1 << 40)


def test_entities_are_not_expanded() -> None:
    doc = "<!DOCTYPE WIM [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"
    (edition,) = read(phony_setup.listed(doc + listed().replace("Windows 10 Pro", "&b;")))
    assert "aaaa" not in edition.name


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 210))
def test_hostile_header(noise: bytes, at: int) -> None:
    data = bytearray(phony_setup.listed(listed()))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(ImageError):
        assert read(bytes(data))


# --- the ISO --------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        medium.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "win.iso")


@pytest.mark.parametrize("data", [b"", b"hello" * 1000, bytes(1 << 20)], ids=["empty", "text", "0"])
def test_no_iso(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "win.iso"
    path.write_bytes(data)
    assert "is no ISO, or is damaged" in refused(path)


@pytest.mark.usefixtures("wim_file")
def test_iso_of_linux(tmp_path: Path) -> None:
    files = {"isolinux/vmlinuz": b"x", "install/filesystem.squashfs": b"y"}
    path = phony_setup.iso(tmp_path / "debian.iso", files, label="Debian 12.8")
    assert "'Debian 12.8' is no installation ISO of Windows" in refused(path)


def test_iso_without_install_wim(tmp_path: Path, wim_file: bytes) -> None:
    path = phony_setup.iso(tmp_path / "pe.iso", {"sources/boot.wim": wim_file})
    assert "has Windows' setup, but neither install.wim nor install.esd" in refused(path)


def test_iso_that_does_not_boot(tmp_path: Path, wim_file: bytes) -> None:
    path = phony_setup.iso(tmp_path / "win.iso", {"sources/install.wim": wim_file}, boot=None)
    assert "has no boot record" in refused(path)


@pytest.mark.usefixtures("wim_file")
def test_iso_with_a_bad_wim(tmp_path: Path) -> None:
    path = phony_setup.iso(tmp_path / "win.iso", {"sources/install.esd": bytes(5000)})
    assert "sources/install.esd is no WIM" in refused(path)


def test_truncated_iso(tmp_path: Path, wim_file: bytes) -> None:
    path = phony_setup.iso(tmp_path / "win.iso", {"sources/install.wim": wim_file})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert "is cut off" in refused(path)


def test_directories_in_a_loop(tmp_path: Path, wim_file: bytes) -> None:
    path = phony_setup.iso(tmp_path / "win.iso", {"sources/install.wim": wim_file})
    data = bytearray(path.read_bytes())
    looped = 0
    for descriptor, name in ((16, b"sources"), (17, "sources".encode("utf-16-be"))):
        (root,) = struct.unpack_from("<I", data, descriptor * 2048 + 158)
        for found in re.finditer(bytes([len(name)]) + name, data, re.IGNORECASE):
            record = found.start() - 32
            if data[record + 25] & 2:  # a directory's, and not of the path table
                struct.pack_into("<I", data, record + 2, root)
                struct.pack_into(">I", data, record + 6, root)
                looped += 1
    assert looped
    path.write_bytes(data)
    refused(path)


# --- which edition --------------------------------------------------------------------------------


def edition(index: int, name: str, word: str) -> Edition:
    return Edition(index, name, word, Arch.AMD64, (10, 0, 20348), True, "en-US", 1)


TWO = medium.SetupMedium(
    Path("win.iso"),
    "LABEL",
    "sources/install.wim",
    (edition(1, "Server Core", "ServerStandard"), edition(2, "Server", "ServerStandard")),
)


@pytest.mark.parametrize(("wanted", "index"), [("1", 1), ("server", 2), ("SERVER CORE", 1)])
def test_edition_by_number_or_name(wanted: str, index: int) -> None:
    assert medium.chosen(TWO, wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("Pro\x1b[31m", r"no edition is called 'Pro?[31m'"),
        ("ServerStandard", "more than one edition is called 'ServerStandard'"),
        ("", "has 2 editions of Windows"),
    ],
)
def test_unclear_edition_lists_those_there(wanted: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        medium.chosen(TWO, wanted)
    assert "of: 1 Server Core; 2 Server" in str(caught.value)


def test_the_only_edition_needs_no_name() -> None:
    one = medium.SetupMedium(Path("win.iso"), "L", "i", TWO.editions[:1])
    assert medium.chosen(one, "").index == 1

"""The INF reader: the dialect in all its forms, hostile texts, and Windows' own parser as an oracle."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtproof import host
from virtproof.windows import inf, models
from virtproof.windows.inf import LIMIT_BYTES, LIMIT_TEXT, InfError
from virtproof.windows.platform import Arch, Windows, windows_of

ORACLE = Path(__file__).parent / "data" / "windows" / "oracle.c"
COMPILER = "x86_64-w64-mingw32-gcc"
HEAD = '[Version]\nSignature="$Windows NT$"\n'
# Every form of a line that driver packages have, and those that trip readers.
DIALECT = (
    HEAD
    + r"""
Provider=%VENDOR%
[Test]
a = b
a = c , d
"quoted key" = "x "" y" , z
bare
bare , two
x = a\
   b\ ; comment
   c
x2 = a \
   b
y = "in quotes\
next"
z = 1,,3,
w =
e = a=b, c=d
f,g=h
p = "unterminated
q = %undefined% %vendor% %% 100%
r = abc "d e" f
s = "semi;colon" ; gone
t = "a" "b"
%VENDOR% = %NEST%
u = C:\dir\
v = next
HKR,,EventMessageFile,%REG%,"%%SystemRoot%%\System32\IoLogMsg.dll"
[Other]
k = v
[tEST]
merged = 1
[Strings]
VENDOR = "Acme, Inc."
NEST = "%VENDOR% deep"
REG = 0x00020000
"""
)


def values(text: str, section: str, key: str) -> tuple[str, ...] | None:
    return inf.read(text.encode()).value(section, key)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("k = v", ("v",)),
        ("K=v ; comment", ("v",)),
        ('k = "v ; no comment"', ("v ; no comment",)),
        ("k = a , b,  c d ", ("a", "b", "c d")),
        ('k = " a ", b', (" a ", "b")),
        ('k = "say ""hello"""', ('say "hello"',)),
        ("k = a=b", ("a=b",)),
        ("k = a, \\\n  b, \\ ; goes on\n  c", ("a", "b", "c")),
        ("k =", ("",)),
        ("k = 1,,3,", ("1", "", "3", "")),
        ('"k" = v', ("v",)),
        ("%Name% = v", ("v",)),
        ("k = %name%%%", ("k%",)),
        ("k = %nobody% %12%", ("%nobody% %12%",)),
    ],
)
def test_a_line_is_read_as_windows_does(line: str, wanted: tuple[str, ...]) -> None:
    assert values(f'{HEAD}[S]\n{line}\n[Strings]\nNAME="k"\n', "s", "k") == wanted


def test_lines_of_one_key_and_sections_of_one_name_all_count() -> None:
    """configparser would keep the last, and lose the transitional id."""
    text = HEAD + "[M]\n%d% = i, ID_1\n%d% = i, ID_2\n[x]\n[m]\n%d% = i, ID_3\n[Strings]\nd=D\n"
    lines = inf.read(text.encode()).lines("M")
    assert [(line.key, line.values[1]) for line in lines] == [
        ("D", "ID_1"),
        ("D", "ID_2"),
        ("D", "ID_3"),
    ]


def test_strings_of_a_language_go_before_the_others() -> None:
    text = HEAD + '[S]\nk=%a%,%b%\n[Strings]\na="one"\nb="two"\n[Strings.0407]\na="eins"\n'
    assert inf.read(text.encode()).value("S", "k") == ("one", "two")
    assert inf.read(text.encode(), locale="0407").value("S", "k") == ("eins", "two")


@pytest.mark.parametrize(
    ("data", "code_page"),
    [
        ("\ufeff{}".encode("utf-16-le"), "cp1252"),
        ("\ufeff{}".encode("utf-16-be"), "cp1252"),
        ("{}".encode("utf-16-le"), "cp1252"),  # without a mark
        ("\ufeff{}".encode(), "cp1252"),
        (b"{}", "cp1252"),
        (b"{}", "cp1251"),
    ],
)
def test_every_encoding_is_read(data: bytes, code_page: str) -> None:
    name = "Привет" if code_page == "cp1251" else "Würth"
    plain = data.replace(b"\0", b"")
    encoding = code_page
    if b"\0" in data:
        encoding = "utf-16-be" if data.startswith(b"\xfe\xff") else "utf-16-le"
    elif plain.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8"
    mark = data[: len(data) - len("{}".encode(encoding))]
    text = f'{HEAD}[S]\r\nk=%n%\r\n[Strings]\r\nn="{name}"\r\n'
    read = inf.read(mark + text.encode(encoding), code_page=code_page)
    assert read.value("s", "K") == (name,)


def test_what_follows_ctrl_z_is_not_read() -> None:
    assert inf.read(f"{HEAD}[S]\nk=v\n\x1a[S]\nk=w\n".encode()).lines("S")[0].values == ("v",)
    assert len(inf.read(f"{HEAD}[S]\nk=v\n\x1ak=w\n".encode()).lines("S")) == 1


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b"", 0, "there is no [section]"),
        (b"\n\nk=v\n", 3, "there is text before the first [section]"),
        (b"[Version\n", 1, "a [section] is not closed"),
        (b"[a]\n[]\n", 2, "a [section] has no name"),
        (b"[" + b"x" * 300 + b"]\n", 1, "a [section]'s name is longer than 255 characters"),
        (b"\xff\xfe[\0a\0]\0\n\0\x00\xd8k\0", 2, "what follows is not UTF-16-LE"),
        (b"\xff\xfe[\0a\0]\0\n\0k", 2, "what follows is not UTF-16-LE"),
        (b"\xef\xbb\xbf[a]\n\xff\n", 2, "what follows is not UTF-8"),
        (b"[a]\nk=" + b"x" * (LIMIT_TEXT + 1), 2, f"a line grows beyond {LIMIT_TEXT} characters"),
        (b"[a]\n" + b"xx\\\n" * LIMIT_TEXT, 2, f"a line grows beyond {LIMIT_TEXT} characters"),
        (b"[a]\n" * (LIMIT_BYTES // 4 + 1), 0, f"{LIMIT_BYTES + 4} bytes are more than any INF"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_what_is_no_inf_says_in_which_line(data: bytes, line: int, said: str) -> None:
    with pytest.raises(InfError) as failed:
        inf.read(data)
    assert failed.value.line == line
    assert said in str(failed.value)
    assert str(failed.value).startswith(f"line {line}: ") == bool(line)


def test_strings_that_name_each_other_end() -> None:
    """Substitution is not repeated, here as in Windows; and what grows is cut off."""
    text = f"{HEAD}[S]\nk=%a%\n[Strings]\na=%b%%b%\nb=%a%%a%\n"
    assert values(text, "S", "k") == ("%b%%b%",)
    bomb = f'{HEAD}[S]\n\n\nk={"%a%" * 20_000}\n[Strings]\na="{"x" * 60_000}"\n'
    with pytest.raises(InfError, match="line 6: a value grows beyond") as failed:
        values(bomb, "S", "k")
    assert failed.value.line == 6


def test_a_large_text_takes_bounded_time() -> None:
    """Seconds even where the machine is busy; a reader that is quadratic would take hours."""
    shapes = ('"', "%", "\\\n", "=", ",", "[a]\n", ";\n", '""', "a\n", "\0", '"a\\\n')
    for shape in shapes:
        text = (HEAD + "[S]\n" + shape * (LIMIT_BYTES // 16 // len(shape))).encode()
        begin = time.process_time()
        try:
            found = inf.read(text)
            found.lines("S")
            list(found.undefined())
        except InfError:
            pass
        assert time.process_time() - begin < 60


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-16")))
def test_no_bytes_raise_anything_but_the_readers_error(data: bytes) -> None:
    _read_all(data)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.sampled_from(
            (
                *("[", "]", '"', '""', "%", "=", ",", ";", "\\", "\n", "\\\n", " ", "a", "ß", "\0"),
                *("NTamd64.10.0", "Strings", "Version", "Manufacturer", "DriverVer=1/2/3,4.5.6.7"),
                "\x1a",
            )
        ),
        max_size=80,
    )
)
def test_no_text_of_the_dialects_parts_does_either(parts: list[str]) -> None:
    _read_all((HEAD + "".join(parts)).encode("utf-8"))


def _read_all(data: bytes) -> None:
    system = windows_of("w11")
    assert system is not None
    try:
        found = inf.read(data)
        for section in found.sections:
            found.lines(section)
        list(found.undefined())
        for ask in (models.signature, models.driver_version):
            ask(found)
        models.models(found, system, Arch.AMD64)
        models.source_files(found, Arch.AMD64)
        models.catalog_name(found, Arch.AMD64)
    except InfError:
        pass


# --- models -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decorations", "windows", "arch", "wanted"),
    [
        ("", "w11", Arch.AMD64, "M"),
        ("NTamd64", "w11", Arch.AMD64, "M.NTamd64"),
        ("NTx86", "w11", Arch.AMD64, None),
        ("NT", "w10", Arch.X86, "M.NT"),
        ("NTamd64,NTARM64", "w11", Arch.ARM64, "M.NTARM64"),
        ("NTamd64.6.1,NTamd64.10.0", "w10", Arch.AMD64, "M.NTamd64.10.0"),
        ("NTamd64.6.1,NTamd64.10.0", "w7", Arch.AMD64, "M.NTamd64.6.1"),
        ("NTamd64.10.0...14310,NTamd64.10.0...19041", "2k16", Arch.AMD64, "M.NTamd64.10.0...14310"),
        ("NTamd64.10.0...14310,NTamd64.10.0...19041", "2k22", Arch.AMD64, "M.NTamd64.10.0...19041"),
        ("NTamd64.10.0...22000", "w10", Arch.AMD64, None),
        ("NTamd64.10.0.3", "w11", Arch.AMD64, None),
        ("NTamd64.10.0.3", "2k25", Arch.AMD64, "M.NTamd64.10.0.3"),
        ("NTamd64.0x0A.0x00", "w11", Arch.AMD64, "M.NTamd64.0x0A.0x00"),
    ],
)
def test_the_models_section_that_fits_best_is_taken(
    decorations: str, windows: str, arch: Arch, wanted: str | None
) -> None:
    sections = [f"M.{one}" for one in decorations.split(",")] if decorations else ["M"]
    head = f"[Manufacturer]\nAcme = {','.join(['M', decorations]).rstrip(',')}\n"
    body = "".join(f"[{one}]\nThing = Inst, {one}\n" for one in sections)
    system = windows_of(windows)
    assert isinstance(system, Windows)
    found = models.models(inf.read((HEAD + head + body).encode()), system, arch)
    assert [model.ids for model in found] == ([(wanted.upper(),)] if wanted else [])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("05/20/2026", "[Version] has no whole DriverVer"),
        ("20/05/2026,1.2.3.4", "DriverVer has '20/05/2026' for its date"),
        ("05/20/2026,1.2.x", "DriverVer has '1.2.x' for its version"),
        ("05/20/2026,1.2.3.4.5", "DriverVer has '1.2.3.4.5' for its version"),
    ],
)
def test_a_driver_version_that_is_none_is_named(value: str, said: str) -> None:
    with pytest.raises(InfError) as failed:
        models.driver_version(inf.read(f"{HEAD}DriverVer={value}\n".encode()))
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("text", "version"), [("1.3.0", (1, 3, 0, 0)), ("1.1", (1, 1, 0, 0)), ("1.2.3.4", (1, 2, 3, 4))]
)
def test_a_driver_version_may_be_short(text: str, version: models.Version) -> None:
    """As those of qemupciserial and vioprot are."""
    found = inf.read(f"{HEAD}DriverVer = 12/29/2013 , {text}\n".encode())
    assert models.driver_version(found)[1] == version


# --- the oracle -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [name for name in ("wine", COMPILER) if host.find_program(name) is None]
    if missing:
        packages = "wine64 and gcc-mingw-w64-x86-64 in Debian"
        pytest.skip(
            f"SetupAPI is asked by wine, and {' and '.join(missing)} is missing ({packages})"
        )
    program = tmp_path_factory.mktemp("oracle") / "oracle.exe"
    command = [COMPILER, "-municode", "-Os", "-s", "-o", program, ORACLE, "-lsetupapi"]
    subprocess.run(command, check=True)
    return program


def asked(oracle: Path, section: str, texts: list[bytes]) -> list[list[str]]:
    """What SetupAPI says of each text: "file" or an error, then lines. wine's files lie beside it."""
    files = []
    for number, text in enumerate(texts):
        file = oracle.with_name(f"{number}.inf")
        file.write_bytes(text)
        files.append(f"Z:{file}".replace("/", "\\"))
    environment = {**os.environ, "WINEPREFIX": str(oracle.with_name("wine")), "WINEDEBUG": "-all"}
    done = subprocess.run(
        ["wine", oracle, section, *files],
        env=environment,
        capture_output=True,
        timeout=600,
        check=False,
    )
    found: list[list[str]] = []
    for line in filter(None, done.stdout.decode().replace("\r\n", "\n").split("\n")):
        if line.startswith("\x1f"):
            found[-1].append(line)
        else:
            found.append([line])
    assert len(found) == len(texts), done.stderr
    return found


def ours(section: str, text: bytes) -> list[str]:
    lines = inf.read(text).lines(section)
    return ["file", *("\x1f" + "\x1f".join([line.key or "", *line.values]) for line in lines)]


@pytest.mark.parametrize("section", ["Version", "Test", "Other"])
def test_setupapi_sees_the_same(oracle: Path, section: str) -> None:
    texts = [DIALECT.encode("utf-8"), DIALECT.encode("utf-16")]
    wanted = [ours(section, text) for text in texts]
    assert len(wanted[0]) > {"Test": 20}.get(section, 1)
    assert asked(oracle, section, texts) == wanted


def test_setupapi_refuses_the_same(oracle: Path) -> None:
    texts = [f"k=v\n{HEAD}".encode(), f"{HEAD}[a\n".encode()]
    lines = []
    for text in texts:
        with pytest.raises(InfError) as failed:
            inf.read(text)
        lines.append(failed.value.line)
    said = asked(oracle, "a", texts)
    assert [text[0].partition(" in line ")[2] for text in said] == [str(line) for line in lines]


PARTS = (
    *(
        '"',
        '""',
        "%a%",
        "%",
        "%%",
        "=",
        ",",
        ";",
        "\\",
        "\\\n",
        "\n",
        " ",
        "  ",
        "\t",
        "x",
        "y z",
        "k",
    ),
    *('"q"', "%A%", '"; c"', " ; c\n", "a=b", "1,2", "\n[S]\n", "\n[s] ; c\n", "\n[T]\n"),
)


def test_setupapi_sees_the_same_in_texts_that_nobody_would_write(oracle: Path) -> None:
    """Where wine keeps the space between a backslash and a comma, nobody knows what Windows does."""
    dice = random.Random(7)
    texts = []
    while len(texts) < 200:
        body = "".join(dice.choice(PARTS) for _ in range(dice.randint(1, 14)))
        if not re.search(r"\\[ \t]+,", body):
            texts.append(f'{HEAD}[Strings]\na="v,w"\n[S]\n{body}\n'.encode())
    for text, said in zip(texts, asked(oracle, "S", texts), strict=True):
        try:
            assert said == ours("S", text), text
        except InfError:
            assert said[0].startswith("error "), text

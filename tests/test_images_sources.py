"""The machine's own apt sources: what of them an image is made from, and what never."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virtproof.errors import ImageError, UsageError
from virtproof.images import catalog, sources
from virtproof.images.entry import BuildEntry
from virtproof.images.sources import Source

DATA = Path(__file__).parent / "data" / "images"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sources.ENVIRONMENT, raising=False)


def machine(folder: Path, name: str, distribution: str = "debian") -> tuple[Path, Path]:
    """An /etc/apt with that one file of the data, and an os-release."""
    apt = folder / "apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "sources.list.d" / name).write_text((DATA / name).read_text())
    (apt / "sources.list.d" / f"{name}.disabled").write_text("deb http://never.example x main\n")
    release = folder / "os-release"
    release.write_text(f'NAME="x"\nID={distribution}\n')
    return apt, release


def entry(suite: str = "bookworm", name: str = "debian-12") -> BuildEntry:
    return replace(catalog.builds()[name], suite=suite)


def test_deb822_gives_each_suite_of_each_archive() -> None:
    found = sources.parse(DATA / "machine.sources")
    assert [(s.uri, s.suite) for s in found] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/debian", "bookworm-backports"),
        ("http://security.example/debian-security", "bookworm-security"),
    ]
    assert found[0].options == {"signed-by": KEYRING}
    assert found[0].components == ("main", "contrib")
    assert "bm90IGEga2V5" in found[3].options["signed-by"]


def test_one_line_sources_keep_their_options() -> None:
    found = sources.parse(DATA / "machine.list")
    assert len(found) == 4
    assert found[0].options == {"architectures": "amd64", "signed-by": KEYRING}
    assert found[0].components == ("main", "non-free")


def test_the_suite_comes_with_updates_and_security_but_no_backports(tmp_path: Path) -> None:
    chosen = sources.for_entry(entry(), *machine(tmp_path, "machine.sources"))
    assert [s.suite for s in chosen] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert {s.components for s in chosen} == {("main",)}


def test_unstable_has_no_updates_and_no_security(tmp_path: Path) -> None:
    sid = catalog.builds()["debian-sid"]
    chosen = sources.for_entry(sid, *machine(tmp_path, "machine.sources"))
    assert [(s.uri, s.suite) for s in chosen] == [("http://mirror.example/debian", "sid")]


@pytest.mark.parametrize(
    ("name", "suite"),
    [("debian-12-backports", "bookworm-backports"), ("debian-13-backports-rt", "trixie-backports")],
)
@pytest.mark.parametrize("machine_s", ["machine.sources", "machine.list"])
def test_a_kernel_of_backports_comes_from_the_release_s_mirror(
    tmp_path: Path, name: str, suite: str, machine_s: str
) -> None:
    """Where the machine itself uses no backports, too; the root filesystem has none of them."""
    found = catalog.builds()[name]
    place = machine(tmp_path, machine_s)
    root, kernel = sources.for_entry(found, *place), sources.for_kernel(found, *place)
    assert suite not in [s.suite for s in root]
    assert kernel[:-1] == root
    assert (kernel[-1].uri, kernel[-1].suite) == ("http://mirror.example/debian", suite)
    assert kernel[-1].options == root[0].options
    plain = catalog.builds()[name.partition("-backports")[0]]
    assert sources.for_kernel(plain, *place) == root


def test_a_named_file_must_have_the_backports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.list"
    own.write_text("deb http://own.example/debian bookworm main\n")
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    found = catalog.builds()["debian-12-backports"]
    with pytest.raises(ImageError, match="serves no bookworm-backports"):
        sources.for_kernel(found)
    with own.open("a") as file:
        file.write("deb http://own.example/debian bookworm-backports main\n")
    assert [s.suite for s in sources.for_entry(found)] == ["bookworm"]
    assert [s.suite for s in sources.for_kernel(found)] == ["bookworm", "bookworm-backports"]


def test_an_embedded_key_survives_the_way_to_mmdebstrap(tmp_path: Path) -> None:
    chosen = sources.for_entry(entry(), *machine(tmp_path, "machine.sources"))
    written = tmp_path / "again.sources"
    written.write_text("\n".join(source.stanza() for source in chosen))
    assert sources.parse(written) == chosen


def test_another_suite_of_the_distribution_comes_from_the_same_mirror(tmp_path: Path) -> None:
    apt, release = machine(tmp_path, "machine.list")
    chosen = sources.for_entry(entry("bookworm"), apt, release)
    assert [(s.uri, s.suite) for s in chosen] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
    ]
    assert not sources.serves(entry("bookworm"), apt, release)
    assert sources.serves(entry("trixie"), apt, release)


def test_third_parties_are_no_source_of_an_image(tmp_path: Path) -> None:
    """One calls its suite "stable", as Debian does; its key is not Debian's."""
    chosen = sources.for_entry(entry("stable"), *machine(tmp_path, "machine.list"))
    assert {s.uri for s in chosen} == {"http://mirror.example/debian"}


@pytest.mark.parametrize("name", ["machine.sources", "machine.list"])
def test_another_distribution_is_said_with_the_way_out(tmp_path: Path, name: str) -> None:
    ubuntu = catalog.builds()["ubuntu-24.04"]
    with pytest.raises(ImageError) as caught:
        sources.for_entry(ubuntu, *machine(tmp_path, name))
    assert "serve no ubuntu noble" in str(caught.value)
    assert "--apt-sources FILE or VIRTPROOF_APT_SOURCES" in str(caught.value)


def test_unsigned_sources_count_only_on_a_machine_of_that_distribution(tmp_path: Path) -> None:
    apt, release = machine(tmp_path, "machine.list", distribution="other")
    (apt / "sources.list.d" / "machine.list").write_text(
        "deb http://mirror.example/d bookworm main"
    )
    with pytest.raises(ImageError, match="serve no debian bookworm"):
        sources.for_entry(entry(), apt, release)
    release.write_text("ID=debian\n")
    assert sources.for_entry(entry(), apt, release) == [
        Source("http://mirror.example/d", "bookworm", ("main",))
    ]


def test_a_named_file_is_taken_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.list"
    own.write_text("deb http://own.example/debian bookworm main extra\n")
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    assert sources.for_entry(entry()) == [
        Source("http://own.example/debian", "bookworm", ("main", "extra"))
    ]


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("own.txt", "", UsageError, "not a .list or .sources file"),
        (
            "own.list",
            "deb http://own.example/debian trixie main\n",
            ImageError,
            "serves no bookworm",
        ),
        ("own.list", None, ImageError, "No such file"),
    ],
)
def test_a_bad_named_file_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str | None,
    error: type[Exception],
    said: str,
) -> None:
    own = tmp_path / name
    if text is not None:
        own.write_text(text)
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    with pytest.raises(error, match=said):
        sources.for_entry(entry())

"""The compatibility matrix of runs, its page, and what it says of a switch; on made-up records."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "data" / "report"))

import sample_matrix as sample

from virtproof.cli import main
from virtproof.measure.results import TestRecord
from virtproof.measure.store import ResultsWriter, write_run
from virtproof.report.compat.grid import Grid, Source, State, System, changes, grid
from virtproof.report.compat.kernels import flavour, release_order
from virtproof.report.compat.page import compat_page, sentence
from virtproof.report.compat.switching import answer, tool_of

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\"'><img src=x onerror=y>"
SID = System("debian-sid", "7.3~rc2-amd64")


def of(records: list[TestRecord], start: str = sample.RUN.start) -> Source:
    return Source(replace(sample.run(records), start=start), records, Path("out"))


@pytest.fixture(scope="module")
def full() -> Grid:
    return grid([of(sample.results())])


# --- order and flavour of kernels -----------------------------------------------------------


def test_releases_are_in_the_order_of_their_versions() -> None:
    ordered = [
        *("5.10.0-9-amd64", "5.10.0-35-amd64", "6.1.0-55-amd64", "6.12.38+deb13-amd64"),
        *("7.0~rc3-amd64", "7.0-amd64", "7.0.1-amd64", "7.3-amd64"),
    ]
    assert sorted({*ordered}, key=release_order) == ordered


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.1.0-55-amd64", ""),
        ("6.1.0-55-cloud-amd64", "cloud"),
        ("6.12.38+deb13-rt-amd64", "rt"),
        ("7.3~rc2-amd64", ""),
        ("6.12.9+bpo-cloud-amd64", "cloud"),
        ("6.8.0-45-generic", "generic"),
        ("6.11.4-301.fc41.x86_64", ""),
        ("5.14.0-503.11.1.el9_5.x86_64", ""),
        ("6.11.5-arch1-1", ""),
        ("6.6.63-0-virt", "virt"),
    ],
)
def test_the_flavour_is_what_is_no_version(release: str, expected: str) -> None:
    assert flavour(release) == expected


# --- the grid -------------------------------------------------------------------------------


def test_cells_say_what_the_tests_said(full: Grid) -> None:
    assert len(full.systems) == 14
    assert full.state(SID, "root/ide-to-virtio") is State.BROKEN
    cloud = System("debian-12-cloud", "6.1.0-55-cloud-amd64")
    assert full.state(cloud, "nic/rtl8139") is State.UNSUPPORTED
    assert (
        full.cells[cloud, "nic/rtl8139"].reason == "8139cp is neither a module of it nor built in"
    )
    assert full.state(SID, "boot/q35-uefi/virtio+virtio") is State.NOT_RUN
    assert full.state(SID, "no/such") is State.NOT_RUN
    assert full.state(System("debian-12", "6.1.0-55-amd64"), "disk/virtio") is State.WORKS
    assert [system.kernel.partition(".")[0] for system in full.systems][::5] == ["5", "6", "7"]


def test_the_switch_of_the_root_disk_is_what_one_sees_first(full: Grid) -> None:
    kinds = [check.partition("/")[0] for check in full.checks]
    assert list(dict.fromkeys(kinds)) == ["root", "boot", "disk", "nic"]


def test_a_cell_without_a_guest_joins_its_images_only_kernel() -> None:
    records = sample.results()
    assert any(one.guest is None and one.compat for one in records)
    assert not [system for system in grid([of(records)]).systems if "unknown" in system.kernel]
    alone = [one for one in records if one.guest is None][:1]
    assert grid([of(alone)]).systems[0].kernel == "kernel unknown"


@pytest.mark.parametrize("guest", [True, False])
def test_a_kernel_under_test_is_no_part_of_the_images_name(guest: bool) -> None:
    one = sample.record("debian-12@6.9.1-amd64", "6.9.1-amd64", "nic/virtio")
    if not guest:
        one = replace(one, guest=None)
    assert grid([of([one])]).systems == (System("debian-12", "6.9.1-amd64"),)


@pytest.mark.parametrize("order", [1, -1])
def test_that_one_of_two_tests_failed_makes_a_cell_broken(order: int) -> None:
    good = sample.record("debian-12", "6.1.0-55-amd64", "nic/virtio")
    bad = sample.broken(replace(good, test="other"), "it broke")
    full = grid([of([good, bad][::order])])
    assert full.state(full.systems[0], "nic/virtio") is State.BROKEN
    assert len(full.cells[full.systems[0], "nic/virtio"].records) == 2


def test_the_later_of_two_runs_counts_unless_it_saw_nothing() -> None:
    good = sample.record("debian-12", "6.1.0-55-amd64", "nic/virtio")
    bad = sample.broken(good, "it broke")
    assert good.compat
    unseen = replace(good, outcome="error", compat=replace(good.compat, verdict="not-run"))
    early, late = "2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"
    for pair, expected in (
        (((bad, early), (good, late)), State.WORKS),
        (((bad, late), (good, early)), State.BROKEN),
        (((bad, early), (unseen, late)), State.BROKEN),
    ):
        full = grid([of([record], start) for record, start in pair])
        assert full.state(full.systems[0], "nic/virtio") is expected


# --- between kernels ------------------------------------------------------------------------


def test_what_changed_between_kernels_of_a_flavour(full: Grid) -> None:
    found = {(one.before.image, one.after.image): one for one in changes(full)}
    older = found["debian-11", "debian-12"]
    assert older.gained == {"virtio_blk": ("F_RING_RESET",), "virtio_net": ("F_RING_RESET",)}
    assert older.lost == {}
    assert older.checks == ()
    newer = found["debian-14", "debian-sid"].checks
    assert ("disk/usb", State.WORKS, State.BROKEN) in newer
    assert all("q35" not in check for check, _, _ in newer)  # not run on sid: nothing is known
    assert ("debian-12-cloud", "debian-13") not in found


def test_what_was_tried_on_one_kernel_only_is_not_lost_on_the_other() -> None:
    old, new = "6.1.0-55-amd64", "6.2.0-1-amd64"
    records = [sample.record("debian-12", old, f"disk/virtio{more}") for more in ("", "/packed")]
    full = grid([of([*records, sample.record("debian-13", new, "disk/virtio")])])
    assert "F_RING_PACKED" in full.features(full.systems[0])["virtio_blk"]
    assert changes(full) == []


# --- the answer -----------------------------------------------------------------------------


def test_the_answer_is_yes_with_the_command(full: Grid) -> None:
    found = answer(full, System("debian-12-cloud", "6.1.0-55-cloud-amd64"))
    assert (found.state, found.word, found.tool) == (State.WORKS, "Yes", "initramfs-tools")
    assert "update-initramfs -u -k 6.1.0-55-cloud-amd64" in found.commands
    assert "ide to virtio, ide to virtio-scsi, sata to virtio" in found.why


def test_the_answer_names_the_diagnosis(full: Grid) -> None:
    found = answer(full, SID)
    assert (found.state, found.word) == (State.BROKEN, "Partly")
    assert "ide to virtio fails: initramfs-lacks-virtio_blk (ALERT!" in found.why
    only = [one for one in sample.results() if "[debian-sid-root/ide-to-virtio]" in one.test]
    alone = grid([of(only)])
    assert (answer(alone, SID).word, answer(alone, SID).commands) == ("No", "")


def test_the_answer_is_no_where_the_kernel_has_no_driver_and_not_tried_where_none_was() -> None:
    one = sample.record("debian-12", "6.1.0-55-amd64", "root/ide-to-virtio")
    assert one.compat
    lacking = replace(one.compat, verdict="not-supported", reason="virtio_blk is not there")
    full = grid([of([replace(one, compat=lacking)])])
    assert answer(full, full.systems[0]).why == "this kernel cannot: virtio_blk is not there"
    other = grid([of([sample.record("debian-12", "6.1.0-55-amd64", "disk/virtio")])])
    found = answer(other, other.systems[0])
    assert (found.state, found.word) == (State.NOT_RUN, "Not tried")
    assert "no root disk was switched" in found.why


@pytest.mark.parametrize(
    ("image", "distribution", "tool"),
    [
        ("debian-12", "", "initramfs-tools"),
        ("debian-12-dracut", "Debian GNU/Linux 12", "dracut"),
        ("mine.qcow2", "Fedora Linux 41", "dracut"),
        ("mine.qcow2", "Arch Linux", "mkinitcpio"),
        ("alpine-3.20", "", "mkinitfs"),
        ("mine.qcow2", "", ""),
    ],
)
def test_the_tool_is_that_of_the_image(image: str, distribution: str, tool: str) -> None:
    assert tool_of(image, distribution) == tool


# --- the page -------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Every element with its attributes, and the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def attributes(self, name: str) -> list[str]:
        return [str(known[name]) for _, known in self.found if name in known]


def test_the_page_stands_alone_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    source = sample.write(tmp_path / "out")
    path = tmp_path / "elsewhere" / "matrix.html"
    path.parent.mkdir()
    tags = Tags(compat_page(grid([source]), path))
    assert not [tag for tag, _ in tags.found if tag in ("script", "link", "iframe", "img")]
    links = tags.attributes("href")
    ids = set(tags.attributes("id"))
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= ids
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == 6  # of three broken cells, above and below
    assert all((path.parent / link).resolve().is_dir() for link in files)


def test_every_cell_has_its_word_and_not_its_colour_alone(full: Grid) -> None:
    page = compat_page(full, Path("out/compat.html"))
    table = page[page.index('id="matrix"') : page.index('id="changes"')]
    tags = Tags(table[: table.index("</section>")])
    cells = [known for tag, known in tags.found if tag == "td"]
    words = [text for text in tags.texts if text in {state.value for state in State}]
    assert len(cells) == len(words) == 14 * len(sample.CHECKS)
    assert {words.count(state.value) for state in State} == {290, 40, 3}
    signs = {str(known["class"]).split()[0]: known for known in cells}
    assert set(signs) == {"passed", "failed", "unsupported", "not-run"}


def test_hostile_text_stays_text() -> None:
    one = sample.record(HOSTILE, HOSTILE, "root/ide-to-virtio")
    assert one.compat
    one = sample.broken(one, HOSTILE, {"name": "unknown", "line": HOSTILE, "source": HOSTILE})
    fine = sample.record(HOSTILE, HOSTILE, "root/sata-to-virtio")
    assert fine.compat
    fine = replace(fine, compat=replace(fine.compat, features={HOSTILE: [HOSTILE]}))
    page = compat_page(grid([of([one, fine])]), Path("out/compat.html"))
    tags = Tags(page)
    assert not [tag for tag, _ in tags.found if tag in ("script", "img")]
    assert not tags.attributes("onerror")
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_headline_counts_what_is_broken(full: Grid) -> None:
    assert sentence(full) == "3 checks are broken, on 2 of 14 systems"
    good = grid([of([sample.record("debian-12", "6.1.0-55-amd64", "disk/ide")])])
    assert sentence(good) == "Nothing is broken on one system"


# --- the command ----------------------------------------------------------------------------


def test_the_command_writes_the_page_of_several_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("old", "new"):
        sample.write(tmp_path / kind, kind)
    page = tmp_path / "page.html"
    runs = [str(tmp_path / kind) for kind in ("old", "new")]
    assert main(["report", "compat", *runs, "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    assert "6.1.0-54-amd64" in text
    assert "6.1.0-55-amd64" in text
    assert main(["report", "compat", runs[0]]) == 0
    assert (tmp_path / "old" / "compat.html").exists()


def test_what_has_no_cells_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = replace(sample.record("debian-12", "6.1", "disk/ide"), compat=None)
    with ResultsWriter(tmp_path / "out" / "results.jsonl") as writer:
        writer.write(plain)
    write_run(tmp_path / "out" / "run.json", sample.run([plain]))
    for place, said in (("out", "filled a cell of the matrix"), ("none", "cannot read")):
        assert main(["report", "compat", str(tmp_path / place)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out" / "compat.html").exists()

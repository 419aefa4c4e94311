"""The reports: an honest matrix and verdict, a page no guest can break, a terminal that is read."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import quoteattr

import pytest
from lxml import etree

from virtproof.claims import CLAIMS
from virtproof.measure.results import GuestRecord, Outcome, TestRecord
from virtproof.measure.store import read_results, read_run
from virtproof.report.conclusion import Standing, Verdict, conclude
from virtproof.report.evidence import excerpt, switch_title
from virtproof.report.html import render
from virtproof.report.junit import guest_id, properties
from virtproof.report.markup import el, href, stylesheet
from virtproof.report.picture import as_png
from virtproof.report.terminal import summary_lines
from virtproof.report.verdicts import Cell, Column, Matrix, State, matrix


def _load_sample() -> ModuleType:
    path = Path(__file__).parent / "data" / "report" / "sample.py"
    spec = importlib.util.spec_from_file_location("virtproof_report_sample", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sample = _load_sample()
GUEST: GuestRecord = sample.DEBIAN
DASH = "\N{EN DASH}"


def record_of(
    outcome: Outcome, *claims: str, guest: GuestRecord | None = GUEST, reason: str = "because"
) -> TestRecord:
    given = None if outcome == "passed" else reason
    return TestRecord("suites/t.py::t", outcome, given, list(claims), guest, None, [], 1.0, None)


def cell(full: Matrix, claim: str, label: str) -> Cell:
    column = [column.label for column in full.columns].index(label)
    return next(row for row in full.rows if row.claim.id == claim).cells[column]


def whole(full: Matrix, claim: str) -> Cell:
    return next(row for row in full.rows if row.claim.id == claim).whole


# The matrix


def test_a_claim_that_no_test_touched_is_not_run() -> None:
    full = matrix([record_of("passed", "NET-1")])
    assert [row.claim.id for row in full.rows] == [claim.id for claim in CLAIMS]
    assert cell(full, "NET-1", "debian-12").state is State.PASSED
    assert whole(full, "NET-2").state is State.NOT_RUN
    assert whole(full, "WIN-1").reason == "needs a Windows image (--windows-image)"
    assert all(row.whole.state is State.NOT_RUN for row in matrix([]).rows)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["passed", "passed"], State.PASSED),
        (["passed", "failed", "skipped"], State.FAILED),
        (["passed", "error"], State.ERROR),
        (["error", "failed"], State.FAILED),
        (["passed", "skipped"], State.PASSED),
        (["skipped", "skipped"], State.SKIPPED),
    ],
)
def test_a_cell_is_as_bad_as_its_worst_test(outcomes: list[Outcome], state: State) -> None:
    full = matrix([record_of(outcome, "NET-1") for outcome in outcomes])
    found = cell(full, "NET-1", "debian-12")
    assert found.state is state
    assert sum(found.counts.values()) == len(outcomes)
    assert found.reason == ("" if state is State.PASSED else "because")


def test_columns_are_the_host_then_each_image_and_kernel() -> None:
    newer = replace(GUEST, kernel="6.12")
    records = [
        record_of("passed", "NET-1"),
        record_of("passed", "NET-2", guest=replace(GUEST, machine="q35", disk="sata")),
        record_of("passed", "DISK-7", guest=newer),
        record_of("passed", "HOST-1", guest=None),
    ]
    columns = matrix(records).columns
    assert [(c.label, c.kernel) for c in columns] == [
        ("host", ""),
        ("debian-12", sample.KERNEL),
        ("debian-12", "6.12"),
    ]
    assert columns[1].details == ("pc, q35", "tcg")


def test_a_guest_that_never_told_its_kernel_joins_its_image() -> None:
    silent = replace(GUEST, kernel=None)
    joined = matrix([record_of("passed", "NET-1"), record_of("failed", "DISK-3", guest=silent)])
    assert len(joined.columns) == 1
    assert cell(joined, "DISK-3", "debian-12").state is State.FAILED
    newer = record_of("passed", "DISK-7", guest=replace(GUEST, kernel="6.12"))
    apart = matrix(
        [record_of("passed", "NET-1"), newer, record_of("failed", "NET-2", guest=silent)]
    )
    assert [column.kernel for column in apart.columns] == [sample.KERNEL, "6.12", ""]


def test_a_claim_skipped_before_it_had_a_guest_is_no_matter_of_the_host() -> None:
    records = [record_of("passed", "NET-1"), record_of("skipped", "WIN-1", guest=None)]
    full = matrix(records)
    assert [column.label for column in full.columns] == ["debian-12"]
    assert whole(full, "WIN-1").state is State.SKIPPED
    failed = matrix([*records, record_of("failed", "NET-2", guest=None)])
    assert cell(failed, "NET-2", "host").state is State.FAILED


def test_a_claim_of_another_version_keeps_its_row() -> None:
    full = matrix([record_of("failed", "GPU-1")])
    assert full.rows[-1].claim.id == "GPU-1"
    assert full.rows[-1].whole.state is State.FAILED


# The verdict


def verdict(records: list[TestRecord], exit_status: int = 0) -> Verdict:
    return conclude(replace(sample.run("good", records), exit_status=exit_status), records)


def test_all_claims_held_conforms_and_says_what_was_left_out() -> None:
    found = verdict(sample.results("good"))
    assert found.standing is Standing.CONFORMS
    assert found.sentence == "Virtio works on debian-12: all 18 claims that had to hold did"
    assert any("WIN-1 and WIN-2" in note and "Windows image" in note for note in found.notes)
    assert not any("PERF" in note for note in found.notes)
    assert "Not run: HOST-3, which needs --nested." in found.notes


def test_a_nested_run_counts_and_asks_nothing_more_of_its_first_level() -> None:
    level_1 = replace(sample.ON_VIRTIO, image="debian-12-nested")
    found = verdict([*sample.results("good"), record_of("passed", "HOST-3", guest=level_1)])
    assert found.standing is Standing.CONFORMS
    assert found.sentence == "Virtio works on debian-12: all 19 claims that had to hold did"
    broken = verdict([*sample.results("good"), record_of("failed", "HOST-3", guest=level_1)])
    assert broken.standing is Standing.FAILS


@pytest.mark.parametrize("claim", [claim.id for claim in CLAIMS if not claim.needs])
def test_without_a_claim_the_run_is_incomplete(claim: str) -> None:
    without = [r for r in sample.results("good") if claim not in r.claims]
    found = verdict(without)
    assert found.standing is Standing.INCOMPLETE
    assert claim in found.notes[0].removeprefix("Not proved on debian-12: ").rstrip(".").split(", ")


@pytest.mark.parametrize("outcome", ["skipped", "error", "failed"])
def test_one_claim_not_held_is_never_a_pass(outcome: Outcome) -> None:
    records = [
        record_of(outcome, *r.claims) if "NET-1" in r.claims else r for r in sample.results("good")
    ]
    expected = Standing.FAILS if outcome == "failed" else Standing.INCOMPLETE
    assert verdict(records).standing is expected
    assert "NET-1" in " ".join([verdict(records).sentence, *verdict(records).notes])


def test_an_error_in_one_column_spoils_the_pass_of_another() -> None:
    spoilt = record_of("error", "NET-1", guest=sample.ON_VIRTIO)
    found = verdict([*sample.results("good"), spoilt])
    assert found.standing is Standing.INCOMPLETE
    assert found.notes[0] == "Not proved on debian-12: NET-1."


def test_a_failure_outside_the_claims_is_no_pass_either() -> None:
    found = verdict([*sample.results("good"), record_of("failed")])
    assert found.standing is Standing.FAILS
    assert "1 test outside the claims failed." in found.notes


def test_an_interrupted_run_does_not_conform_whatever_passed() -> None:
    found = verdict(sample.results("good"), exit_status=2)
    assert found.standing is Standing.INCOMPLETE
    assert "interrupted" in found.notes[0]


def test_a_second_system_does_not_borrow_the_first_ones_proof() -> None:
    alpine = record_of("passed", "NET-1", guest=sample.ALPINE)
    found = verdict([*sample.results("good"), alpine])
    assert found.standing is Standing.INCOMPLETE
    assert any("Not proved on alpine-3.20: GUEST-1" in note for note in found.notes)


def test_a_throughput_claim_that_failed_counts() -> None:
    found = verdict([*sample.results("good"), record_of("failed", "PERF-1")])
    assert found.standing is Standing.FAILS
    assert "PERF-1" in found.sentence


def test_no_test_is_no_proof() -> None:
    assert verdict([]).standing is Standing.INCOMPLETE
    assert "no test ran" in verdict([]).sentence


# The page


class Page(HTMLParser):
    """What a browser would make of the page: its elements, texts and the order they nest in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [found for _, attrs in self.elements if (found := attrs.get(attribute))]


@pytest.fixture(params=["good", "bad", "hostile"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def page_of(out: Path, kind: str) -> Page:
    return Page(sample.write(out, kind).read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path, kind: str) -> None:
    page = page_of(tmp_path, kind)
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    assert not tags & {"use", "image", "foreignobject", "animate", "set", "style-sheet"}  # of SVG
    handlers = [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert handlers == []
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert "url(" not in page.text
    assert "@import" not in page.text
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_each_link_leads_to_something(tmp_path: Path, kind: str) -> None:
    page = page_of(tmp_path, kind)
    links = page.values("href")
    assert any(link.endswith("/console.log") for link in links)
    for link in links:
        if link.startswith("#"):
            assert link[1:] in page.values("id")
        else:
            assert (tmp_path / link).is_file()


def test_nothing_a_guest_said_becomes_markup_or_a_control(tmp_path: Path) -> None:
    path = sample.write(tmp_path, "hostile")
    text = path.read_text(encoding="utf-8")
    assert text.count("&lt;script&gt;alert(1)") > 20
    assert "<script" not in text
    assert "<img src=x" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)


def test_what_a_qa_lead_looks_for_is_on_the_page(tmp_path: Path) -> None:
    text = page_of(tmp_path, "bad").text
    for wanted in (
        "Virtio does not conform on debian-12",
        "does not conform",
        "TCG because /dev/kvm opens",
        "7.2.15",
        "9.0.0",
        "6.1.0-28-amd64",
        "6.6.63-0-virt",
        "2 \N{MULTIPLICATION SIGN} AMD EPYC 7763 64-Core Processor",
        "initramfs-lacks-virtio_blk",
        "ALERT!  UUID=c7889421",
        "console.log:3187",
        "sda scsi → vda virtio",
        "+      <target dev='vda' bus='virtio'/>",
        "Dropping to a shell!",
        "needs a Windows image: give one by --windows-image",
        "Slowest tests",
    ):
        assert wanted in text, wanted


def test_the_matrix_is_told_by_words_and_scopes_too(tmp_path: Path) -> None:
    page = page_of(tmp_path, "bad")
    scopes = [attrs.get("scope") for tag, attrs in page.elements if tag == "th"]
    assert scopes.count("row") >= len(CLAIMS)
    assert None not in scopes
    rows = page.text.split("WIN-1Windows")[1]
    assert "skipped" in rows.split("WIN-2")[0]
    assert "not run" in page.text.split("PERF-1A virtio NIC")[1]


def test_a_long_console_is_shortened_and_says_by_how_much(tmp_path: Path) -> None:
    path = sample.write(tmp_path, "bad")
    page = Page(path.read_text(encoding="utf-8"))
    log = (
        tmp_path / "evidence" / "test_root.py-test_prepared_root_moves-scsi-virtio" / "console.log"
    )
    lines = log.read_bytes().count(b"\n")
    found = re.search(r"⋯ ([\d\u202f]+) lines \(\d+ KiB\) left out ⋯", page.text)
    assert found
    assert 3000 < int(found[1].replace("\u202f", "")) < lines
    assert path.stat().st_size < 1_000_000


def test_an_excerpt_counts_every_line(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    part = excerpt(path, head=100, tail=1000)
    shown = part.head.count("\n") + part.tail.count("\n")
    assert part.head.startswith("line 0\n")
    assert part.tail.endswith("line 99999\n")
    assert int(re.sub(r"\D", "", part.left_out.split("lines")[0])) == 100_000 - shown
    path.write_bytes(b"x" * 5000)
    assert len(excerpt(path, head=100, tail=1000).tail) == 1000


def test_the_same_results_read_back_give_the_same_page(tmp_path: Path, kind: str) -> None:
    text = sample.write(tmp_path, kind).read_text(encoding="utf-8")
    results, run = read_results(tmp_path / "results.jsonl"), read_run(tmp_path / "run.json")
    assert render(run, results, tmp_path) == text


def failed_with(evidence: str) -> TestRecord:
    return replace(record_of("failed", "NET-1"), evidence=evidence)


@pytest.mark.parametrize(
    "evidence", ["/etc", "../secret", "evidence/../../secret", "link", "loop", ".", "a\0b"]
)
def test_evidence_outside_of_out_is_refused(tmp_path: Path, evidence: str) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    out.mkdir()
    secret.mkdir()
    (secret / "console.log").write_text("the secret")
    (out / "console.log").write_text("the secret")
    (out / "link").symlink_to(secret)
    (out / "loop").symlink_to(out / "loop")
    records = [failed_with(evidence)]
    text = render(sample.run("bad", records), records, out)
    assert "the secret" not in text
    assert "evidence refused" in text
    assert "console.log" not in text


def test_files_of_the_evidence_that_lead_outside_are_left_out(tmp_path: Path) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    (out / "evidence" / "t").mkdir(parents=True)
    secret.mkdir()
    (secret / "shadow").write_text("the secret")
    here = out / "evidence" / "t"
    (here / "console.log").symlink_to(secret / "shadow")
    (here / "guest-2").symlink_to(secret)
    os.mkfifo(here / "qemu.log")  # reading it would never end
    (here / "<b>'\".txt").write_text("odd name")
    records = [failed_with("evidence/t")]
    page = Page(render(sample.run("bad", records), records, out))
    assert "secret" not in page.text
    assert "guest-2" not in page.text
    assert [link for link in page.values("href") if not link.startswith("#")] == [
        "evidence/t/%3Cb%3E%27%22.txt"
    ]


def test_missing_evidence_is_said(tmp_path: Path) -> None:
    records = [failed_with("evidence/gone")]
    assert "evidence is missing" in render(sample.run("bad", records), records, tmp_path)


def test_a_second_guest_of_a_test_is_shown(tmp_path: Path) -> None:
    other = tmp_path / "evidence" / "t" / "guest-2"
    other.mkdir(parents=True)
    (other / "console.log").write_text("its last words")
    records = [failed_with("evidence/t")]
    page = Page(render(sample.run("bad", records), records, tmp_path))
    assert "its last words" in page.text
    assert "evidence/t/guest-2/console.log" in page.values("href")


def test_a_diff_is_made_where_only_the_xml_is_there(tmp_path: Path) -> None:
    place = tmp_path / "evidence" / "t"
    place.mkdir(parents=True)
    (place / "domain-before.xml").write_text("<a>\n<target dev='hda' bus='ide'/>\n</a>\n")
    (place / "domain-after.xml").write_text("<a>\n<target dev='vda' bus='virtio'/>\n</a>\n")
    records = [replace(record_of("passed", "DISK-3"), evidence="evidence/t")]
    page = Page(render(sample.run("bad", records), records, tmp_path))
    assert "Switches (1)" in page.text
    assert "hda ide → vda virtio" in page.text
    assert "-<target dev='hda' bus='ide'/>" in page.text


def test_a_control_that_passed_shows_the_failure_it_wanted(tmp_path: Path) -> None:
    page = page_of(tmp_path, "good")
    assert "Failures" not in page.text
    assert "Controls (2)" in page.text
    assert "nic-driver-missing" in page.text


@pytest.mark.parametrize("versions", [{}, {"qemu": ""}])
def test_a_run_that_knows_little_still_has_its_reports(
    tmp_path: Path, versions: dict[str, str]
) -> None:
    run = replace(sample.run("bad", []), versions=versions, timings={})
    assert "QEMUunknown" in Page(render(run, [], tmp_path)).text
    assert any("QEMU unknown" in line for line in summary_lines(run, [], 80))


def test_elements_escape_and_refuse() -> None:
    assert el("p", "<b>&\x1b[1m", class_='a"b') == '<p class="a&quot;b">&lt;b&gt;&amp;</p>'
    assert el("p", el("b", "x"), None, hidden=True, id=None) == "<p hidden><b>x</b></p>"
    assert href("javascript:alert(1)", "a b#?") == "javascript%3Aalert%281%29/a%20b%23%3F"
    with pytest.raises(ValueError, match="no attribute"):
        el("p", **{"x y": "z"})
    with pytest.raises(ValueError, match="must not end"):
        stylesheet("</style>")


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_reading_needs(theme: int) -> None:
    path = Path(sys.modules["virtproof.report.html"].__file__ or "").with_name("style.css")
    blocks = re.findall(r":root \{(.*?)\}", path.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[theme]))
    for text in ("ink", "soft", "link", "good", "bad", "warn"):
        for paper in ("paper", "raised", "bad-paper"):
            low, high = sorted((luminance(colours[text]), luminance(colours[paper])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, paper)


def test_a_ppm_becomes_a_png_of_the_same_pixels() -> None:
    pixels = bytes(range(18))
    png = as_png(b"P6\n# libvirt\n3 2\n255\n" + pixels)
    assert png is not None
    assert struct.unpack(">II", png[16:24]) == (3, 2)
    length = struct.unpack(">I", png[33:37])[0]
    assert zlib.decompress(png[41 : 41 + length]) == b"\0" + pixels[:9] + b"\0" + pixels[9:]
    for broken in (b"", b"P6 3 2 255 short", b"P6 99999 99999 255 x", b"P6 0 0 255 ", b"<svg/>"):
        assert as_png(broken) is None


# The terminal


def lines_of(kind: str, width: int = 100, **options: object) -> list[str]:
    records = sample.results(kind)
    return summary_lines(sample.run(kind, records), records, width, **options)  # type: ignore[arg-type]


def test_the_terminal_says_verdict_environment_and_each_group() -> None:
    lines = lines_of("good")
    assert lines[0].startswith("✓ Virtio works on debian-12")
    assert any("tcg · QEMU 7.2.15 · libvirt 9.0.0" in line for line in lines)
    assert "  ✓ DISK   7/7" in lines
    assert f"  {DASH} WIN    0/2  not run: WIN-1, WIN-2 (needs --windows-image)" in lines
    assert "  ✓ PERF   2/2" in lines
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("asked", [["--nested"], ["--nested=yes"], []])
def test_a_claim_that_was_skipped_unasked_was_not_run(asked: list[str]) -> None:
    """Notes and groups agree; with its option given, a skip is one and no want of the option."""
    records = [*sample.results("good"), record_of("skipped", "HOST-3")]
    run = sample.run("good", records)
    run = replace(run, command_line=[*run.command_line, *asked])
    text = "\n".join(summary_lines(run, records, 100))
    assert ("skipped: HOST-3" in text) == bool(asked)
    assert ("Not run: HOST-3, which needs --nested." in text) == (not asked)
    assert ("not run: HOST-3 (needs --nested)" in text) == (not asked)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_environment_is_never_cut(width: int) -> None:
    """Words stay whole, so that the guest's kernel can be read on any terminal."""
    records = sample.results("good")
    run = sample.run("good", records)
    run = replace(run, host={**run.host, "kernel": "6.12.90+deb13.1-cloud-amd64"})
    lines = summary_lines(run, records, width)
    text = " ".join(line.strip() for line in lines)
    assert "host 6.12.90+deb13.1-cloud-amd64 · guest 6.1.0-28-amd64" in text
    assert max(map(len, lines)) <= width
    assert any(line.endswith("guest 6.1.0-28-amd64") for line in lines)


def test_each_failure_is_one_line_with_diagnosis_and_whole_path() -> None:
    failed = [line for line in lines_of("bad", out=Path("out")) if line.startswith("✗ test_")]
    assert len(failed) == 4
    assert "  initramfs-lacks-virtio_blk  ALERT! UUID=c788" in failed[0]
    assert failed[0].endswith("out/evidence/test_root.py-test_prepared_root_moves-scsi-virtio")
    assert "AssertionError: 9000 bytes sent" in failed[3]
    assert any(
        line.startswith("  ✗ DISK   4/7  failed: DISK-3, DISK-5") for line in lines_of("bad")
    )


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_cuts_all_but_the_paths(width: int) -> None:
    lines = lines_of("bad", width)
    assert all(len(line) <= width for line in lines if not line.startswith("✗ test_"))
    assert any(line.endswith("scsi-virtio") for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "ISO-8859-1", "ANSI_X3.4-1968"])
def test_an_old_terminal_gets_plain_ascii(encoding: str) -> None:
    assert all(line.isascii() for line in lines_of("bad", encoding=encoding))
    assert not all(line.isascii() for line in lines_of("bad", encoding="UTF-8"))


def test_a_guest_cannot_write_to_the_terminal() -> None:
    lines = lines_of("hostile")
    assert not any(re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", line) for line in lines)


# JUnit


def test_junit_properties_name_claims_guest_and_diagnosis() -> None:
    record = next(r for r in sample.results("bad") if r.outcome == "failed")
    assert properties(record) == [
        ("claim", "DISK-3"),
        ("claim", "DISK-5"),
        ("guest", "debian-12/pc/ide+rtl8139/tcg"),
        ("guest.distribution", "Debian GNU/Linux 12 (bookworm)"),
        ("guest.kernel", "6.1.0-28-amd64"),
        ("diagnosis", "initramfs-lacks-virtio_blk"),
        (
            "diagnosis.line",
            "ALERT! UUID=c7889421-93d6-4263-81ab-fe476635bb6b does not exist. Dropping to a shell!",
        ),
        ("diagnosis.source", "console.log:3187"),
        ("evidence", "evidence/test_root.py-test_prepared_root_moves-scsi-virtio"),
    ]
    assert properties(record_of("passed", guest=None)) == []


def test_a_guest_has_the_id_of_its_spec() -> None:
    assert guest_id(replace(GUEST, firmware="uefi", machine="q35", nic=None)) == (
        "debian-12/q35-uefi/ide+no-nic/tcg"
    )


def test_junit_properties_are_fit_for_xml() -> None:
    for record in sample.results("hostile"):
        for name, value in properties(record):
            etree.fromstring(f"<property name={quoteattr(name)} value={quoteattr(value)}/>")


def test_the_sample_has_what_the_report_must_bear(tmp_path: Path) -> None:
    sample.write(tmp_path, "bad")
    counts = json.loads((tmp_path / "run.json").read_text())["counts"]
    assert sum(counts.values()) >= 45
    assert all(counts.values())


@pytest.mark.parametrize(
    "image", ["debian-12", "debian-12-virtio", "debian-12-dracut", "debian-12-nested"]
)
def test_variants_of_an_image_are_one_system(image: str) -> None:
    assert Column(image, "6.1").system == "debian-12"
    assert Column("debian-13", "6.12").system != "debian-12"


def test_a_chain_of_switches_is_one_title() -> None:
    def switched(old: str, new: str) -> list[str]:
        lines = [f"-  <target dev='{old[:3]}' bus='{old[4:]}'/>"]
        return ["--- before", "+++ after", *lines, f"+  <target dev='{new[:3]}' bus='{new[4:]}'/>"]

    chain = switched("hda ide", "vda virtio") + switched("vda virtio", "hda ide")
    assert switch_title(chain) == "hda ide → vda virtio → hda ide"
    apart = switched("hda ide", "vda virtio") + switched("sda scsi", "hda ide")
    assert switch_title(apart) == "hda ide → vda virtio, sda scsi → hda ide"
    assert switch_title([]) == ""

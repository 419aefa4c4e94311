"""The closing verdict on the terminal, as lines. Pure: no colours, no pytest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TypedDict

from virtproof.measure.measurement import Comparison
from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.series import comparisons_of, is_claim
from virtproof.measure.store import clean_line
from virtproof.report.compared import compared_lines, of_sides, sides_in_words
from virtproof.report.conclusion import Standing, conclude, left_out, option_of
from virtproof.report.units import ratio
from virtproof.report.verdicts import Matrix, Row, State, matrix

_DASH = "\N{EN DASH}"
_STAY = "\N{NO-BREAK SPACE}"
_SIGNS = {State.PASSED: "✓", State.FAILED: "✗", State.ERROR: "✗"}
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", _DASH: "-", "·": "|", "…": "~", "\N{NARROW NO-BREAK SPACE}": " "}
)


class _Indents(TypedDict):
    initial_indent: str
    subsequent_indent: str


def summary_lines(
    run: RunRecord,
    results: Sequence[TestRecord],
    width: int,
    *,
    out: Path | None = None,
    encoding: str = "utf-8",
) -> list[str]:
    """The verdict, its environment, a line a claim group and a line a failed test.

    ``width`` in columns; a failed test's line may be longer, as its path must stay whole.
    ``out`` is put before the evidence directories. Encodings other than UTF-8 get plain ASCII.
    """
    full = matrix(results)
    verdict = conclude(run, results, full)
    sign = "✓" if verdict.standing is Standing.CONFORMS else "✗"
    if verdict.standing is Standing.INCOMPLETE:
        sign = _DASH
    lines = [
        _cut(line, width) for line in compared_lines(of_sides(results), sides_in_words(results))
    ]
    if lines:  # that was the question, and no claim
        lines += ["", *_environment(run, full, width)]
    else:
        lines = [_cut(f"{sign} {verdict.sentence}", width)]
        lines += [_cut(f"  {note}", width) for note in verdict.notes]
        lines += ["", *_environment(run, full, width), ""]
        lines += [_cut(f"  {line}", width) for line in _groups(run, full)]
        lines += _ratios(results, width)
    failures = [r for r in results if r.outcome in ("failed", "error")]
    if failures:
        lines.append("")
        lines += [_failure(record, width, out) for record in failures]
    if encoding.lower().replace("-", "").replace("_", "") not in ("utf8", "utf8sig"):
        lines = [_ascii(line) for line in lines]
    return lines


def _environment(run: RunRecord, full: Matrix, width: int) -> list[str]:
    """Whole, on as many lines as it takes: which kernel it was is what one looks for here."""
    kernels = ", ".join(dict.fromkeys(c.kernel for c in full.columns if c.kernel)) or "unknown"
    parts = (
        f"{run.accelerator['name']}",
        f"QEMU {run.versions.get('qemu') or 'unknown'}",
        f"libvirt {run.versions.get('libvirt') or 'unknown'}",
        f"host {run.host['kernel']}",
    )
    kept = [clean_line(part).replace(" ", _STAY) for part in parts]  # no break in a part
    text = f"{_STAY}· ".join([*kept, f"guest{_STAY}{clean_line(kernels)}"])
    indents = _indents(width)
    lines = wrap(text, max(8, width), **indents, break_on_hyphens=False)
    return [line.replace(_STAY, " ") for line in lines]


def _indents(width: int) -> _Indents:
    """Of a paragraph; a narrow terminal has little room for them."""
    begin, more = ("  ", "    ") if width >= 40 else ("", " ")
    return {"initial_indent": begin, "subsequent_indent": more}


def _groups(run: RunRecord, full: Matrix) -> list[str]:
    lines = []
    for name, members in groupby(full.rows, key=lambda row: row.claim.group):
        rows = list(members)
        held = sum(row.whole.state is State.PASSED for row in rows)
        sign = _SIGNS[State.FAILED] if _any_bad(rows) else "✓" if held == len(rows) else _DASH
        lines.append(
            f"{sign} {name:<6}{f'{held}/{len(rows)}':>4}  {_exceptions(run, rows)}".rstrip()
        )
    return lines


def _any_bad(rows: list[Row]) -> bool:
    return any(row.whole.state in (State.FAILED, State.ERROR) for row in rows)


def _exceptions(run: RunRecord, rows: list[Row]) -> str:
    """The claims of a group that did not hold, by state: ``failed: DISK-3 · not run: DISK-7``."""
    parts = []
    missing = [row for row in rows if left_out(run, row)]
    others = [row for row in rows if row not in missing]
    for state in (State.FAILED, State.ERROR, State.SKIPPED, State.NOT_RUN):
        ids = [row.claim.id for row in others if row.whole.state is state]
        if ids:
            parts.append(f"{state}: {', '.join(ids)}")
    for needs, there in groupby(missing, key=lambda row: option_of(row.claim) or row.claim.needs):
        ids = [row.claim.id for row in there]
        parts.append(f"{State.NOT_RUN}: {', '.join(ids)} (needs {needs})")
    return " · ".join(parts)


def _ratios(results: Sequence[TestRecord], width: int) -> list[str]:
    """The claims' ratios, a paragraph for each pair of sides; none where nothing was compared.

    Single figures are not told here: the report has them.
    """
    images = {one.guest.image for one in results if one.guest and one.comparisons}
    lines: list[str] = []
    for record in results:
        claims = [one for one in comparisons_of(record) if is_claim(one)]
        where = f"{record.guest.image}, " if record.guest and len(images) > 1 else ""
        for sides, group in groupby(claims, key=lambda one: f"{one.b} / {one.a}"):
            text = clean_line(f"{where}{sides}: {', '.join(_ratio(one) for one in group)}")
            lines += wrap(text, max(8, width), **_indents(width), break_on_hyphens=False)
    return ["", *lines] if lines else []


def _ratio(found: Comparison) -> str:
    """``5.2 x into the guest (4.4 to 6.2)``, and the verdict where it is not the wanted one."""
    parts = []
    if found.low is not None and found.high is not None:
        parts.append(f"{ratio(found.low)} to {ratio(found.high)}")
    parts += [found.verdict] if found.verdict != "faster" else []
    return f"{ratio(found.ratio)} x {found.name}" + (f" ({', '.join(parts)})" if parts else "")


def _failure(record: TestRecord, width: int, out: Path | None) -> str:
    """One line: test, diagnosis with its quoted line (or the test's reason), evidence directory.

    Only the quoted line or reason gives way to the width, and keeps 40 columns: a long path wraps.
    """
    parts = [f"✗ {_cut(clean_line(record.test.rpartition('::')[2]), 70)}"]
    said = next((line for line in (record.reason or "").splitlines() if line.strip()), "")
    if record.diagnosis:
        parts.append(clean_line(record.diagnosis["name"]))
        if record.diagnosis["source"] != "check-up":  # that one explains the reason, and is not it
            said = record.diagnosis["line"]
    path = ""
    if record.evidence:
        path = clean_line(str(out / record.evidence if out else record.evidence))
    used = sum(len(part) + 2 for part in parts) + len(path)
    return "  ".join(filter(None, [*parts, _cut(clean_line(said), max(40, width - used)), path]))


def _cut(line: str, width: int) -> str:
    line = line.rstrip()
    return line if len(line) <= width else f"{line[: max(1, width - 1)].rstrip()}…"


def _ascii(line: str) -> str:
    return line.translate(_ASCII).encode("ascii", "replace").decode()

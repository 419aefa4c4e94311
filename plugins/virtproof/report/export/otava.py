"""CSV for Apache Otava (once Hunter): a row a run, with ``time``, attributes, and a column a figure.

Otava takes a column for a number in every row, so that only figures that all of the runs have are written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.store import clean_line
from virtproof.report.export.named import named_comparisons, named_series

ATTRIBUTES = ("virtproof", "qemu", "libvirt", "accelerator", "host_kernel", "guest_kernel")


def otava(runs: Sequence[tuple[RunRecord, Sequence[TestRecord]]]) -> str:
    """The runs in the order of their time. Figures are in their own units (bit/s, B/s, 1/s, s, s/B)."""
    runs = sorted(runs, key=lambda one: _time(one[0]))
    figures = [_figures(records) for _, records in runs]
    columns = [name for name in figures[0] if all(name in row for row in figures)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *ATTRIBUTES, *columns])
    for (run, records), row in zip(runs, figures, strict=True):
        writer.writerow(
            [_time(run), *_attributes(run, records), *(repr(row[name]) for name in columns)]
        )
    return text.getvalue()


def left_out(runs: Sequence[tuple[RunRecord, Sequence[TestRecord]]]) -> list[str]:
    """The figures that not all of the runs have."""
    figures = [_figures(records) for _, records in runs]
    every = dict.fromkeys(name for row in figures for name in row)
    return [name for name in every if not all(name in row for row in figures)]


def _figures(records: Sequence[TestRecord]) -> dict[str, float]:
    found = {name: one.centre for name, one in named_series(records).items()}
    return found | {name: one.ratio for name, one in named_comparisons(records).items()}


def _attributes(run: RunRecord, records: Sequence[TestRecord]) -> list[str]:
    kernels = dict.fromkeys(r.guest.kernel for r in records if r.guest and r.guest.kernel)
    said = [run.versions.get(name, "") for name in ATTRIBUTES[:3]]
    said += [run.accelerator["name"], str(run.host["kernel"]), " ".join(map(str, kernels))]
    # Who opens it in a spreadsheet is not to run what a guest called its kernel.
    return [text.lstrip("=+-@") for text in map(clean_line, said)]


def _time(run: RunRecord) -> str:
    return datetime.fromisoformat(run.start).astimezone(UTC).isoformat(timespec="seconds")

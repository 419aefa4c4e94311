"""The properties of a test in JUnit XML. Pure; the plugin hands them to pytest's own writer."""

from __future__ import annotations

from virtproof.measure.measurement import Comparison
from virtproof.measure.results import GuestRecord, TestRecord
from virtproof.measure.series import Series, comparisons_of, series_of
from virtproof.measure.store import clean_line
from virtproof.report.units import significant, told_in


def guest_id(guest: GuestRecord) -> str:
    """Readable id as GuestSpec has it: ``debian-12/pc/ide+rtl8139/tcg``."""
    machine = guest.machine if guest.firmware == "bios" else f"{guest.machine}-{guest.firmware}"
    return f"{guest.image}/{machine}/{guest.disk}+{guest.nic or 'no-nic'}/{guest.accel}"


def properties(record: TestRecord) -> list[tuple[str, str]]:
    """Names and values, each on one line and free of what XML cannot hold.

    ``claim`` once for each claim; ``guest``, ``guest.distribution``, ``guest.kernel``;
    ``diagnosis``, ``diagnosis.line``, ``diagnosis.source``; ``evidence``; each figure as in
    ``tcp-to-guest virtio`` and each comparison as in ``tcp-to-guest virtio / rtl8139``. Only what is known.
    """
    found: list[tuple[str, str | None]] = [("claim", name) for name in record.claims]
    if guest := record.guest:
        found.append(("guest", guest_id(guest)))
        found.append(("guest.distribution", guest.distribution))
        found.append(("guest.kernel", guest.kernel))
    if diagnosis := record.diagnosis:
        found.append(("diagnosis", diagnosis["name"]))
        found.append(("diagnosis.line", diagnosis["line"]))
        found.append(("diagnosis.source", diagnosis["source"]))
    found.append(("evidence", record.evidence))
    found += [(f"{one.name} {one.whose}", _figure(one)) for one in series_of(record)]
    for pair in comparisons_of(record):
        found.append((f"{pair.name} {pair.b} / {pair.a}", _comparison(pair)))
    return [
        (clean_line(name), text) for name, value in found if value and (text := clean_line(value))
    ]


def _figure(one: Series) -> str:
    """``940 Mbit/s (900 to 981), 4 sessions, quick``."""
    told = told_in(one.unit, one.centre)
    reach = ""
    if one.low is not None and one.high is not None:
        reach = f" ({told.number(one.low)} to {told.number(one.high)})"
    return f"{told(one.centre)}{reach}, {len(one.values)} sessions, {one.profile}"


def _comparison(found: Comparison) -> str:
    """``5.21 x (4.43 to 6.18), faster``."""
    reach = ""
    if found.low is not None and found.high is not None:
        reach = f" ({significant(found.low)} to {significant(found.high)})"
    return f"{significant(found.ratio)} x{reach}, {found.verdict}"

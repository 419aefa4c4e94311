"""The properties of a test in JUnit XML. Pure; the plugin hands them to pytest's own writer."""

from __future__ import annotations

from virtproof.measure.results import GuestRecord, TestRecord
from virtproof.measure.store import clean_line


def guest_id(guest: GuestRecord) -> str:
    """Readable id as GuestSpec has it: ``debian-12/pc/ide+rtl8139/tcg``."""
    machine = guest.machine if guest.firmware == "bios" else f"{guest.machine}-{guest.firmware}"
    return f"{guest.image}/{machine}/{guest.disk}+{guest.nic or 'no-nic'}/{guest.accel}"


def properties(record: TestRecord) -> list[tuple[str, str]]:
    """Names and values, each on one line and free of what XML cannot hold.

    ``claim`` once for each claim; ``guest``, ``guest.distribution``, ``guest.kernel``;
    ``diagnosis``, ``diagnosis.line``, ``diagnosis.source``; ``evidence``. Only what is known.
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
    return [(name, text) for name, value in found if value and (text := clean_line(value))]

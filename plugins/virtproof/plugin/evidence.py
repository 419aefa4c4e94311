"""What a failed test leaves behind: one directory, with everything known of its guests."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from virtproof.diagnose.evidence import Evidence
from virtproof.errors import CommandError, GuestError, LabError, VirtproofError
from virtproof.guest.checkup import CheckUp
from virtproof.guest.failure import BootFailedError
from virtproof.guest.guest import Guest
from virtproof.measure.results import EVIDENCE_MARK
from virtproof.measure.store import clean_text
from virtproof.transition.switching import diff

LONGEST = 120  # characters of a directory's name


def directory_name(test: str) -> str:
    """A file name for a test id: readable, unique, and harmless whatever a guest or user named."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", test).strip("._-") or "test"
    if plain == test and len(plain) <= LONGEST:
        return plain
    digest = hashlib.sha256(test.encode()).hexdigest()[:8]
    return f"{plain[:LONGEST]}-{digest}"


def place(out: Path, test: str) -> Path:
    """Where a test's evidence lies, if it leaves any."""
    return out / "evidence" / directory_name(test)


def make(directory: Path) -> Path:
    """Make a test's directory, and mark the one around it as ours."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory.parent / EVIDENCE_MARK).touch()
    return directory


def save(directory: Path, guests: list[Guest], failure: BootFailedError | None) -> None:
    """Write all that is known of each guest; one that cannot be asked leaves the rest."""
    make(directory)
    if failure is not None:
        verdict = {**failure.diagnosis.as_dict(), "message": clean_text(str(failure))}
        _write(directory / "verdict.json", json.dumps(verdict, indent=2) + "\n")
    for number, guest in enumerate(guests):
        place = directory if number == 0 else directory / f"guest-{number + 1}"
        place.mkdir(exist_ok=True)
        _guest(place, guest)


def examine(guests: list[Guest]) -> CheckUp | None:
    """The check-up of the guest that the test used last; None where it is not up, or cannot be asked."""
    try:
        return guests[-1].check_up() if guests and guests[-1].is_up else None
    except VirtproofError:
        return None


def save_check_up(directory: Path, checkup: CheckUp) -> None:
    """What was found, wrong or not, as JSON."""
    text = json.dumps(checkup.as_dict(), indent=2, default=str)
    _write(directory / "check-up.json", text + "\n")


def _guest(place: Path, guest: Guest) -> None:
    evidence = guest.failures[-1].evidence if guest.failures else _evidence_now(guest)
    texts = {
        "console.log": guest.console_text(),
        "transcript.txt": "\n".join(guest.transcript),
        "shell-answers.txt": guest.boots[-1].shell_answers if guest.boots else "",
    }
    if evidence is not None:
        texts["qemu.log"] = evidence.qemu_log
        texts["host-oom.txt"] = evidence.host_log
        texts["domain.xml"] = evidence.domain_xml
    if guest.switches:
        texts["domain-before.xml"], texts["domain-after.xml"] = guest.switches[-1]
        # One after another, as each starts with its own ---.
        texts["domain.diff"] = "".join(diff(before, after) for before, after in guest.switches)
    texts.update(_asked(guest))
    for name, text in texts.items():
        if text:
            _write(place / name, text)
    _screenshot(place, guest)


def _evidence_now(guest: Guest) -> Evidence | None:
    try:
        return guest.evidence()
    except VirtproofError:
        return None


def _asked(guest: Guest) -> dict[str, str]:
    """What only a running guest and libvirtd can say; empty where they do not answer."""
    asked: dict[str, str] = {}
    try:
        if guest.state != "running":
            return asked
        addresses = guest.domain.addresses()
        asked["leases.txt"] = "\n".join(f"{mac} {' '.join(ip)}" for mac, ip in addresses.items())
        if guest.boots and guest.boots[-1].agent.synchronised:
            asked["dmesg.txt"] = guest.runner.run("dmesg", check=False).stdout
            journal = "journalctl -b --no-pager -o short-monotonic -n 2000"
            asked["journal.txt"] = guest.runner.run(journal, check=False).stdout
    except (GuestError, LabError, CommandError) as error:
        asked["unanswered.txt"] = f"{error}\n"
    return asked


def _screenshot(place: Path, guest: Guest) -> None:
    try:
        if guest.state == "running":
            picture = guest.domain.screenshot()
            suffix = "png" if picture.startswith(b"\x89PNG") else "ppm"
            (place / f"screenshot.{suffix}").write_bytes(picture)
    except VirtproofError:
        return  # a dead guest has no display; the rest of the evidence says why


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")

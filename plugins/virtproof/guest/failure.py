"""A boot that failed, with all that is known of it and its cause by name."""

from __future__ import annotations

from virtproof.diagnose.diagnosis import diagnose
from virtproof.diagnose.evidence import Diagnosis, Evidence
from virtproof.errors import GuestError


class BootFailedError(GuestError):
    """A guest did not come up (or an edited domain was refused). ``diagnosis`` names the cause."""

    def __init__(self, guest: str, evidence: Evidence) -> None:
        self.evidence = evidence
        self.diagnosis: Diagnosis = diagnose(evidence)
        name, line, source = self.diagnosis.name, self.diagnosis.line, self.diagnosis.source
        super().__init__(f"{guest} does not come up: {name}: {line} [{source}]")

"""The fixture ``cell``: a test says which cell of the compatibility matrix it fills, and with what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pytest

from virtproof.errors import UsageError
from virtproof.measure.results import CompatRecord, Outcome, Verdict
from virtproof.measure.store import clean_line

CELL = pytest.StashKey[CompatRecord]()
UNSUPPORTED = "not supported by this kernel"

_CHECK = re.compile(r"[a-z0-9][a-z0-9_.+-]*(/[a-z0-9][a-z0-9_.+-]*)+")
_VERDICTS = ("works", "not-supported", "broken")


class Cell(Protocol):
    """What the fixture ``cell`` gives."""

    def __call__(
        self,
        check: str,
        verdict: Verdict,
        reason: str = "",
        features: Mapping[str, Sequence[str]] = ...,
        *,
        kernel: str | None = None,
    ) -> None: ...


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """Puts the test's cell into its record: ``cell("nic/rtl8139", "works", features={...})``.

    ``not-supported`` skips the test there and then, ``broken`` fails it; both want a reason. A test that
    names its check first, with ``works``, and then fails has filled the cell with ``broken`` all the
    same. ``kernel`` is for cells that are known without a guest.
    """

    def fill(
        check: str,
        verdict: Verdict,
        reason: str = "",
        features: Mapping[str, Sequence[str]] = {},  # never changed
        *,
        kernel: str | None = None,
    ) -> None:
        __tracebackhide__ = True
        before = request.node.stash.get(CELL, None)
        _refuse(check, verdict, reason, before.check if before else check)
        image = _image(request.node)
        named = {clean_line(device): [*names] for device, names in features.items()}
        reason = clean_line(reason).removeprefix(f"{UNSUPPORTED}: ")
        request.node.stash[CELL] = CompatRecord(check, verdict, reason, named, image, kernel)
        if verdict == "not-supported":
            pytest.skip(f"{UNSUPPORTED}: {reason}")
        if verdict == "broken":
            pytest.fail(reason, pytrace=False)

    return fill


def _refuse(check: str, verdict: str, reason: str, before: str) -> None:
    """UsageError for a cell that no report could place."""
    if not _CHECK.fullmatch(check):
        raise UsageError(f"{check!r} is no check", hint="a path such as nic/rtl8139")
    if verdict not in _VERDICTS:
        raise UsageError(f"{verdict!r} is no verdict", hint=f"one of: {', '.join(_VERDICTS)}")
    if verdict != "works" and not reason.strip():
        raise UsageError(f"{check}: {verdict} needs its reason")
    if check != before:
        raise UsageError(f"a test fills one cell, and this one {before} and {check}")


def _image(node: pytest.Item) -> str | None:
    """The image that a test is about, whether it has started a guest of it or not."""
    callspec = getattr(node, "callspec", None)
    name = callspec.params.get("image_name") if callspec is not None else None
    return str(name).rsplit("/", 1)[-1] if name else None


def settled(facts: Mapping[str, Any] | None, outcome: Outcome, reason: str) -> CompatRecord | None:
    """The cell as the test's end leaves it: what failed is broken, whatever was said before.

    Where nothing was seen of the system under test (an error, or a skip for another reason) the cell is
    ``not-run``.
    """
    if facts is None:
        return None
    verdict: Verdict = facts["verdict"]
    if outcome == "failed" and verdict != "broken":
        verdict = "broken"
    elif outcome == "error" or (outcome == "skipped" and verdict != "not-supported"):
        verdict = "not-run"
    if verdict == facts["verdict"]:
        return CompatRecord(**facts)
    return CompatRecord(**{**facts, "verdict": verdict, "reason": clean_line(reason)})

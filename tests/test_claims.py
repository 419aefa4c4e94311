"""The registry of claims: complete, short, and helpful to whoever mistypes an id."""

from __future__ import annotations

import re

import pytest

from virtproof.claims import CLAIMS, Claim, claim
from virtproof.errors import UsageError

GROUPS = {"HOST": 3, "GUEST": 1, "NET": 6, "DISK": 7, "WIN": 2, "PERF": 2}


def test_every_claim_is_there_once_and_in_order() -> None:
    order = [f"{name}-{n}" for name, last in GROUPS.items() for n in range(1, last + 1)]
    assert [entry.id for entry in CLAIMS] == order


@pytest.mark.parametrize("entry", CLAIMS, ids=lambda entry: entry.id)
def test_a_claim_is_short_and_one_sentence(entry: Claim) -> None:
    assert 0 < len(entry.title) <= 60
    assert not entry.title.endswith(".")
    assert entry.text.endswith(".")
    assert not re.search(r"[.] [A-Z]", entry.text), "more than one sentence"
    assert entry.group == entry.id.split("-")[0]


def test_only_nested_and_windows_need_something() -> None:
    needing = {entry.id for entry in CLAIMS if entry.needs}
    assert needing == {"HOST-3", "WIN-1", "WIN-2"}
    assert claim("HOST-3").needs == "--nested"
    assert "--windows-image" in claim("WIN-1").needs


def test_a_known_id_gives_its_claim() -> None:
    assert claim("DISK-3").id == "DISK-3"


@pytest.mark.parametrize(
    ("typo", "near"), [("NET-9", "NET-"), ("disk3", "DISK-3"), ("DSK-3", "DISK-3")]
)
def test_an_unknown_id_names_the_nearest(typo: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        claim(typo)
    assert typo in str(caught.value)
    assert near in caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_id_like_no_other_lists_them_all() -> None:
    with pytest.raises(UsageError) as caught:
        claim("?")
    assert caught.value.hint.startswith("one of: HOST-1,")

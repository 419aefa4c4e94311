"""Side B against side A: has it become slower?"""

from __future__ import annotations

import pytest

from virtproof.plugin.comparing import UNSURE, Compare


@pytest.mark.boots(20)
def test_b_holds_against_a(compare: Compare, request: pytest.FixtureRequest) -> None:
    """Fails on a regression of any figure; a rate that may have changed or not is a skip, never a pass."""
    found = compare.run()
    worse = [one.name for one in found if one.verdict == "regression"]
    assert worse == [], f"B is slower than A in {', '.join(worse)}"
    # What a byte cost varies more than rates do: its noise decides nothing.
    rates = [one for one in found if one.unit != "s/B"]
    unsure = [one.name for one in rates if one.verdict == "inconclusive"]
    if unsure:
        request.config.stash[UNSURE] = True
        pytest.skip(f"inconclusive: {', '.join(unsure)}")

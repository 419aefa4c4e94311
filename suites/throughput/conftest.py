"""What only longer profiles measure is no part of a quick run, and not a skip in it either."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``nightly`` where the run is quick."""
    if config.getoption("--throughput") != "quick":
        return
    out = [item for item in items if item.get_closest_marker("nightly")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]

"""The nested suite runs only where it is asked for: under emulation it takes a quarter of an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEVEL_2 = HERE / "level_2.py"  # is run at level 2, where nothing is nested any more


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip before anything is built or booted for it."""
    if config.getoption("--nested"):
        return
    for item in items:
        if HERE in item.path.parents and item.path != LEVEL_2:
            item.add_marker(pytest.mark.skip(reason="takes many minutes: asked for by --nested"))

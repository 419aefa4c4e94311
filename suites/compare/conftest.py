"""A comparison is no claim: it is collected only where ``./run compare`` asks for it."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this directory out of a plain run."""
    return True if config.getoption("--a") is None else None

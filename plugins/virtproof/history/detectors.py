"""Where a series changes its level: candidates, by a library. Whether one counts is ``judge``'s to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from virtproof.errors import MissingToolError, UsageError

LEAST = 3  # points a level, for a regression
SHORTEST = 2  # for a candidate: with 3, two bad points and a good one were taken for a level
PENALTY = 3.0
MAX_P = 1e-4


class Detector(Protocol):
    """Finds changes of level."""

    def changes(self, values: Sequence[float]) -> list[int]:
        """The index of each level's first value but the first level's, ascending. ``values`` are logarithms
        of points, oldest first."""
        ...


class Ruptures:
    """ruptures' optimal segmentation of the mean (KernelCPD, linear kernel), with the penalty in units
    of the series' own noise: a robust spread of its steps, which a change of level moves little."""

    def __init__(self, penalty: float = PENALTY) -> None:
        import ruptures

        self._make: Callable[..., Any] = ruptures.KernelCPD
        self._penalty = penalty

    def changes(self, values: Sequence[float]) -> list[int]:
        logs = np.asarray(values, dtype=np.float64)
        if len(logs) < 2 * LEAST:
            return []
        noise = spread(logs)
        if noise == 0:
            noise = float(np.std(logs))
        if noise < 1e-12:
            return []
        found = self._make(kernel="linear", min_size=SHORTEST).fit((logs / noise)[:, None])
        ends = found.predict(pen=self._penalty * math.log(len(logs)))
        return [int(end) for end in ends[:-1]]


class Otava:
    """Apache Otava's E-divisive with Student's t (its ``otava.analysis`` needs numpy and scipy alone)."""

    def __init__(self) -> None:
        try:
            from otava.analysis import compute_change_points
        except ModuleNotFoundError as error:
            raise MissingToolError(
                "Apache Otava is not installed",
                hint="pip install --no-deps apache-otava; its own list of dependencies clashes with ours",
            ) from error
        self._compute: Callable[..., Any] = compute_change_points

    def changes(self, values: Sequence[float]) -> list[int]:
        # A list: of an array it takes the whole for each of its windows. Not logarithms: it wants ratios.
        found, _weak = self._compute([math.exp(value) for value in values], max_pvalue=MAX_P)
        return [int(one.index) for one in found]


DETECTORS: dict[str, Callable[[], Detector]] = {"ruptures": Ruptures, "otava": Otava}


def detector(name: str) -> Detector:
    """The detector called that."""
    if name not in DETECTORS:
        raise UsageError(f"no detector is called {name!r}", hint=f"one of: {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def spread(logs: Any) -> float:
    """The noise of a series: from the median step between neighbours, so that levels do not count."""
    return float(np.median(np.abs(np.diff(logs)))) / (0.6745 * math.sqrt(2))

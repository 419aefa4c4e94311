"""``--shard i/n``: an n-th of the tests, chosen alike wherever the same tests are collected.

The tests of one image and file stay together, as they share guests; where such a group is more than a
shard's due, it is cut in the order of its tests. What a test weighs is the boots that it takes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from virtproof.errors import UsageError

LIGHT = 0.05  # boots that a test takes which has none: about what a copied guest's test does
MOST = 1000

Weigh = Callable[[pytest.Item], int]


@dataclass(frozen=True, slots=True)
class Shard:
    """Number ``index`` (from 1) of ``count`` shards."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``2/3``; UsageError for what is no shard."""
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text, re.ASCII)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= index <= count <= MOST:
            raise UsageError(
                f"--shard {text}: no such shard", hint="i/n, from 1/n to n/n: --shard 2/3"
            )
        return cls(index, count)


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--shard",
        metavar="i/n",
        help="run an n-th of the tests, the same on each machine; ./run merge puts results together",
    )


def read(config: pytest.Config) -> Shard | None:
    """The shard that was asked for; UsageError for what is none."""
    text = config.getoption("--shard")
    return Shard.parse(text) if text is not None else None


@dataclass(frozen=True, slots=True)
class Share:
    """What a shard took: ``selected`` of ``collected`` tests. ``tests`` is a digest of all their ids."""

    index: int
    count: int
    collected: int
    selected: int
    tests: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def groups(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """The items by image and file, in the order of their first ones."""
    found: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        image = callspec.params.get("image_name", "") if callspec is not None else ""
        found.setdefault((str(image), item.nodeid.partition("::")[0]), []).append(item)
    return list(found.values())


def place(items: Sequence[pytest.Item], count: int, weigh: Weigh) -> list[set[pytest.Item]]:
    """The items over ``count`` shards: the heaviest group first, to the shard that has least."""
    weights = {item: weigh(item) + LIGHT for item in items}
    due = sum(weights.values()) / count
    pieces = [piece for group in groups(items) for piece in _cut(group, weights, due)]
    load = [0.0] * count
    shards: list[set[pytest.Item]] = [set() for _ in range(count)]
    for piece in sorted(pieces, key=lambda piece: -sum(weights[item] for item in piece)):
        least = min(range(count), key=lambda number: load[number])
        load[least] += sum(weights[item] for item in piece)
        shards[least].update(piece)
    return shards


def _cut(
    group: list[pytest.Item], weights: dict[pytest.Item, float], due: float
) -> list[list[pytest.Item]]:
    """The group, in as few pieces in its order as make none more than a shard's due (but single tests)."""
    pieces: list[list[pytest.Item]] = [[]]
    so_far = 0.0
    for item in group:
        if pieces[-1] and so_far + weights[item] > due * 1.0001:
            pieces.append([])
            so_far = 0.0
        pieces[-1].append(item)
        so_far += weights[item]
    return pieces


class Sharding:
    """Leaves out what belongs to the other shards. Registered where ``--shard`` is given."""

    def __init__(self, shard: Shard, weigh: Weigh) -> None:
        self.shard = shard
        self.share: Share | None = None
        self._weigh = weigh

    @pytest.hookimpl(trylast=True)  # after -k and -m: what they leave is what is shared out
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        whole = sorted(items, key=lambda item: item.nodeid)
        mine = place(whole, self.shard.count, self._weigh)[self.shard.index - 1]
        digest = hashlib.sha256("\n".join(item.nodeid for item in whole).encode()).hexdigest()
        self.share = Share(self.shard.index, self.shard.count, len(items), len(mine), digest)
        others = [item for item in items if item not in mine]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item in mine]
        output = getattr(config, "workeroutput", None)
        if output is not None:
            output["virtproof_share"] = self.share.as_dict()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker's end: what it was given, of which the controller collects nothing."""
        share = getattr(node, "workeroutput", {}).get("virtproof_share")
        if share is not None:
            self.share = Share(**share)

    @property
    def is_empty(self) -> bool:
        """There are tests, and none of them is this shard's."""
        return self.share is not None and self.share.collected > 0 and self.share.selected == 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """An empty shard is no fault: more shards than groups of tests."""
        if self.is_empty and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.share is None:
            return
        said = f"shard {self.shard}: {self.share.selected} of {self.share.collected} tests"
        terminalreporter.line(
            f"virtproof: {said}" + (", which is no fault" if self.is_empty else "")
        )


def register(config: pytest.Config, shard: Shard | None, weigh: Weigh) -> Sharding | None:
    """The plugin that leaves out the other shards' tests, if there are shards."""
    if shard is None:
        return None
    sharding = Sharding(shard, weigh)
    config.pluginmanager.register(sharding, "virtproof-sharding")
    return sharding

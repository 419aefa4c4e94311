"""The fixture ``compare``: one kind of guest against another, in pairs of sessions."""

from __future__ import annotations

import pytest

from virtproof.measure.measurement import Comparison
from virtproof.measure.statistics import against
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.plan import Plan
from virtproof.plugin.run import Run
from virtproof.plugin.throughput import Bench, in_words
from virtproof.sides import Side

UNSURE = pytest.StashKey[bool]()
CANNOT_TELL = 125  # the exit status by which a command tells `git bisect run` that it cannot tell


class Compare:
    """Runs the pairs, and holds B against A."""

    def __init__(self, plan: Plan, bench: Bench, run: Run, guest_on: GuestFactory) -> None:
        self.plan = plan
        self._bench = bench
        self._run = run
        self._guest_on = guest_on

    def run(self) -> list[Comparison]:
        """Pairs in the order AB BA AB BA, as many as were asked for: no look ends it early."""
        sides = [self._with_cmdline(side) for side in self.plan.sides]
        for done in range(1, self.plan.pairs + 1):
            self._bench.measure(sides, self.plan.jobs, blocks=1, alternate=True)
            if done == 1:
                continue
            self._run.progress.step(f"after {done} of {self.plan.pairs} pairs:")
            for one in against(self._bench.pairs("A", "B"), "A", "B"):
                self._run.progress.step(f"  {in_words(one, verdict=done == self.plan.pairs)}")
        return self._bench.against("A", "B")

    def _with_cmdline(self, side: Side) -> Side:
        """A kernel of its own gets the command line of the image's own."""
        if not side.axes.get("kernel") or side.axes.get("cmdline"):
            return side
        plain = {name: side.axes[name] for name in ("image",) if name in side.axes}
        with self._guest_on(**plain) as guest:
            words = guest.runner.run("cat /proc/cmdline").stdout.split()
        cmdline = " ".join(word for word in words if not word.startswith("BOOT_IMAGE="))
        return Side(side.name, {**side.axes, "cmdline": cmdline}, side.disk, side.text)


@pytest.fixture
def compare(virtproof_run: Run, bench: Bench, guest_on: GuestFactory) -> Compare:
    """The comparison that ``--a`` and ``--b`` ask for; skips without them."""
    plan = virtproof_run.options.compare
    if plan is None:
        pytest.skip("compares guests: asked for by --a and --b")
    return Compare(plan, bench, virtproof_run, guest_on)

"""The fixture ``bench``: sides measured against each other on guests of their own, in blocks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from virtproof import host
from virtproof.errors import MissingToolError
from virtproof.guest.guest import Guest
from virtproof.guest.shell import CommandResult
from virtproof.lab.base import Lab, NoCommandsError
from virtproof.measure.measurement import Comparison, Measurement
from virtproof.measure.statistics import Pair, against, outruns, pair, together
from virtproof.plugin import evidence, guests
from virtproof.plugin.guests import GuestFactory
from virtproof.plugin.records import guest_record
from virtproof.plugin.run import Run
from virtproof.sides import Side
from virtproof.workload.fio import FILL
from virtproof.workload.job import Ends, Job
from virtproof.workload.profiles import Profile, profile

BENCH = pytest.StashKey["Bench"]()
FILL_S = 60.0
STAGES = 3  # looks at growing figures
EACH = 1 - 0.05 / STAGES  # the confidence of each, so that of all together it is 95 %
UNFIT = (
    0.3  # standard deviation of log ratios, above which a machine cannot tell; quiet ones have 0.1
)


class Bench:
    """Measures sides, block by block, and compares them; what it measured goes into the test's record."""

    def __init__(
        self, guest_on: GuestFactory, kind: Profile, directory: Path, say: Callable[[str], None]
    ) -> None:
        self.profile = kind
        self.measured: list[Measurement] = []
        self.comparisons: list[Comparison] = []
        self._guest_on = guest_on
        self._directory = directory
        self._say = say
        self._random = random.Random()
        self._blocks = 0
        self.control = ""  # the image of the guest that histories are held against
        # The test's guests: of those that served, the last is kept on record.
        self.used: list[Guest] = []

    def measure(
        self,
        sides: Sequence[Side],
        jobs: Sequence[Job],
        blocks: int | None = None,
        *,
        alternate: bool = False,
    ) -> None:
        """Each block gives every side its turn, in an order by chance (``alternate``: there and back, as AB
        BA AB BA); a guest is thrown away after it. A control image has a guest for each side as well.

        Skips the test where a tool is missing, with the line that mends it.
        """
        controls = [
            replace(one, axes={**one.axes, "image": self.control}, role="control")
            for one in (sides if self.control else ())
        ]
        groups = _by_guest([*sides, *controls])
        first, count = self._blocks, blocks or self.profile.blocks
        for block in range(first, first + count):
            if not alternate:
                self._random.shuffle(groups)
            elif block > first or first % 2:
                groups.reverse()
            self._blocks, turn = block + 1, 0
            for group in groups:
                names = ", ".join(one.name for one in group)
                self._say(f"block {block + 1} of {first + count}: {names}")
                guest = self._guest_on(**group[0].axes)
                self._random.shuffle(group)
                tools: dict[str, str] = {}
                for side in group:
                    self._turn(guest, side, jobs, (block, turn), tools)
                    turn += 1
                guest.close()  # not where it failed: what is wrong with it is then still to be seen
                del self.used[:-1]

    def outrun(
        self,
        sides: Sequence[Side],
        jobs: Sequence[Job],
        match: tuple[str, Sequence[str]],
        claims: Mapping[str, Sequence[str]],
    ) -> list[str]:
        """Measure, and hold a side against its rivals (``match``): in what it was not shown to outrun them.

        ``claims`` are named groups of figures, each judged as one (``statistics.together``); the single
        figures are compared too, and told. Where a claim is not shown, all is measured again and judged over
        all blocks, up to three times; hence 98.3 % confidence each time. Skips the test where the side is
        ahead in all, but the figures vary so much that they show nothing.
        """
        best, rivals = match
        missing: list[Comparison] = []
        for _stage in range(STAGES):
            self.measure(sides, jobs)
            self.comparisons.clear()
            judged = [
                outruns(together([pairs[one] for one in names], name), a, best, 1.0, EACH)
                for a in rivals
                for pairs in [self.pairs(a, best)]
                for name, names in claims.items()
            ]
            self._keep(judged)
            missing = [one for one in judged if one.verdict != "faster"]
            if not missing:
                break
        for a in rivals:
            self._keep([outruns(one, a, best) for one in self.pairs(a, best).values()])
        lines = [in_words(one) for one in missing]
        if missing and all(one.ratio > 1 and (one.spread or 0) > UNFIT for one in missing):
            pytest.skip(f"this machine is too busy to tell: {'; '.join(lines)}")
        return lines

    def against(self, a: str, b: str) -> list[Comparison]:
        """Side ``b`` held against ``a`` in every figure; see ``statistics.against``."""
        return self._keep(against(self.pairs(a, b), a, b))

    def pairs(self, a: str, b: str) -> dict[str, Pair]:
        """Every figure of which both sides have sessions, but for fractions, which have no ratio."""
        names = dict.fromkeys(
            one.name for one in self.measured if one.side == a and one.unit != "1"
        )
        theirs = {one.name for one in self.measured if one.side == b}
        return {name: pair(self.measured, name, a, b) for name in names if name in theirs}

    def _keep(self, found: list[Comparison]) -> list[Comparison]:
        self.comparisons += found
        for one in found:
            self._say(in_words(one))
        return found

    def _turn(
        self,
        guest: Guest,
        side: Side,
        jobs: Iterable[Job],
        at: tuple[int, int],
        tools: dict[str, str],
    ) -> None:
        block, order = at
        try:
            ends = _ends(guest, side, tools)
            for job in jobs:
                start = datetime.now(UTC).isoformat(timespec="seconds")
                outcome = job.run(ends)
                kind = "control-" if side.role == "control" else ""
                raw = self._raw(f"{block + 1}-{kind}{side.name}-{job.name}", outcome.raw)
                told = {**job.parameters, "version": outcome.version}
                for one in outcome.figures:
                    self.measured.append(
                        Measurement(
                            one.name,
                            one.unit,
                            one.better,
                            one.value,
                            list(one.samples),
                            side.name,
                            block,
                            order,
                            start,
                            told,
                            {**guest_record(guest), **({"given": side.text} if side.text else {})},
                            role=side.role,
                            profile=self.profile.effort.value,
                            raw=raw,
                        )
                    )
        except MissingToolError as error:
            pytest.skip(str(error))

    def _raw(self, name: str, text: str) -> str:
        """Keep what a tool said: its place, relative to the results' directory."""
        directory = evidence.make(self._directory) / "throughput"
        directory.mkdir(exist_ok=True)
        suffix = "json" if text.lstrip().startswith("{") else "txt"
        path = directory / f"{evidence.directory_name(name)}.{suffix}"
        path.write_text(text, encoding="utf-8", errors="replace")
        return str(path.relative_to(self._directory.parents[1]))


def _by_guest(sides: Sequence[Side]) -> list[list[Side]]:
    """Sides that one guest can serve, together."""
    groups: list[list[Side]] = []
    for side in sides:
        for group in groups:
            taken = [one.disk for one in group]
            if side.disk and all(taken) and side.disk not in taken and group[0].axes == side.axes:
                group.append(side)
                break
        else:
            groups.append([side])
    return groups


def _ends(guest: Guest, side: Side, tools: dict[str, str]) -> Ends:
    """Between what a side's jobs run; a disk is filled first."""
    address = guest.address() if guest.spec.nic else ""
    disk = f"/dev/{guest.block.disk_by_serial(side.disk).name}" if side.disk else ""
    if disk:
        guest.runner.run(FILL, disk, timeout_s=FILL_S)
    return Ends(guest.runner, _far(guest.lab), guest.domain.cpu_time_s, address, disk, tools)


def _far(lab: Lab) -> Callable[..., CommandResult]:
    def run(*argv: str, timeout_s: float) -> CommandResult:
        if host.find_program(argv[0]) is None:
            raise MissingToolError(f"the host has no {argv[0]}", hint="./run setup installs it")
        try:
            return lab.run(*argv, timeout_s=timeout_s)
        except NoCommandsError as error:
            raise MissingToolError(f"no network of our own to measure in: {error}") from error

    return run


def in_words(found: Comparison, *, verdict: bool = True) -> str:
    """A comparison as one line: what, how much, how sure."""
    reach = f" ({found.low:.3g} to {found.high:.3g})" if found.low and found.high else ""
    end = f": {found.verdict}" if verdict else ""
    return f"{found.name}: {found.b} / {found.a} {found.ratio:.3g} x{reach}{end}"


@pytest.fixture
def bench(request: pytest.FixtureRequest, virtproof_run: Run, guest_on: GuestFactory) -> Bench:
    """Measures sides against each other: ``bench.measure(sides, jobs)``, ``bench.outrun(...)``."""
    options = virtproof_run.options
    directory = evidence.place(options.out, request.node.nodeid)
    made = Bench(guest_on, profile(options.throughput), directory, virtproof_run.progress.step)
    made.control = options.control
    made.used = guests.used(request.node)
    request.node.stash[BENCH] = made
    return made

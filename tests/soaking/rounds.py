"""Rounds of a soak: start a run, kill one of it at a drawn moment, look at what is left, run again."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from soaking import runs
from soaking.processes import Started, kill, kill_session, started
from soaking.runs import DISK_FULL, EVERYTHING, NEXT, SAVE, Kind, SmallDisk
from soaking.traces import Machine, Place, left_after_next, left_at_once, left_in_results

CALIBRATE_S = 600.0
NEXT_S = 240.0
KNOWN = {"test_soaked.py", "pytest.ini", "out", "next-out"}
CRASH = re.compile(r"INTERNALERROR|^Traceback ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kill:
    """One drawn kill. ``at``: when, as a share of the run's usual length, counted from its start, or
    (``in_save``) of the time that a guest takes to be saved, from when the saving begins."""

    kind: Kind
    victim: str
    at: float
    in_save: bool = False

    def __str__(self) -> str:
        return f"{self.kind.name}/{self.victim}"


@dataclass
class Round:
    """What became of a kill. ``hit`` is false where the run was over before."""

    drawn: Kill
    hit: bool = False
    after_s: float = 0.0
    status: int | None = None
    rest_s: float = 0.0
    next_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    crash: str = ""  # of the harness itself, whose error was no clear line

    def line(self) -> str:
        """The round in a line."""
        when = f"at {self.after_s:5.1f} s" if self.hit else "missed"
        when += " in saving" if self.drawn.in_save else ""
        ends = f"status {self.status}, all gone {self.rest_s:.1f} s later"
        found = f"{len(self.faults)} FAULTS" if self.faults else "nothing left"
        then = f", next run green in {self.next_s:.1f} s" if self.next_s else ""
        crash = f"; CRASHED: {self.crash}" if self.crash else ""
        return f"{self.drawn!s:24} {when:22} {ends}: {found}{then}{crash}"


def draw(dice: random.Random, kinds: tuple[Kind, ...]) -> Iterator[Kill]:
    """Kills without end: first each victim of each kind of run once, in any order, then by weight."""
    pairs = [(kind, victim) for kind in kinds for victim in kind.victims]
    weights = [kind.weight / len(kind.victims) for kind, _ in pairs]
    first = iter(dice.sample(pairs, len(pairs)))
    while True:
        kind, victim = next(first, None) or dice.choices(pairs, weights)[0]
        in_save = kind.nic == SAVE.nic and dice.random() < 0.6
        yield Kill(kind, victim, dice.random(), in_save=in_save)


class Soak:
    """Rounds in one place. ``disks`` are those that can be filled, by name."""

    def __init__(self, place: Place, disks: Mapping[str, SmallDisk] | None = None) -> None:
        self.place = place
        self.disks = disks or {}
        self.usual_s: dict[str, float] = {}
        self.save_s = 2.0
        self.counts: Counter[str] = Counter()
        self.crashes = 0
        self._dice = random.Random()
        self._number = 0

    def calibrate(self, kind: Kind) -> None:
        """Run a kind of run to its end; its length is what kills of it are drawn by."""
        if not kind.builds:
            self._unharmed(_following(kind), "first")  # its guest is saved
        self.usual_s[kind.name] = self._unharmed(kind, "usual")

    def _unharmed(self, kind: Kind, name: str) -> float:
        """Run something to its green end: how long that took. Notes how long a guest's saving does."""
        place = self._of(kind)
        self._prepare(kind)
        with self._run(kind, place, name) as run:
            scratch = place.cache / "tmp"
            if kind.nic == SAVE.nic and run.wait(lambda: _any(scratch), CALIBRATE_S):
                begin = time.monotonic()
                run.wait(lambda: not _any(scratch), CALIBRATE_S)
                self.save_s = time.monotonic() - begin
            run.wait(lambda: run.status is not None, CALIBRATE_S)
            if run.status != 0:
                raise RuntimeError(f"{kind.name} is not green even unharmed: see {run.log}")
            return run.age_s

    def round(self, drawn: Kill) -> Round:
        """Do one kill and all the looking after it."""
        if drawn.kind.name not in self.usual_s:
            self.calibrate(drawn.kind)
        done = Round(drawn)
        self._number += 1
        self._dice.seed(f"{drawn.at}")
        self._prepare(drawn.kind)
        place, before = self._of(drawn.kind), Machine.now()
        with self._run(drawn.kind, place, "killed") as run:
            self._await_moment(run, drawn, place)
            self._strike(run, done)
            struck_s = run.age_s
            if not run.wait(lambda: run.over, drawn.kind.end_s):
                done.faults += [
                    f"still there after {drawn.kind.end_s:.0f} s: {one}" for one in run.living()
                ]
            done.status, done.rest_s = run.status, run.age_s - struck_s
        if drawn.kind.disk:
            self.disks[drawn.kind.disk].empty()
        done.faults += left_at_once(place, before, KNOWN)
        done.faults += left_in_results(place.work / "out")
        done.crash = _crash(run.log)
        self._go_on(done, place)
        thorough = self._number % 10 == 0
        done.faults += left_after_next(place, thorough=thorough)
        if done.hit:
            self.counts[str(drawn)] += 1
        else:  # the machine has become faster: the next one is drawn by what this one took
            self.usual_s[drawn.kind.name] = done.after_s
        self.crashes += bool(done.crash)
        return done

    def _of(self, kind: Kind) -> Place:
        if kind.disk:
            disk = self.disks[kind.disk]
            return replace(self.place, cache=disk.outside, inside=disk.path)
        if kind.builds:
            building = self.place.root / "building"
            return replace(self.place, cache=building, inside=building)
        return self.place

    def _prepare(self, kind: Kind) -> None:
        """Take away what the run is to make, so that it does."""
        place = self._of(kind)
        if kind.builds:
            shutil.rmtree(place.cache / "prepared", ignore_errors=True)
        if kind.nic == SAVE.nic:
            runs.forget_states(place, kind)

    def _run(
        self, kind: Kind, place: Place, name: str, out: str = "out"
    ) -> contextlib.AbstractContextManager[Started]:
        command = [*self._enter(kind), *runs.command(kind, place, out)]
        log = self.place.root / "logs" / f"{self._number:03}-{name}-{kind.name}.log"
        log.parent.mkdir(exist_ok=True)
        return started(command, place.work, log, runs.environment(kind, place))

    def _enter(self, kind: Kind) -> list[str]:
        """The words before what is to see the cache of a kind of run."""
        return self.disks[kind.disk].enter(self.place.work) if kind.disk else []

    def _await_moment(self, run: Started, drawn: Kill, place: Place) -> None:
        usual, wait = self.usual_s[drawn.kind.name], drawn.at
        if drawn.in_save:
            run.wait(lambda: _any(place.cache / "tmp"), usual * 3)
            wait, usual = run.age_s + drawn.at * self.save_s, 1.0
        run.wait(lambda: run.age_s >= wait * usual, CALIBRATE_S)

    def _strike(self, run: Started, done: Round) -> None:
        """Kill the victim, or wait for it as long as the run lasts."""
        victim = done.drawn.victim
        if victim == DISK_FULL:
            done.hit = run.status is None
            self.disks[done.drawn.kind.disk].fill()
        else:
            done.hit = run.wait(lambda: self._killed(run, victim), done.drawn.kind.end_s)
        done.after_s = run.age_s

    def _killed(self, run: Started, victim: str) -> bool:
        if victim == EVERYTHING:
            living = run.living()
            return bool([one for one in living if kill(one.pid)])
        whole = victim.removesuffix("-session")
        part = {"lab": "unshare"}.get(whole, whole)
        there = sorted(run.roles().get(part, []), key=lambda one: one.pid)
        if not there:
            return False
        one = self._dice.choice(there)
        return kill_session(one) if whole != victim else kill(one.pid)

    def _go_on(self, done: Round, place: Place) -> None:
        """What a user would do next: for a build ``clean``, else a run, which must be green."""
        if done.drawn.kind.builds:
            self._clean(done, place)
            return
        kind = _following(done.drawn.kind)
        with self._run(kind, place, "next", "next-out") as run:
            if not run.wait(lambda: run.over, NEXT_S):
                done.faults += [f"the next run does not end: {one}" for one in run.living()]
            if run.status != 0:
                done.faults.append(f"the next run is not green but {run.status}: see {run.log}")
            done.next_s = run.age_s

    def _clean(self, done: Round, place: Place) -> None:
        words = [*self._enter(done.drawn.kind), sys.executable, "-m", "virtproof", "clean"]
        environment = runs.environment(done.drawn.kind, place)
        cleaned = subprocess.run(
            words, env=environment, cwd=place.work, capture_output=True, text=True, check=False
        )
        if cleaned.returncode != 0:
            done.faults.append(f"clean fails: {cleaned.stderr.strip()}")


def _following(kind: Kind) -> Kind:
    """The run that comes after one of a kind: on the same disk."""
    return replace(NEXT, disk=kind.disk)


def _any(directory: Path) -> bool:
    """Whether a directory has anything in it."""
    try:
        return any(directory.iterdir())
    except FileNotFoundError:
        return False


def _crash(log: Path) -> str:
    """The last line of a crash of the harness itself that a run's output shows; empty without one."""
    text = log.read_text(errors="replace")
    if CRASH.search(text) is None:
        return ""
    said = [
        line for line in text.splitlines() if re.search(r"^(INTERNALERROR> )?\w[\w.]*Error", line)
    ]
    return said[-1].removeprefix("INTERNALERROR> ")[:200] if said else "a crash"

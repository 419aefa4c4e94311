"""The points of a history: one a run and series, made of its sessions all at once.

A point is the median of the run's sessions over the median of its control sessions on the same device: what
moves the whole machine divides out. Without five sessions of each it is the median itself, *uncontrolled*,
and belongs to a series of its own, as the two cannot be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from virtproof.errors import UsageError
from virtproof.history.schema import CONFIG_KEY

SUBJECTS = ("kernel", "qemu", "image")
SAME = ("name", "unit", "better", "device", "job", "tool_version")  # of a guest and its control
SESSIONS = 5  # of the subject and of the control, for a ratio

Basis = Literal["control", "uncontrolled"]
Numbers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sessions:
    """All sessions as columns: ``run`` counts runs in the order of their starts, ``config`` indexes those."""

    run: Numbers
    config: Numbers
    control: Numbers
    value: Values


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one thing over time, in the order of their runs' starts. ``key`` is all that is the same for
    each; ``tracked`` the subject's value of each point; ``runs`` index the history's runs; ``medians`` are of
    the sessions themselves, ``frozen`` of the control's (NaN where a run has none)."""

    id: str
    key: Mapping[str, str]
    basis: Basis
    values: Values
    runs: Numbers
    tracked: tuple[str, ...]
    configs: Numbers  # one of each point
    sessions: Numbers
    controls: Numbers
    medians: Values
    frozen: Values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def better(self) -> str:
        return self.key["better"]

    @property
    def title(self) -> str:
        """For a person: what the figure is of. What it was made by is in the key."""
        key = self.key
        told = [key["name"], key["device"], key.get("image", ""), key["accel"]]
        told += [f"QEMU {key['qemu']}"] if "qemu" in key else []
        told += [key["kernel"]] if "kernel" in key else []
        return " ".join(part for part in told if part)

    @property
    def unit(self) -> str:
        return "x control" if self.basis == "control" else self.key["unit"]


def series_of(
    configs: Sequence[Mapping[str, str]], sessions: Sessions, subject: str
) -> list[Series]:
    """The series of all sessions, with ``subject`` (one of ``SUBJECTS``) as the one that is tracked."""
    mine = sessions.control == 0
    if not mine.any():
        return []
    keys = [{name: one[name] for name in CONFIG_KEY if name != subject} for one in configs]
    code, texts = _coded([json.dumps(key, sort_keys=True) for key in keys])
    tracked, names = _coded([one[subject] for one in configs])
    runs, config = int(sessions.run.max()) + 1, sessions.config[mine]
    group = (code[config] * len(names) + tracked[config]) * runs + sessions.run[mine]
    groups, medians, counts, first = _medians(group, sessions.value[mine])
    run, config = groups % runs, config[first]
    divisor, controls = _controls(configs, sessions, subject, run, config)
    ratio = (controls >= SESSIONS) & (counts >= SESSIONS)
    values = np.where(ratio, medians / divisor, medians)
    series = code[config] * 2 + ratio
    order = np.lexsort((tracked[config], run, series))
    made = []
    for part in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
        text = texts[code[config[part[0]]]]
        basis: Basis = "control" if ratio[part[0]] else "uncontrolled"
        made.append(
            Series(
                hashlib.sha256(f"{subject} {basis} {text}".encode()).hexdigest()[:12],
                json.loads(text),
                basis,
                values[part],
                run[part],
                tuple(names[one] for one in tracked[config[part]]),
                config[part],
                counts[part],
                controls[part],
                medians[part],
                np.where(controls[part] > 0, divisor[part], np.nan),
            )
        )
    return sorted(made, key=lambda one: (one.title, one.basis))


def named(series: Sequence[Series], name: str) -> Series:
    """The series whose id begins so; UsageError where that is none, or not one."""
    fitting = [one for one in series if one.id.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    hint = "./run history show lists them; those of another --subject have other names"
    if not fitting:
        raise UsageError(f"no series is called {name!r}", hint=hint)
    raise UsageError(f"{len(fitting)} series begin with {name!r}", hint=hint)


def _controls(
    configs: Sequence[Mapping[str, str]],
    sessions: Sessions,
    subject: str,
    run: Numbers,
    config: Numbers,
) -> tuple[Values, Numbers]:
    """For each point, of that run and configuration: its control's median, and of how many sessions."""
    median, count = np.ones(len(run)), np.zeros(len(run), np.int64)
    mine = sessions.control == 1
    # A control guest is on the run's own QEMU: against a change of that it is no control.
    if subject == "qemu" or not mine.any():
        return median, count
    twin, _ = _coded([json.dumps([one[name] for name in SAME]) for one in configs])
    runs = int(sessions.run.max()) + 1
    group = twin[sessions.config[mine]] * runs + sessions.run[mine]
    groups, medians, counts, _ = _medians(group, sessions.value[mine])
    wanted = twin[config] * runs + run
    at = np.minimum(np.searchsorted(groups, wanted), len(groups) - 1)
    there = groups[at] == wanted
    median[there], count[there] = medians[at][there], counts[at][there]
    return median, count


def _coded(texts: Sequence[str]) -> tuple[Numbers, list[str]]:
    """Each text's number, and the texts by number."""
    names = sorted(set(texts))
    number = {name: at for at, name in enumerate(names)}
    return np.array([number[text] for text in texts], dtype=np.int64), names


def _medians(group: Numbers, value: Values) -> tuple[Numbers, Values, Numbers, Numbers]:
    """By group, ascending: its number, median, size, and the place of one of its members."""
    order = np.lexsort((value, group))
    groups, start, counts = np.unique(group[order], return_index=True, return_counts=True)
    ordered = value[order]
    middle = (ordered[start + (counts - 1) // 2] + ordered[start + counts // 2]) / 2
    return groups, middle, counts.astype(np.int64), order[start].astype(np.int64)

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

from virtproof.history.schema import CONFIG_KEY

SUBJECTS = ("kernel", "qemu", "image")
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
    each; ``tracked`` the subject's value of each point; ``runs`` index the history's runs."""

    id: str
    key: Mapping[str, str]
    basis: Basis
    values: Values
    runs: Numbers
    tracked: tuple[str, ...]
    configs: Numbers  # one of each point
    sessions: Numbers
    controls: Numbers

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
    if not len(sessions.run):
        return []
    keys = [{name: one[name] for name in CONFIG_KEY if name != subject} for one in configs]
    series, series_keys = _coded([json.dumps(key, sort_keys=True) for key in keys])
    tracked, tracked_names = _coded([one[subject] for one in configs])
    # A control guest is on the run's own QEMU: against a change of that it is no control.
    same = [] if subject == "qemu" else ["name", "unit", "better", "device", "job", "tool_version"]
    twin, _ = _coded([json.dumps([one[name] for name in same]) for one in configs])
    is_control = sessions.control.astype(bool)
    runs, n_tracked = int(sessions.run.max()) + 1, len(tracked_names)
    mine = ~is_control
    config = sessions.config[mine]
    group = (series[config] * n_tracked + tracked[config]) * runs + sessions.run[mine]
    groups, medians, counts, first = _medians(group, sessions.value[mine])
    run, config = groups % runs, config[first]
    controls, control_medians, control_counts, _ = _medians(
        twin[sessions.config[is_control]] * runs + sessions.run[is_control],
        sessions.value[is_control],
    )
    wanted = twin[config] * runs + run
    n_controls, divisor = np.zeros(len(wanted), np.int64), np.ones(len(wanted))
    if same and len(controls):
        at = np.minimum(np.searchsorted(controls, wanted), len(controls) - 1)
        there = controls[at] == wanted
        n_controls[there], divisor[there] = control_counts[at][there], control_medians[at][there]
    ratio = (n_controls >= SESSIONS) & (counts >= SESSIONS)
    values = np.where(ratio, medians / divisor, medians)
    order = np.lexsort((tracked[config], run, ratio, series[config]))
    ends = np.flatnonzero(np.diff((series[config] * 2 + ratio)[order])) + 1
    made = []
    for part in np.split(order, ends):
        code, basis = int(series[config[part[0]]]), _basis(bool(ratio[part[0]]))
        made.append(
            Series(
                hashlib.sha256(f"{subject} {basis} {series_keys[code]}".encode()).hexdigest()[:12],
                json.loads(series_keys[code]),
                basis,
                values[part],
                run[part],
                tuple(tracked_names[one] for one in tracked[config[part]]),
                config[part],
                counts[part],
                n_controls[part],
            )
        )
    return sorted(made, key=lambda one: (one.title, one.basis))


def _basis(ratio: bool) -> Basis:
    return "control" if ratio else "uncontrolled"


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

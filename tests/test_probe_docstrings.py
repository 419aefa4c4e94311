"""The samples in the probes' docstrings are what a recorded guest answers."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import pytest

from test_probe_replay import ReplayRunner
from virtproof.probe.block import BlockProbe
from virtproof.probe.initramfs import InitramfsProbe
from virtproof.probe.kernel import KernelProbe
from virtproof.probe.net import NetProbe
from virtproof.probe.pci import PciProbe
from virtproof.probe.system import SystemProbe
from virtproof.probe.testinfra_backend import host_over
from virtproof.probe.virtio import VirtioProbe

TOPICS = ("block", "initramfs", "kernel", "net", "pci", "system", "testinfra_backend", "virtio")


def names() -> dict[str, Any]:
    """What a docstring may use: one IDE guest's probes, and a virtio guest's for ``virtio``."""
    ide = ReplayRunner("ide")
    return {
        "runner": ide,
        "host_over": host_over,
        "block": BlockProbe(ide),
        "initramfs": InitramfsProbe(ide),
        "kernel": KernelProbe(ide),
        "net": NetProbe(ide),
        "pci": PciProbe(ide),
        "system": SystemProbe(ide),
        "virtio": VirtioProbe(ReplayRunner("virtio")),
    }


def failures(module: object, known: dict[str, Any]) -> tuple[int, int, str]:
    """Failed examples, all examples, and what the failed ones said."""
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(module, globs=known):
        runner.run(test, out=said.append)
    return runner.failures, runner.tries, "".join(said)


@pytest.mark.parametrize("topic", TOPICS)
def test_samples(topic: str) -> None:
    module = importlib.import_module(f"virtproof.probe.{topic}")
    failed, tried, said = failures(module, names())
    assert tried > 0
    assert failed == 0, said


def test_samples_of_another_guest_fail() -> None:
    module = importlib.import_module("virtproof.probe.block")
    other = names() | {"block": BlockProbe(ReplayRunner("virtio"))}
    failed, _, said = failures(module, other)
    assert failed >= 3
    assert "virtio_blk" in said

"""The fixture ``cell``: what a test says of the compatibility matrix stands in its record.

The tests inside need no guest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virtproof.measure.results import CompatRecord, TestRecord
from virtproof.measure.store import read_results

CELLS = """
import pytest

@pytest.fixture
def breaks():
    yield
    raise RuntimeError("no teardown")

def test_works(cell):
    cell("boot/bios", "works", features={"virtio_net": ["NET_F_MAC", "F_VERSION_1"]})

def test_not_supported(cell):
    cell("nic/rtl8139", "not-supported", "8139cp is not there", kernel="6.1.0-1-cloud-amd64")
    raise AssertionError("it goes on")

def test_broken(cell):
    cell("disk/usb", "broken", "usb_storage did not bind")

def test_fails_later(cell):
    cell("disk/virtio", "works")
    assert 1 == 2

def test_skipped_otherwise(cell):
    cell("disk/nvme", "works")
    pytest.skip("no such tool")

def test_error(cell, breaks):
    cell("nic/virtio", "works")

def test_no_cell(cell):
    pass

def test_image(cell, image_name):
    cell("nic/e1000", "works")
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VIRTPROOF_RUNTIME", str(tmp_path_factory.mktemp("run")))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def records(pytester: pytest.Pytester, test: str, *options: str) -> dict[str, TestRecord]:
    pytester.makepyfile(test_it=test)
    pytester.runpytest_inprocess(*options)
    found = read_results(pytester.path / "out" / "results.jsonl")
    return {record.test.partition("::")[2].partition("[")[0]: record for record in found}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_cell_is_in_its_record(pytester: pytest.Pytester, workers: str) -> None:
    Path("mine.qcow2").touch()
    found = records(pytester, CELLS, "--image", "./mine.qcow2", "-n", workers)
    features = {"virtio_net": ["NET_F_MAC", "F_VERSION_1"]}
    without = CompatRecord("nic/rtl8139", "not-supported", "8139cp is not there")
    assert {name: record.compat for name, record in found.items()} == {
        "test_works": CompatRecord("boot/bios", "works", features=features),
        "test_not_supported": replace(without, kernel="6.1.0-1-cloud-amd64"),
        "test_broken": CompatRecord("disk/usb", "broken", "usb_storage did not bind"),
        "test_fails_later": CompatRecord("disk/virtio", "broken", "assert 1 == 2"),
        "test_skipped_otherwise": CompatRecord("disk/nvme", "not-run", "no such tool"),
        "test_error": CompatRecord("nic/virtio", "not-run", "RuntimeError: no teardown"),
        "test_no_cell": None,
        "test_image": CompatRecord("nic/e1000", "works", image="mine.qcow2"),
    }
    outcomes = {name: record.outcome for name, record in found.items()}
    assert outcomes["test_not_supported"] == "skipped"
    assert outcomes["test_broken"] == "failed"
    said = "not supported by this kernel: 8139cp is not there"
    assert found["test_not_supported"].reason == said
    assert found["test_broken"].reason == "usb_storage did not bind"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('"nic", "works"', "'nic' is no check (a path such as nic/rtl8139)"),
        ('"nic/x", "fine"', "'fine' is no verdict (one of: works, not-supported, broken)"),
        ('"nic/x", "broken", " "', "nic/x: broken needs its reason"),
        ('"nic/y", "works"', "a test fills one cell, and this one nic/a and nic/y"),
    ],
)
def test_a_cell_that_cannot_be_fails_the_test(
    pytester: pytest.Pytester, arguments: str, said: str
) -> None:
    first = 'cell("nic/a", "works"); ' if "nic/y" in arguments else ""
    record = records(pytester, f"def test_x(cell): {first}cell({arguments})", "-n", "0")["test_x"]
    assert record.outcome == "failed"
    assert said in str(record.reason)

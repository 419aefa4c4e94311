"""The files of docs/ci/: what they are for takes them, and each command in them exists.

Held against the services' own JSON Schemas, which check-jsonschema brings; by actionlint too, where that is
installed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "docs" / "ci"
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}
UNITS = ("virtproof.service", "virtproof.timer")
RUN = re.compile(r"(?:\./|/opt/virtproof/)run (?P<command>[a-z-]+)(?P<rest>[^'\n]*)")


def schema_faults(path: Path, schema: str) -> str:
    """What check-jsonschema says; empty where it has nothing to say. It reads no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" not in done.stderr
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_services_schema_takes_it(name: str) -> None:
    assert schema_faults(CI / name, SCHEMAS[name]) == ""


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("github-actions.yml", "runs-on:", "runs-at:"),
        ("github-actions.yml", "contents: read", "contents: reed"),
        ("gitlab-ci.yml", "parallel: 3", "parallel: three"),
        ("gitlab-ci.yml", "when: always\n    expire", "when: whenever\n    expire"),
    ],
)
def test_a_bent_file_is_refused(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    text = (CI / name).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert schema_faults(tmp_path / name, SCHEMAS[name]) != ""


def test_actionlint_has_nothing_to_say() -> None:
    actionlint = shutil.which("actionlint")
    if actionlint is None:
        pytest.skip("actionlint is not installed: it is at github.com/rhysd/actionlint")
    command = [actionlint, "-no-color", str(CI / "github-actions.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# --- what the steps do ----------------------------------------------------------------------


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((CI / name).read_text(encoding="utf-8"))
    return found


def scripts(name: str) -> list[str]:
    """The shell commands in a file."""
    if name.endswith(".service"):
        return re.findall(
            r"^Exec\w+=-?(.*)$", (CI / name).read_text(encoding="utf-8"), re.MULTILINE
        )
    found = load(name)
    if name.startswith("gitlab"):
        jobs = (job for job in found.values() if isinstance(job, dict) and "script" in job)
        return [line for job in jobs for line in job["script"]]
    steps = (step for job in found["jobs"].values() for step in job["steps"])
    return [line for step in steps for line in step.get("run", "").splitlines()]


@pytest.fixture(scope="module")
def known() -> tuple[set[str], set[str]]:
    """The commands of ./run, and the options of pytest and of those."""
    helped = subprocess.run([ROOT / "run", "help"], capture_output=True, text=True, check=True)
    options = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    text = helped.stdout + options.stdout
    commands = re.findall(r"^  ([a-z-]+) ", helped.stdout, re.MULTILINE)
    return set(commands), set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) | {"-o"}


def unknown(line: str, known: tuple[set[str], set[str]]) -> list[str]:
    """Commands and options of a line that ./run has not."""
    found = []
    for match in RUN.finditer(line):
        if match["command"] not in known[0]:
            found.append(match["command"])
        words = [word for word in match["rest"].split() if word.startswith("-")]
        found += [word for word in words if word not in known[1]]
    return found


@pytest.mark.parametrize("name", [*SCHEMAS, "virtproof.service"])
def test_every_command_exists(name: str, known: tuple[set[str], set[str]]) -> None:
    lines = scripts(name)
    assert any(RUN.search(line) for line in lines)
    assert [fault for line in lines for fault in unknown(line, known)] == []


def test_a_command_that_does_not_exist_is_found(known: tuple[set[str], set[str]]) -> None:
    assert unknown("./run conform --shard 1/2 --shart 3", known) == ["conform", "--shart"]


def test_githubs_shards_are_all_of_them_and_all_are_merged() -> None:
    jobs = load("github-actions.yml")["jobs"]
    shards = jobs["shard"]["strategy"]["matrix"]["shard"]
    lines = scripts("github-actions.yml")
    assert shards == list(range(1, len(shards) + 1))
    assert any(f"--shard ${{{{ matrix.shard }}}}/{len(shards)}" in line for line in lines)
    (merge,) = (line for line in lines if "run merge" in line)
    assert [word for word in shlex.split(merge) if "shard-" in word] == [
        f"shards/shard-{number}" for number in shards
    ]
    uploads = [
        s for job in jobs.values() for s in job["steps"] if "upload-artifact" in s.get("uses", "")
    ]
    assert len(uploads) == 2
    assert all(one["with"]["include-hidden-files"] for one in uploads)  # evidence/.virtproof


def test_gitlabs_shards_are_its_nodes_and_their_junit_files_are_found() -> None:
    job = load("gitlab-ci.yml")["conformance"]
    (line,) = (line for line in job["script"] if "--shard" in line)
    assert '--shard "$CI_NODE_INDEX/$CI_NODE_TOTAL"' in line
    assert job["parallel"] >= 2
    assert Path("out/shard-2/junit.xml").match(job["artifacts"]["reports"]["junit"])


# --- systemd --------------------------------------------------------------------------------


def unit_faults(place: Path) -> str:
    """What systemd says of the units in a directory; they are ours as far as they name our program."""
    for name in UNITS:
        text = (place / name).read_text(encoding="utf-8")
        (place / name).write_text(text.replace("/opt/virtproof/run", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(place / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(("virtproof", str(place)))]
    return "\n".join(told)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (the package systemd)")
    for name in UNITS:
        shutil.copy(CI / name, tmp_path)
    return tmp_path


def test_systemd_takes_the_units(units: Path) -> None:
    assert unit_faults(units) == ""


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("virtproof.service", "Type=oneshot", "Type=twoshot"),
        ("virtproof.service", "Nice=5", "Nicely=5"),
        ("virtproof.timer", "OnCalendar=*-*-* 02:17:00", "OnCalendar=nightly-ish"),
    ],
)
def test_a_bent_unit_is_found(units: Path, name: str, right: str, wrong: str) -> None:
    text = (units / name).read_text(encoding="utf-8")
    assert right in text
    (units / name).write_text(text.replace(right, wrong), encoding="utf-8")
    assert unit_faults(units) != ""

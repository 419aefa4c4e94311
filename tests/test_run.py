"""./run: installs only what is missing, says what it cannot, and adds nothing when all is there.

A copy of the script works on a machine of stubs: a package database that is a file, an apt-get and
a python3 that write down how they were called.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    "sh", "sed", "tr", "cat", "cksum", "head", "tail", "cmp", "flock", "mkdir", "rm", "env",
    "dirname", "sleep", "touch", "chmod",
)  # fmt: skip

DPKG_QUERY = """#!/bin/sh
while read -r name; do echo "installed $name"; done <"$BASE/installed"
exit 1
"""
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$BASE/calls"
[ ! -e "$BASE/apt-fails" ] || { echo "E: no such luck"; exit 100; }
[ "$1" = install ] || exit 0
for word; do
    case $word in install | --*) ;; *) echo "$word" >>"$BASE/installed" ;; esac
done
"""
PYTHON = """#!/bin/sh
case "$*" in
"-V") echo "Python 3.11.0" ;;
"-m venv --clear .venv")
    echo "venv" >>"$BASE/calls"
    rm -rf .venv && mkdir -p .venv/bin && cp_self .venv/bin/python && cp_self .venv/bin/tox ;;
"-m pip "*)
    echo "pip" >>"$BASE/calls"
    [ ! -e "$BASE/pip-slow" ] || sleep 1
    [ ! -e "$BASE/pip-fails" ] || { echo "ERROR: no matching distribution"; exit 1; } ;;
"-c "*) [ ! -e "$BASE/python-old" ] ;;
*) echo "$(dirname "$0")/python: $*"; [ ! -e "$BASE/lint-fails" ] || exit 1
   [ ! -e "$BASE/status" ] || exit "$(cat "$BASE/status")" ;;
esac
"""


PYTEST = r"\.venv/bin/python: -m pytest -c pyproject\.toml"


@dataclass(frozen=True)
class Box:
    """A checkout and a machine around it."""

    base: Path
    checkout: Path
    bin: Path

    def has(self, *packages: str) -> None:
        (self.base / "installed").write_text("".join(f"{name}\n" for name in packages))

    def flag(self, name: str, text: str = "") -> None:
        (self.base / name).write_text(text)

    def stub(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        environment = {"PATH": str(self.bin), "BASE": str(self.base), "HOME": str(self.base)}
        return [str(self.checkout / "run"), *arguments], environment

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(*arguments)
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        file = self.base / "calls"
        return file.read_text().splitlines() if file.exists() else []


def apt_packages(section: str = "apt") -> list[str]:
    rows = (ROOT / "plugins/virtproof/packages.txt").read_text().splitlines()
    return [row.split()[1] for row in rows if row.split()[:1] == [section]]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A machine with every package, a good Python and no .venv, where we are root."""
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "plugins/virtproof").mkdir(parents=True)
    programs.mkdir()
    for name in ("run", "pyproject.toml", "constraints.txt", "plugins/virtproof/packages.txt"):
        shutil.copy(ROOT / name, checkout / name)
    # The script also looks for the system's own Python, which a machine of stubs does not have.
    script = checkout / "run"
    script.write_text(script.read_text().replace("/usr/bin/python3", "/no/python3"))
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    made = Box(tmp_path, checkout, programs)
    made.stub("dpkg-query", DPKG_QUERY)
    made.stub("apt-get", APT_GET)
    made.stub("apt-cache", "#!/bin/sh\nexit 100\n")
    made.stub("id", "#!/bin/sh\necho 0\n")
    copy = shutil.which("cp") or "/bin/cp"
    source = PYTHON.replace("cp_self", f'{copy} "$0"')
    made.stub("python3", source)
    made.has(*apt_packages())
    return made


def test_setup_installs_only_what_is_missing(box: Box) -> None:
    box.has(*(name for name in apt_packages() if name not in ("uidmap", "mmdebstrap")))
    done = box.run("setup")
    assert done.returncode == 0, done.stderr
    assert box.calls == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends uidmap mmdebstrap",
        "venv",
        "pip",
    ]
    assert "installing: uidmap mmdebstrap" in done.stderr


def test_a_second_setup_does_and_says_nothing_at_once(box: Box) -> None:
    box.run("setup")
    before = box.calls
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = box.run("setup")
        times.append(time.monotonic() - start)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert box.calls == before
    assert min(times) < 0.3


def test_a_package_that_was_removed_later_is_installed_again(box: Box) -> None:
    box.run("setup")
    box.has(*(name for name in apt_packages() if name != "dnsmasq-base"))
    box.run("setup")
    assert box.calls[-1] == "apt-get install --yes --no-install-recommends dnsmasq-base"


def test_without_root_and_sudo_the_exact_command_is_printed(box: Box) -> None:
    box.stub("id", "#!/bin/sh\necho 1000\n")
    box.has(*(name for name in apt_packages() if name not in ("gcc", "fdisk")))
    done = box.run("conformance")
    assert done.returncode == 1
    assert "  apt-get install --yes --no-install-recommends gcc fdisk\n" in done.stderr
    assert box.calls == []


def test_without_root_and_with_nothing_missing_setup_goes_on(box: Box) -> None:
    box.stub("id", "#!/bin/sh\necho 1000\n")
    assert box.run("setup").returncode == 0
    assert box.calls == ["venv", "pip"]


def test_sudo_is_used_where_it_asks_nothing(box: Box) -> None:
    box.stub("id", "#!/bin/sh\necho 1000\n")
    box.stub("sudo", '#!/bin/sh\necho "sudo $*" >>"$BASE/calls"\n[ "$1" = -n ] || exec "$@"\n')
    box.has(*(name for name in apt_packages() if name != "gcc"))
    assert box.run("setup").returncode == 0
    assert any(call.startswith("sudo env DEBIAN_FRONTEND=noninteractive") for call in box.calls)


def test_a_sudo_that_would_ask_is_not_waited_for(box: Box) -> None:
    box.stub("id", "#!/bin/sh\necho 1000\n")
    box.stub("sudo", "#!/bin/sh\nexit 1\n")
    box.has()
    done = box.run("setup")
    assert done.returncode == 1
    assert "let root do this" in done.stderr


def test_the_user_may_keep_the_packages_to_himself(box: Box) -> None:
    box.has()
    command, environment = box.command("setup")
    environment["VIRTPROOF_NO_PACKAGES"] = "1"
    assert subprocess.run(command, env=environment, check=False, timeout=30).returncode == 0
    assert box.calls == ["venv", "pip"]


def test_packages_that_cannot_be_installed_stop_with_apts_words(box: Box) -> None:
    box.has()
    box.flag("apt-fails")
    done = box.run("setup")
    assert done.returncode == 1
    assert "E: no such luck" in done.stderr
    assert "the packages could not be installed" in done.stderr
    assert "venv" not in box.calls


def test_an_environment_that_was_not_finished_is_made_anew(box: Box) -> None:
    box.flag("pip-fails")
    done = box.run("setup")
    assert done.returncode == 1
    assert "ERROR: no matching distribution" in done.stderr
    (box.base / "pip-fails").unlink()
    assert box.run("setup").returncode == 0
    assert box.calls == ["venv", "pip", "venv", "pip"]


def test_a_new_pin_renews_the_environment_and_a_moved_checkout_remakes_it(box: Box) -> None:
    box.run("setup")
    with (box.checkout / "constraints.txt").open("a") as file:
        file.write("# renewed\n")
    assert "renewing .venv" in box.run("setup").stderr
    assert box.calls == ["venv", "pip", "pip"]
    moved = Box(box.base, box.checkout.rename(box.base / "moved"), box.bin)
    assert "making .venv" in moved.run("setup").stderr
    assert box.calls[-2:] == ["venv", "pip"]


def test_two_at_once_set_up_once(box: Box) -> None:
    box.flag("pip-slow")
    command, environment = box.command("setup")
    both = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=30)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert box.calls == ["venv", "pip"]
    assert sum("another run is setting up" in text for text in said) == 1


def test_without_a_python_its_packages_are_asked_for(box: Box) -> None:
    box.flag("python-old")
    done = box.run("setup")
    assert box.calls[1].endswith(" ".join(apt_packages("apt-python")))
    assert done.returncode == 1
    assert "no Python >= 3.11 with venv and headers was found" in done.stderr


def test_doctor_without_a_python_still_names_the_command(box: Box) -> None:
    box.flag("python-old")
    box.has(*(name for name in apt_packages() if name != "uidmap"))
    done = box.run("doctor")
    assert done.returncode == 1
    assert "--no-install-recommends uidmap python3 python3-venv python3-dev" in done.stderr
    assert box.calls == []


def test_doctor_neither_installs_nor_makes_anything(box: Box) -> None:
    box.has()
    done = box.run("doctor", "--json")
    assert done.stdout.endswith(": -m virtproof doctor --json\n")
    assert box.calls == []
    assert not (box.checkout / ".run").exists()


def test_options_and_exit_status_are_pytests(box: Box) -> None:
    box.run("setup")
    box.flag("status", "5")
    done = box.run("conformance", "-k", "debian and not scsi")
    assert re.fullmatch(rf"{PYTEST} -n \d -k debian and not scsi\n", done.stdout)
    assert done.returncode == 5


def test_tests_are_linted_first(box: Box) -> None:
    box.run("setup")
    done = box.run("tests", "-x")
    lint, tests = done.stdout.splitlines()
    assert lint == ".venv/bin/python: run -qq -e lint,types"
    assert re.fullmatch(rf"{PYTEST} -n \d -o testpaths=tests -x", tests)
    box.flag("lint-fails")
    failed = box.run("tests")
    assert failed.returncode == 1
    assert "pytest" not in failed.stdout


def test_a_file_elsewhere_does_not_move_the_root(tmp_path: Path) -> None:
    """pytest looks for its configuration beside every argument that is a file, options' values too.

    Without -c, as the control has it, such a run loses pyproject.toml and collects all of the checkout.
    """
    disk = tmp_path / "disk.qcow2"
    disk.touch()
    stages = (["-c", "pyproject.toml"], [])
    collected = []
    for stage in stages:
        command = [sys.executable, "-m", "pytest", *stage, "-n", "0", "--collect-only", "-q"]
        options = [
            "--image",
            str(disk),
            "--out",
            str(tmp_path / "out"),
            "-k",
            "test_host or test_house",
        ]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
        )
        collected.append(done.stdout)
    assert "suites/host/test_host.py::" in collected[0]
    assert "tests/" not in collected[0]
    assert "tests/test_house.py" in collected[1]


@pytest.mark.parametrize(("command", "status"), [("help", 0), ("", 0), ("konformance", 2)])
def test_help_and_an_unknown_command(box: Box, command: str, status: int) -> None:
    done = box.run(*command.split())
    assert done.returncode == status
    assert "./run COMMAND" in done.stdout + done.stderr
    assert box.calls == []


def test_the_ci_script_needs_no_terminal() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / "run", os.X_OK)
    assert "./run tests" in text
    assert "</dev/null" in text

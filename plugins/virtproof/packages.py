"""The distribution's packages that a run needs (``packages.txt``), and the command for them.

``./run`` reads the same list in shell, for the machine that has no Python yet.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from importlib import resources
from pathlib import Path

from virtproof import host

_INSTALL = {
    "apt": "apt-get install --no-install-recommends",
    "dnf": "dnf install --setopt=install_weak_deps=False",
    "zypper": "zypper install --no-recommends",
    "pacman": "pacman --sync --needed",
}


def manager() -> str | None:
    """The distribution's package manager, by the name the list has for it; None for any other."""
    programs = {"apt": "apt-get", "dnf": "dnf", "zypper": "zypper", "pacman": "pacman"}
    return next((name for name, found in programs.items() if host.find_program(found)), None)


def wanted(section: str, text: str | None = None) -> list[str]:
    """The packages of a section (``apt``, ``apt-python``, ...), in the list's order."""
    if text is None:
        text = resources.files("virtproof").joinpath("packages.txt").read_text()
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [row[1] for row in rows if row[0] == section]


def python_fits() -> bool:
    """Whether this Python is, or can make, a virtual environment that extensions are built in."""
    if sys.prefix != sys.base_prefix:
        return True
    header = Path(sysconfig.get_path("include"), "Python.h")
    return importlib.util.find_spec("ensurepip") is not None and header.exists()


def missing(name: str, packages: list[str]) -> list[str]:
    """Those of ``packages`` that the manager ``name`` does not have installed."""
    if name == "apt":
        done = _asked("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *packages)
        have = {line.split()[1] for line in done.splitlines() if line.startswith("installed ")}
        return [package for package in packages if package not in have]
    if name == "pacman":
        return _asked("pacman", "-T", *packages).split()
    answers = {package: _asked("rpm", "-q", "--whatprovides", package) for package in packages}
    return [package for package, said in answers.items() if "no package provides" in said]


def install_command(name: str, packages: list[str]) -> str:
    """The command that installs ``packages``, as this user would have to say it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}{_INSTALL[name]} {' '.join(packages)}"


def _asked(*command: str) -> str:
    """What a command prints, in English; its exit status says only whether all are there."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=60, check=False
        )
    except OSError:
        return ""
    return done.stdout

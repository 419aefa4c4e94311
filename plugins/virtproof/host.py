"""Facts of the host, read from /proc, /sys and the tools' own words; nothing is changed.

Only the standard library: the doctor must work before anything is installed. What takes ``root``
reads below that directory instead of ``/``, for tests.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# An ordinary user's PATH often lacks these, and libvirtd and mke2fs live there.
SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_NAMESPACES = ("--net", "--mount", "--pid", "--fork")
_OWN_USER = ("--user", "--map-root-user", "--map-auto")


@dataclass(frozen=True, slots=True)
class Host:
    """The machine. Memory in MiB; ``cpus`` are those this process may use; ``nested`` as below."""

    kernel: str
    distribution: str
    cpu_model: str
    cpus: int
    memory_mib: int
    memory_available_mib: int
    nested: str

    def as_dict(self) -> dict[str, Any]:
        """The shape of ``host`` in ``out/run.json``."""
        return {
            "kernel": self.kernel,
            "distribution": self.distribution,
            "cpus": self.cpus,
            "memory_mib": self.memory_mib,
            "cpu_model": self.cpu_model,
            "nested": self.nested,
        }


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the host: its path, and the version it says of itself, or ""."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something can be used, and the words for it."""

    usable: bool
    why: str


def read_host(root: Path = Path("/")) -> Host:
    """The facts of this machine; "unknown" and 0 where the kernel does not say."""
    memory = _fields(root / "proc/meminfo")
    release = _fields(root / "etc/os-release", separator="=")
    return Host(
        kernel=_text(root / "proc/sys/kernel/osrelease") or "unknown",
        distribution=release.get("PRETTY_NAME", "unknown").strip("\"'"),
        cpu_model=_fields(root / "proc/cpuinfo").get("model name", "unknown"),
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=_mib(memory.get("MemTotal", "")),
        memory_available_mib=_mib(memory.get("MemAvailable", "")),
        nested=nested(root),
    )


def record() -> dict[str, Any]:
    """This machine as ``host`` in ``out/run.json`` tells it."""
    return read_host().as_dict()


def boot_id(root: Path = Path("/")) -> str:
    """The id that the kernel gave this boot of the machine; "" where there is none."""
    return _text(root / "proc/sys/kernel/random/boot_id")


def find_program(name: str) -> Path | None:
    """Where a program is: PATH, then the system's folders that an ordinary user's PATH lacks."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def program(name: str) -> Program | None:
    """A program and the version it says: 7.2.22 of "QEMU emulator version 7.2.22 (Debian ...)"."""
    path = find_program(name)
    if path is None:
        return None
    done = _run([str(path), "--version"])
    number = re.search(r"\d+\.\d+(\.\d+)*", done.stdout if done else "")
    return Program(path, number.group() if number else "")


def qemu() -> Program | None:
    """The QEMU that runs the guests."""
    return program("qemu-system-x86_64")


def libvirt() -> Program | None:
    """libvirt's daemon, which is of the version of its library."""
    return program("libvirtd")


def user_namespaces() -> Answer:
    """Whether this user can have the namespaces of a lab, by making them. Root needs no user's."""
    root = os.geteuid() == 0
    command = ["unshare", *([] if root else _OWN_USER), *_NAMESPACES, "true"]
    if find_program("unshare") is None:
        return Answer(False, "no program unshare (package util-linux)")
    done = _run(command)
    if done is None:
        return Answer(False, "unshare did not come back within 10 s")
    if done.returncode == 0:
        return Answer(True, "as root" if root else "as an ordinary user")
    said = done.stderr.strip().splitlines()
    return Answer(False, said[-1] if said else f"unshare exited with {done.returncode}")


def subordinate_ids(root: Path = Path("/"), user: str | None = None) -> Answer:
    """Whether the user has 65536 subordinate user and group ids: newuidmap maps the lab's own."""
    uid = os.getuid()
    name = user or _user_name(uid)
    counts = []
    for file in ("subuid", "subgid"):
        rows = [line.split(":") for line in _text(root / "etc" / file).splitlines()]
        owned = [int(r[2]) for r in rows if len(r) == 3 and r[0] in (name, str(uid))]
        counts.append(max(owned, default=0))
    if min(counts) >= 65536:
        return Answer(True, f"{min(counts)} ids for {name}")
    hint = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
    return Answer(False, f"none for {name} in /etc/subuid and /etc/subgid; as root: {hint}")


def device(path: Path) -> Answer:
    """Whether a device node is there and may be opened. That it works is another question."""
    if not path.exists():
        return Answer(False, f"no {path}")
    if not os.access(path, os.R_OK | os.W_OK):
        return Answer(False, f"{path}: permission denied, {_way_in(path)}")
    return Answer(True, f"{path} may be opened")


def nested(root: Path = Path("/")) -> str:
    """What kvm_intel or kvm_amd says of nested guests: "on", "off", or "not told"."""
    for module in ("kvm_intel", "kvm_amd"):
        said = _text(root / "sys/module" / module / "parameters/nested")
        if said:
            return "on" if said in ("Y", "y", "1") else "off"
    return "not told"


def disk_free_mib(path: Path) -> int:
    """MiB free for this user where ``path`` is, or would be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free // (1 << 20)


def _run(command: list[str], timeout_s: float = 10) -> subprocess.CompletedProcess[str] | None:
    """The finished command; None where it cannot be started or does not end.

    Into files, not pipes: a refused unshare leaves a child behind that would hold a pipe open.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError:
            return None
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(command, status, *said)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _fields(path: Path, separator: str = ":") -> dict[str, str]:
    """A file of "name: value" lines; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in _text(path).splitlines():
        name, found, value = line.partition(separator)
        if found:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _mib(kib: str) -> int:
    number = kib.split()[0] if kib else "0"
    return int(number) // 1024 if number.isdigit() else 0


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _way_in(path: Path) -> str:
    """How an ordinary user is let in: by the node's group where that has rights, else by root."""
    status = path.stat()
    if status.st_gid != 0 and status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP:
        try:
            return f"add yourself to group {path.group()}"
        except KeyError:
            return f"add yourself to group {status.st_gid}"
    return f"as root: chmod 0666 {path}"

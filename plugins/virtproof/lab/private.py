"""The private lab: a libvirtd, a network and guests in namespaces that leave nothing behind.

Works as root and as an ordinary user (package uidmap). Layout: ``<runtime>/lab-XXXXXXXX/`` holds the
sockets and libvirt's state (short paths: UNIX sockets allow 107 bytes), ``<cache>/labs/<same>/`` the disks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from virtproof.deadline import Deadline
from virtproof.errors import LabError, LabGoneError, MissingToolError
from virtproof.guest.shell import CommandResult
from virtproof.lab.admission import Admission
from virtproof.lab.cleanup import LINGERING, LOCK, sweep
from virtproof.lab.host_log import killed_for_memory, tail
from virtproof.lab.init import remove_lab
from virtproof.lab.network import NETWORK
from virtproof.lab.storage import FileStorage
from virtproof.runtime import runtime_directory

LAB_START_S = 60.0
DYING_S = 0.3  # that a lab's own process may end after its libvirtd
NO_DHCP = "the DHCP server of the lab was killed"


class PrivateLab:
    """A lab of one process; a context manager. ``uri`` is libvirt's, ``network`` libvirt's name."""

    network = NETWORK

    def __init__(self, cache: Path) -> None:
        sweep()
        self._directory = Path(tempfile.mkdtemp(prefix="lab-", dir=runtime_directory()))
        self._disks = cache / "labs" / self._directory.name
        self._lock = self._locked()
        self.storage = FileStorage(self._disks)
        self.admission = Admission(runtime_directory())
        self.uri = f"qemu+unix:///system?socket={self._directory}/libvirt-sock"
        self.why_together = ""
        self._expected = 0
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._make_disks()
            self._start()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> TextIO:
        """The lab's lock, taken before it has its name: no sweep ever sees a living lab unlocked."""
        making = self._directory / f".{LOCK}"
        lock = open(making, "w")  # noqa: SIM115  # open for as long as the lab lives
        fcntl.flock(lock, fcntl.LOCK_EX)
        making.rename(self._directory / LOCK)
        return lock

    def _make_disks(self) -> None:
        # The link first: who is killed in between leaves nothing that a sweep does not find.
        (self._directory / "disks").symlink_to(self._disks)
        try:
            self._disks.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise LabError(
                f"cannot make {self._disks}: {error.strerror}",
                hint="VIRTPROOF_CACHE names another place",
            ) from error

    def __enter__(self) -> PrivateLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        state = self._directory / "state"
        state.mkdir()
        config = self._directory / "config.json"
        config.write_text(
            json.dumps(
                {
                    "state": str(state),
                    "sockets": str(self._directory),
                    "broker": str(self._directory / "broker"),
                    "log": str(self._directory / "libvirtd.log"),
                    "libvirtd": _program("libvirtd"),
                    "disks": str(self._disks),
                }
            )
        )
        users = [] if os.getuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
        spaces = ["--net", "--mount", "--pid", "--ipc", "--fork", "--mount-proc", "--kill-child"]
        init = Path(__file__).with_name("init.py")
        self._process = subprocess.Popen(
            [_program("unshare"), *users, *spaces, sys.executable, "-I", str(init), str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self._lock.fileno()],  # the lab holds its lock for as long as it lives
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        )
        self._await_ready()

    def _await_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = _readline(self._process.stdout.fileno(), Deadline.after(LAB_START_S))
        answer = json.loads(line) if line.startswith(b"{") else {}
        if "ready" in answer:
            self.why_together = answer["together"]
            return
        self._process.kill()
        said = self._process.stderr.read().decode(errors="replace").strip()
        reason = answer.get("error") or (said.splitlines() or ["it did not say why"])[-1]
        raise LabError(
            f"the lab does not start: {reason}",
            hint="./run doctor says what this machine lacks",
            detail="\n".join([said, *answer.get("log", [])]),
        )

    def _ask(
        self, request: dict[str, object], timeout_s: float
    ) -> tuple[dict[str, object], list[int]]:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(timeout_s + 10)
                client.connect(str(self._directory / "broker"))
                client.sendall(json.dumps(request).encode() + b"\n")
                data, descriptors, _, _ = socket.recv_fds(client, 65536, 1)
                while data and not data.endswith(b"\n"):
                    data += client.recv(65536)
        except OSError as error:
            raise LabError(f"the lab has gone: {error}") from error
        if not data:
            raise LabError("the lab has gone: its broker closed the connection")
        return json.loads(data), list(descriptors)

    def connect_tcp(self, host: str, port: int, timeout_s: float) -> socket.socket:
        request: dict[str, object] = {
            "op": "connect",
            "host": host,
            "port": port,
            "timeout_s": timeout_s,
        }
        answer, descriptors = self._ask(request, timeout_s)
        if not descriptors:
            raise _as_it_was(answer)
        connected = socket.socket(fileno=descriptors[0])
        connected.settimeout(timeout_s)
        return connected

    def run(self, *argv: str, timeout_s: float = 30.0) -> CommandResult:
        answer, _ = self._ask({"op": "exec", "argv": list(argv), "timeout_s": timeout_s}, timeout_s)
        if "error" in answer:
            raise LabError(f"in the lab, {argv[0]} did not run: {answer['error']}")
        status, out, err = answer["status"], answer["stdout"], answer["stderr"]
        return CommandResult(" ".join(argv), int(str(status)), str(out), str(err))

    def agent_socket(self, domain: str) -> str:
        return str(self._directory / f"{domain}.agent")

    def qemu_log(self, domain: str) -> str:
        log = self._directory / "state" / "var-log-libvirt" / "qemu" / f"{domain}.log"
        deaths = self._directory / "state" / "deaths.log"
        return tail(log) + tail(deaths)

    def host_log(self, since_s: float) -> str:
        return killed_for_memory(since_s)

    def mark(self, guest: str) -> dict[str, str]:
        del guest
        return {}

    def gone(self) -> str:
        assert self._process is not None
        try:
            self._process.wait(DYING_S)
        except subprocess.TimeoutExpired:
            return f"libvirtd of the lab {'hangs' if self._is_there() else 'has gone'}"
        return "the lab was killed"

    def expect_dhcp(self) -> None:
        """From now on the lab is complete with the DHCP server that runs, and with its helper, which
        notes leases: without one of them guests would be blamed for having no address."""
        self._expected = self._dhcp_servers()

    def check(self) -> None:
        try:
            whole = self._dhcp_servers() >= self._expected
        except LabError:
            raise LabGoneError(self.gone()) from None
        if not whole:
            raise LabGoneError(NO_DHCP)

    def _dhcp_servers(self) -> int:
        # Without those that have ended: what it leaves behind as it goes to the background is reaped late.
        count = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(dnsmasq) [^ZX]'"
        return int(self.run("sh", "-c", count).stdout or 0)

    def _is_there(self) -> bool:
        """Whether a process has libvirtd's socket open, be it one that does nothing more."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._directory / "libvirt-sock")) == 0

    def abandon(self) -> None:
        self.close()

    def linger(self) -> str:
        self._ask({"op": "linger"}, 5.0)
        assert self._process is not None
        (self._directory / LINGERING).write_text(str(self._process.pid))
        return f"nsenter --target {_child_of(self._process.pid)} --all"

    def close(self) -> None:
        """End everything in the lab and remove its directories; safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.stdin and process.stdout and process.stderr:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            process.stderr.close()
        shutil.rmtree(self._disks, ignore_errors=True)
        with contextlib.suppress(OSError):  # the lab's own process may be at it as well
            remove_lab(self._directory)
        self._lock.close()


def _as_it_was(answer: dict[str, object]) -> OSError:
    """The lab's own error, of its own class, so that what was refused can be told from what is mute."""
    number = answer.get("errno")
    if isinstance(number, int):
        return OSError(number, os.strerror(number))
    return OSError(str(answer.get("error", "no connection")))


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(f"{name} is not installed", hint="./run doctor names the package")
    return found


def _readline(descriptor: int, deadline: Deadline) -> bytes:
    """One line from a pipe, or what came of it before the deadline or its end."""
    data = b""
    while not data.endswith(b"\n") and not deadline.passed:
        if select.select([descriptor], [], [], deadline.left_s)[0]:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            data += chunk
    return data


def _child_of(pid: int) -> int:
    """The lab's first process as the host numbers it: the only child of ``unshare``."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

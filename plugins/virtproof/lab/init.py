"""First process of a lab: runs inside fresh namespaces and holds everything that a lab is.

Started by ``lab.private`` as ``unshare ... python -m virtproof.lab.init CONFIG`` (CONFIG is a JSON file,
see ``LabConfig``). It is process 1 of its PID namespace, so the kernel ends libvirtd, dnsmasq and every
QEMU with it; it ends when its standard input does, hence with the process that started the lab, however
that one dies. It then removes the lab's directories. Standard library only: it must start fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

MS_REC, MS_BIND, MS_PRIVATE = 16384, 4096, 1 << 18
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
LIBVIRT_DIRECTORIES = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
LIBVIRTD_START_S = 30.0
QEMU_ACCOUNTS = ("libvirt-qemu", "qemu", "kvm")

# The filter: else libvirt asks QEMU for 411 properties of each guest's processor, one by one, where a
# few tell the same. It took a quarter of a copy's time.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
capability_filters = [ "cpu-unavailable-features" ]
"""

LIBVIRTD_CONF = """\
unix_sock_dir = "{sockets}"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:{log}"
max_clients = 200
keepalive_interval = -1
"""


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2); raises OSError with the target named."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [value.encode() if value is not None else None for value in (source, target, kind)]
    if libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount on {target}: {os.strerror(code)}")


def replicate(directory: Path) -> None:
    """Cover a directory with a writable one that shows the same children.

    An ordinary user cannot make ``/var/lib/libvirt`` on the host; in the lab's own mount namespace this
    makes room for it without hiding what else lies in ``/var/lib`` (a CI user's home, for one).
    """
    held = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    children = list(os.scandir(directory))
    mount("tmpfs", str(directory), "tmpfs", 0, "mode=0755")
    for child in children:
        place = directory / child.name
        if child.is_symlink():
            place.symlink_to(os.readlink(child.name, dir_fd=held))
        elif child.is_dir(follow_symlinks=False):
            place.mkdir()
            with contextlib.suppress(PermissionError):
                mount(f"/proc/self/fd/{held}/{child.name}", str(place), None, MS_BIND | MS_REC)
    os.close(held)


def private_directories(state: Path) -> None:
    """Bind private directories over libvirt's own, and a tmpfs on /run."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    for name in LIBVIRT_DIRECTORIES:
        target = Path(name)
        source = state / name.strip("/").replace("/", "-")
        source.mkdir(mode=0o700)
        if not target.is_dir():
            replicate(target.parent)
            target.mkdir()
        mount(str(source), name, None, MS_BIND)
    mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
    for name in ("/run/libvirt", "/run/lock"):
        Path(name).mkdir()
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)


def private_accounts(state: Path) -> None:
    """Show libvirtd the accounts that it was built to expect; the distribution's service package
    would make them on the host, and a lab must not."""
    for name, missing in (
        ("passwd", "{account}:x:0:0::/var/lib/libvirt:/usr/sbin/nologin\n"),
        ("group", "{account}:x:0:\n"),
    ):
        text = Path("/etc", name).read_text()
        known = {line.split(":", 1)[0] for line in text.splitlines()}
        for account in QEMU_ACCOUNTS:
            if account not in known:
                text += missing.format(account=account)
        private = state / name
        private.write_text(text)
        mount(str(private), f"/etc/{name}", None, MS_BIND)


def own_interfaces() -> str:
    """Show the lab's own interfaces in /sys, where libvirt isolates a bridge's ports; why not, if not.

    The /sys that was there shows those of the host. The kernel gives an ordinary user another one only
    where theirs is whole and writable, which it is not in many containers.
    """
    fresh = Path("/run/sysfs")
    fresh.mkdir()
    try:
        mount("sysfs", str(fresh), "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        for name in ("class/net", "devices/virtual/net"):
            mount(str(fresh / name), f"/sys/{name}", None, MS_BIND)
    except OSError as error:
        return str(error)
    return ""


class Broker:
    """Serves the lab's owner over a UNIX socket: one JSON request a connection.

    ``connect`` answers with a TCP socket made inside the lab's network (SCM_RIGHTS), ``exec`` runs a
    command there, ``linger`` keeps the lab alive after its owner has gone.
    """

    def __init__(self, path: Path) -> None:
        self.lingering = threading.Event()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(64)

    def serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            request = json.loads(client.makefile("rb").readline())
            descriptors: list[int] = []
            try:
                answer, descriptors = getattr(self, "do_" + request.pop("op"))(**request)
            except (OSError, subprocess.SubprocessError) as error:
                answer = {"error": str(error), "errno": getattr(error, "errno", None)}
            line = json.dumps(answer).encode() + b"\n"
            if descriptors:
                socket.send_fds(client, [line], descriptors)
                os.close(descriptors[0])
            else:
                client.sendall(line)

    def do_connect(
        self, host: str, port: int, timeout_s: float
    ) -> tuple[dict[str, Any], list[int]]:
        return {}, [socket.create_connection((host, port), timeout_s).detach()]

    def do_exec(self, argv: list[str], timeout_s: float) -> tuple[dict[str, Any], list[int]]:
        done = subprocess.run(
            argv, capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
        streams = [stream.decode(errors="replace") for stream in (done.stdout, done.stderr)]
        return {"status": done.returncode, "stdout": streams[0], "stderr": streams[1]}, []

    def do_linger(self) -> tuple[dict[str, Any], list[int]]:
        self.lingering.set()
        return {}, []


def start_libvirtd(config: dict[str, Any]) -> None:
    """Start libvirtd in the foreground and wait until its socket answers."""
    sockets, log = Path(config["sockets"]), Path(config["log"])
    conf = Path("/etc/libvirt/libvirtd.conf")
    conf.write_text(LIBVIRTD_CONF.format(sockets=sockets, log=log))
    with open(log, "ab") as output:
        daemon = subprocess.Popen(
            [config["libvirtd"], "--config", str(conf), "--pid-file", "/run/libvirtd.pid"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": "/root", "LC_ALL": "C"},
        )
    end = time.monotonic() + LIBVIRTD_START_S
    while time.monotonic() < end:
        if daemon.poll() is not None:
            fail(f"libvirtd ended at once with status {daemon.returncode}", log)
        probe = socket.socket(socket.AF_UNIX)
        with probe, contextlib.suppress(OSError):
            probe.connect(str(sockets / "libvirt-sock"))
            return
        time.sleep(0.02)
    fail(f"libvirtd did not answer within {LIBVIRTD_START_S:.0f} s", log)


def fail(reason: str, log: Path | None = None) -> NoReturn:
    """Say why on standard output, as the owner reads it, and end the lab."""
    said = log.read_text(errors="replace").splitlines()[-20:] if log and log.exists() else []
    print(json.dumps({"error": reason, "log": said}), flush=True)
    os._exit(1)


def remove_lab(directory: Path) -> None:
    """Remove a lab's directory, its lock last: whoever is killed in the middle leaves a dead lab, which
    the next sweep knows, and not a remnant without a lock."""
    for path in directory.glob("*"):
        if path.name == "lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def end(config: dict[str, Any]) -> NoReturn:
    """Kill all that runs in the lab, remove its directories, and go."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    shutil.rmtree(config["disks"], ignore_errors=True)
    with contextlib.suppress(OSError):  # the owner may be at it as well
        remove_lab(Path(config["sockets"]))
    os._exit(0)


def reap(worker: int, deaths: Path) -> NoReturn:
    """Process 1's whole life: reap every orphan, note how each QEMU died, end with the worker."""
    os.close(0)
    os.close(1)
    while True:
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if seen is None:
            continue
        name = Path(f"/proc/{seen.si_pid}/comm").read_text().strip()
        os.waitpid(seen.si_pid, 0)
        if seen.si_pid == worker:
            os._exit(0)
        if name.startswith("qemu-system"):
            how = "exited with" if seen.si_code == os.CLD_EXITED else "killed by signal"
            with contextlib.suppress(OSError), open(deaths, "a") as log:
                log.write(f"{name} {how} {seen.si_status}\n")


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle
    worker = os.fork()
    if worker:
        reap(worker, Path(config["state"]) / "deaths.log")
    work(config)


def work(config: dict[str, Any]) -> NoReturn:
    try:
        private_directories(Path(config["state"]))
        private_accounts(Path(config["state"]))
        together = own_interfaces()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        broker = Broker(Path(config["broker"]))
    except (OSError, subprocess.SubprocessError) as error:
        fail(str(error))
    start_libvirtd(config)
    threading.Thread(target=broker.serve, daemon=True).start()
    print(json.dumps({"ready": True, "together": together}), flush=True)
    while os.read(0, 4096):
        pass
    while broker.lingering.is_set():
        signal.pause()
    end(config)


if __name__ == "__main__":
    main()

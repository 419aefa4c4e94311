"""Which accelerator runs guests here: decided by booting a kernel, not by looking (HOST-1).

A device node that opens proves nothing: there are hosts where /dev/kvm makes a VM and a virtual
CPU, and every stock kernel hangs on it. So a kernel without a root disk is booted as far as its
panic about just that, which no guest reaches that does not work.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtproof import host
from virtproof.errors import LabError, MissingToolError, UsageError
from virtproof.spec import Accel

WANTED = ("auto", "kvm", "tcg")

_REACHED = re.compile(rb"VFS: Unable to mount root fs|Kernel panic - not syncing: VFS")
DEADLINE_S = {Accel.KVM: 10.0, Accel.TCG: 60.0}
_CPU = {Accel.KVM: "host", Accel.TCG: "qemu64"}
_KEEP_BYTES = 1 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One accelerator tried: whether the guest answered, the words for it, and how long it took."""

    accel: Accel
    answered: bool
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AccelVerdict:
    """The accelerator to take, why, and what was tried for it (nothing, where nothing could be)."""

    accel: Accel
    why: str
    tried: tuple[Attempt, ...] = ()

    def as_dict(self) -> dict[str, str]:
        """The shape of ``accelerator`` in ``out/run.json``."""
        return {"name": self.accel.value, "why": self.why}


def probe(
    kernel: Path | None,
    wanted: str,
    *,
    qemu: str = "qemu-system-x86_64",
    cache: Path,
    device: Path = Path("/dev/kvm"),
    deadline_s: dict[Accel, float] | None = None,
) -> AccelVerdict:
    """The accelerator for this run.

    ``kernel`` is a stock kernel (bzImage); None where there is none yet. ``cache`` is the directory
    of ``accel.json``: answers hold for this boot of the machine, this QEMU, this user.
    ``wanted`` is one of ``WANTED``. Raises LabError where the accelerator that was asked for does
    not run a guest, or none does; MissingToolError where there is no QEMU.
    """
    if wanted not in WANTED:
        raise UsageError(
            f"no accelerator is called {wanted!r}", hint=f"one of: {', '.join(WANTED)}"
        )
    binary = host.find_program(qemu)
    if binary is None:
        raise MissingToolError(f"no program {qemu}", hint="./run doctor says how to install it")
    if kernel is None:
        return _unprobed(wanted, device)
    seen = _Cache(cache, binary)
    prober = _Prober(kernel, binary, seen, device, deadline_s or DEADLINE_S)
    tried: list[Attempt] = []
    if wanted != "tcg":
        # Somebody who insists on kvm may have mended it since: a "no" is asked again.
        tried.append(prober.attempt(Accel.KVM, again=wanted == "kvm"))
        if tried[0].answered:
            return AccelVerdict(Accel.KVM, tried[0].why, tuple(tried))
        if wanted == "kvm":
            raise LabError(f"kvm runs no guests here: {tried[0].why}", hint="try --accel auto")
    tried.append(prober.attempt(Accel.TCG, again=True))
    if not tried[-1].answered:
        raise LabError(f"no accelerator runs guests here: {'; '.join(t.why for t in tried)}")
    why = "asked for; " + tried[-1].why if wanted == "tcg" else f"{tried[0].why}; {tried[-1].why}"
    return AccelVerdict(Accel.TCG, why, tuple(tried))


def _unprobed(wanted: str, device: Path) -> AccelVerdict:
    why = "not probed: no kernel"
    if wanted == "auto":
        return AccelVerdict(Accel.TCG, why)
    if wanted == "kvm" and not (node := host.device(device)).usable:
        raise LabError(f"kvm does not run guests here: {node.why}")
    return AccelVerdict(Accel(wanted), f"asked for; {why}")


class _Prober:
    """Attempts, and the memory of them."""

    def __init__(
        self,
        kernel: Path,
        binary: Path,
        cache: _Cache,
        device: Path,
        deadline_s: dict[Accel, float],
    ) -> None:
        self._kernel = kernel
        self._binary = binary
        self._cache = cache
        self._device = device
        self._deadline_s = deadline_s

    def attempt(self, accel: Accel, *, again: bool) -> Attempt:
        """From memory, or by booting; ``again`` does not trust a remembered "no"."""
        if accel is Accel.KVM and not (node := host.device(self._device)).usable:
            return Attempt(accel, False, node.why, 0.0)
        with self._cache.locked():  # of several workers one boots, and the others read
            known = self._cache.read(accel)
            if known and (known.answered or not again):
                return known
            done = _boot(self._kernel, str(self._binary), accel, self._deadline_s[accel])
            self._cache.write(done)
        return done


def _boot(kernel: Path, qemu: str, accel: Accel, deadline_s: float) -> Attempt:
    """Boot ``kernel`` without a root; the guest has answered when its console says so."""
    command = [
        *_die_with_us(),
        *(qemu, "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-machine", f"pc,accel={accel.value}", "-cpu", _CPU[accel], "-m", "256"),
        *("-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"),
    ]
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        console, errors, ended = _listen(process, start + deadline_s)
    finally:
        _end(process)
    seconds = time.monotonic() - start
    if _REACHED.search(console):
        return Attempt(accel, True, f"{accel} booted a kernel in {seconds:.1f} s", seconds)
    if ended:
        code = process.returncode
        how = "gave up" if code >= 0 else f"died of signal {-code} ({signal.strsignal(-code)})"
        said = _last_line(errors) or _last_line(console) or f"exit status {code}"
        return Attempt(accel, False, f"{accel}: QEMU {how}: {said}", seconds)
    said = _last_line(console)
    line = f"last line {said!r}" if said else "it said nothing"
    why = f"{accel} opened but the guest hung after {deadline_s:g} s: {line}"
    return Attempt(accel, False, why, seconds)


def _listen(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes, bool]:
    """Console, standard error, and whether QEMU ended of itself; back at the line waited for."""
    assert process.stdout is not None
    assert process.stderr is not None
    heard = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for stream in heard:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                stream = process.stdout if key.fileobj is process.stdout else process.stderr
                data = os.read(stream.fileno(), 65536)
                heard[stream] = (heard[stream] + data)[-_KEEP_BYTES:]
                if not data:
                    selector.unregister(stream)
            if _REACHED.search(heard[process.stdout]):
                break
        else:
            return heard[process.stdout], heard[process.stderr], not selector.get_map()
    return heard[process.stdout], heard[process.stderr], False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the group outlives the probe, whatever happened."""
    with contextlib.suppress(ProcessLookupError):  # the group may be gone already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _die_with_us() -> tuple[str, ...]:
    """The words before a command that let the kernel end it when we are killed without a chance."""
    setpriv = host.find_program("setpriv")
    return (str(setpriv), "--pdeathsig", "KILL") if setpriv else ()


def _last_line(text: bytes) -> str:
    """The last line with anything on it, without what a terminal would obey; 160 characters."""
    lines = [_ESCAPES.sub("", line).strip() for line in text.decode("latin-1").splitlines()]
    said = [line for line in lines if line]
    return said[-1][-160:] if said else ""


class _Cache:
    """``accel.json``: attempts by what they depend on. A damaged file is an empty one."""

    def __init__(self, directory: Path, qemu: Path) -> None:
        self._file = directory / "accel.json"
        self._boot = host.boot_id()
        state = qemu.stat()
        parts = (
            str(qemu.resolve()),
            str(state.st_mtime_ns),
            str(state.st_size),
            str(os.getuid()),
        )
        self._key = hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock beside the file."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, accel: Accel) -> Attempt | None:
        match self._entries().get(f"{self._key}/{accel}"):
            case {"answered": bool(answered), "why": str(why), "seconds": float(seconds)}:
                return Attempt(accel, answered, why, seconds)
        return None

    def write(self, attempt: Attempt) -> None:
        entries = self._entries() | {f"{self._key}/{attempt.accel}": asdict(attempt)}
        half = self._file.with_name(".accel.json.half")  # one writes, by the lock
        half.write_text(json.dumps({"boot": self._boot, "attempts": entries}, indent=1))
        half.replace(self._file)

    def _entries(self) -> dict[str, Any]:
        """What this boot of the machine knows; another boot may run on another machine's KVM."""
        try:
            content = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict) or content.get("boot") != self._boot:
            return {}
        attempts = content.get("attempts")
        return attempts if isinstance(attempts, dict) else {}

"""``virtproof doctor``: what this machine can do, what is missing, and the command that mends it.

Runs on a bare Python with nothing installed: it imports what needs the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from virtproof import host, packages
from virtproof.errors import VirtproofError
from virtproof.spec import Accel

if TYPE_CHECKING:
    from virtproof.images.store import ImageStore

MEMORY_MIB = 1024  # a guest of 768 MiB, and QEMU's and the harness's own
DISK_MIB = 4096  # one image being built


class State(StrEnum):
    """``missing`` stops a run, ``warn`` makes it slower or smaller."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table. ``mend`` is a command or a deed, empty where nothing is to be done."""

    name: str
    state: State
    text: str
    mend: str = ""


def diagnose(cache: Path | None = None) -> list[Check]:
    """All checks, in the order a reader wants them. ``cache`` defaults to the images' own."""
    checks: list[Check] = []
    for part in (_packages, _programs, _kernel, _resources, _images, _accelerators):
        checks += list(part(cache))
    return checks


def possible(checks: list[Check]) -> bool:
    """Whether nothing is missing that a run needs."""
    return all(check.state is not State.MISSING for check in checks)


def main(*, as_json: bool = False, out: TextIO | None = None) -> int:
    """Print the table or the JSON; 0 where a run is possible, 1 where it is not."""
    out = out or sys.stdout
    machine = host.read_host()
    checks = diagnose()
    if as_json:
        facts = {"possible": possible(checks), "host": asdict(machine)}
        print(json.dumps({**facts, "checks": [asdict(c) for c in checks]}, indent=2), file=out)
    else:
        print(_table(machine, checks), file=out)
    return 0 if possible(checks) else 1


def _table(machine: host.Host, checks: list[Check]) -> str:
    size = f"{machine.cpus} CPUs ({machine.cpu_model}), {machine.memory_mib} MiB"
    lines = [f"{machine.distribution}, Linux {machine.kernel}, {size}", ""]
    wide = max(len(check.name) for check in checks)
    lines += [f"  {check.state:<8} {check.name:<{wide}}  {check.text}" for check in checks]
    mends = [(c.name, c.mend) for c in checks if c.mend]
    if mends:
        lines += ["", "To mend it:"]
        lines += [f"  {name}: {mend}" for name, mend in mends]
    lines += ["", "A run is possible." if possible(checks) else "A run is not possible yet."]
    return "\n".join(lines)


def _packages(_: Path | None) -> list[Check]:
    name = packages.manager()
    if name is None:
        text = "no apt, dnf, zypper or pacman; virtproof/packages.txt says what a run needs"
        return [Check("packages", State.WARN, text)]
    wanted = packages.wanted(name)
    if not packages.python_fits():
        wanted += packages.wanted(f"{name}-python")
    missing = packages.missing(name, wanted)
    untested = "" if name == "apt" else f" (the list for {name} is untested)"
    if not missing:
        return [Check("packages", State.OK, f"all {len(wanted)} are installed{untested}")]
    text = f"{len(missing)} of {len(wanted)} are not installed: {' '.join(missing)}{untested}"
    return [Check("packages", State.MISSING, text, packages.install_command(name, missing))]


def _programs(_: Path | None) -> Iterator[Check]:
    for name, find in (("qemu", host.qemu), ("libvirt", host.libvirt)):
        found = find()
        if found is None:
            yield Check(name, State.MISSING, "not found")
        else:
            yield Check(name, State.OK, f"{found.version or 'version unknown'}, {found.path}")
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", State.OK, f"{version}, {sys.executable}")


def _kernel(_: Path | None) -> Iterator[Check]:
    yield _answer(
        "namespaces", host.user_namespaces(), "allow this user to make user namespaces, or be root"
    )
    if os.geteuid() != 0:
        yield _answer("subordinate ids", host.subordinate_ids(), "the usermod command above, once")
    tun = host.device(Path("/dev/net/tun"))
    yield _answer("tun", tun, "as root: modprobe tun, and chmod 0666 /dev/net/tun")
    yield _nested(host.nested())


def _nested(said: str) -> Check:
    """Whether guests can have KVM of their own (HOST-3): on the host's KVM, and under emulation."""
    if said == "on":
        return Check("nested", State.OK, "on: a guest on kvm can have KVM of its own")
    on_tcg = "a guest on tcg can have KVM of its own all the same"
    if said == "off":
        mend = "as root, while no guest runs: load kvm_intel or kvm_amd anew with nested=1"
        return Check("nested", State.WARN, f"off in the host's KVM; {on_tcg}", mend)
    return Check("nested", State.OK, f"the host does not tell; {on_tcg}")


def _answer(name: str, answer: host.Answer, mend: str) -> Check:
    if answer.usable:
        return Check(name, State.OK, answer.why)
    return Check(name, State.MISSING, answer.why, mend)


def _resources(cache: Path | None) -> Iterator[Check]:
    free = host.read_host().memory_available_mib
    state = State.OK if free >= MEMORY_MIB else State.WARN
    yield Check("memory", state, f"{free} MiB available, a guest takes {MEMORY_MIB}")
    store = _store(cache)
    if store is None:
        yield _before_setup("disk")
        return
    where = store.cache.root
    free = host.disk_free_mib(where)
    enough = free >= DISK_MIB
    text = f"{free} MiB free in {where}, building an image takes {DISK_MIB}"
    mend = "" if enough else "make room there, or set VIRTPROOF_CACHE to another folder"
    yield Check("disk", State.OK if enough else State.MISSING, text, mend)


def _images(cache: Path | None) -> Iterator[Check]:
    store = _store(cache)
    if store is None:
        yield _before_setup("images")
        return
    from virtproof.images import catalog

    for name, entry in catalog.builds().items():
        try:
            keys = {path.name for path in store.cache.items("prepared")}
            built = store.prepared_key(entry) in keys
        except VirtproofError as error:
            yield Check(f"image {name}", State.WARN, f"cannot be built here: {error}")
            continue
        text = "built" if built else "not built yet; a run that needs it builds it"
        yield Check(f"image {name}", State.OK if built else State.WARN, text)


def _accelerators(cache: Path | None) -> Iterator[Check]:
    """kvm and tcg, by booting a kernel on each; tcg alone is enough for a run."""
    store = _store(cache)
    if store is None:
        yield _before_setup("accelerators")
        return
    from virtproof.lab import accel

    try:
        kernel = store.probe_kernel() or store.fetch_probe_kernel()
        verdict = accel.probe(kernel, "auto", cache=store.cache.root)
    except VirtproofError as error:
        yield Check("accelerators", State.MISSING, str(error))
        return
    for attempt in verdict.tried:
        state = State.OK if attempt.answered else State.WARN
        yield Check(attempt.accel.value, state, attempt.why)
    yield Check("--accel auto", State.OK, f"takes {verdict.accel}")


def _before_setup(name: str) -> Check:
    return Check(name, State.WARN, "not known before ./run setup")


def _store(cache: Path | None) -> ImageStore | None:
    """The images; None where the libraries that they are made with are not installed yet."""
    try:
        from virtproof.images.store import ImageStore, default_cache
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("virtproof"):
            raise
        return None
    return ImageStore(cache or default_cache(), Accel.TCG, _progress)


def _progress(line: str) -> None:
    print(line, file=sys.stderr)

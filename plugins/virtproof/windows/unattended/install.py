"""From an installation ISO to a sealed image of an installed Windows, or one line that says why not."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import string
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import ImageError, UsageError, VirtproofError
from virtproof.images.cache import WINDOWS, Cache, Item, sha256
from virtproof.images.child import need, output
from virtproof.images.foreign import is_file_name
from virtproof.images.installed import names
from virtproof.images.prepare import DISK, Gate, claimed
from virtproof.spec import Accel
from virtproof.windows import bootstart, image
from virtproof.windows.unattended import disc, machine, medium
from virtproof.windows.unattended.answers import answers, product_key
from virtproof.windows.unattended.corrections import Wish, administrator
from virtproof.windows.unattended.machine import Limits, Machine
from virtproof.windows.unattended.wim import Edition

PASSWORD = "administrator-password"  # the file beside the disk
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
SPACE_MIB = 4096  # beside Windows itself: page file, media, what it unpacks


@dataclass(frozen=True, slots=True)
class Order:
    """What the user wants. ``size_gib``: of the disk; ``key_file``: None where no product key is given."""

    iso: Path
    virtio_win: Path
    edition: str = ""
    key_file: Path | None = None
    name: str = ""
    bus: str = "ide"
    size_gib: int = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """An order that was looked at: all that can be known before a machine is started."""

    name: str
    order: Order
    label: str
    edition: Edition
    payload: disc.Payload
    product_key: str
    address: str
    corrected: tuple[str, ...]


def plan(order: Order, cache: Cache) -> Plan:
    """Look at everything that was given. UsageError in one line for what cannot be."""
    found = medium.read(order.iso)
    edition = medium.chosen(found, order.edition)
    windows = edition.windows
    if windows is None:
        version = ".".join(map(str, edition.version))
        raise UsageError(f"{order.iso}: {edition.name} ({version}) is too old", hint=medium.GIVE)
    if edition.arch not in disc.AGENTS:
        raise UsageError(f"{order.iso}: is for {edition.arch}; machines here are x86")
    if edition.size > order.size_gib << 30:
        least = -(-edition.size >> 30) * 2
        raise UsageError(
            f"{edition.name} does not fit into {order.size_gib} GiB", hint=f"--size {least}"
        )
    key = product_key(order.key_file) if order.key_file else ""
    payload = disc.payload(order.virtio_win, windows, edition.arch)
    name = order.name or re.sub(r"[^a-z0-9.]+", "-", edition.name.lower()).strip("-")
    if not WORD.fullmatch(name) or is_file_name(name) or name == "windows":
        raise UsageError(
            f"{name!r} is no name for an image", hint="--name NAME: letters, digits, -"
        )
    told = answers(Wish(edition, "", key))
    cache.progress(f"{order.iso.name}: reading")
    parts = [sha256(order.iso), payload.digest, disc.script(), told.xml.decode()]
    text = json.dumps([*parts, order.bus, order.size_gib, name])
    address = hashlib.sha256(text.encode()).hexdigest()[:32]
    other = names(cache).get(name)
    if other is not None and other.name != address:
        raise UsageError(
            f"there is another image called {name}, made of something else",
            hint=f"--name another, or ./run images remove {name}",
        )
    return Plan(name, order, found.label, edition, payload, key, address, told.corrected)


def build(planned: Plan, cache: Cache, accel: Accel, gate: Gate | None, limits: Limits) -> Item:
    """The sealed image; installed now where it is not in the cache. ImageError in one line where it fails."""
    with cache.locked(f"{WINDOWS}-{planned.address}", planned.name):
        if (item := cache.get(WINDOWS, planned.address)) is not None:
            return item
        need("qemu-system-x86_64", "qemu-img", "qemu-nbd")
        need_mib = min((planned.edition.size >> 20) + SPACE_MIB, planned.order.size_gib << 10)
        cache.check_space(f"installing {planned.name}", need_mib)
        making = Making(planned, cache, accel, gate, limits)
        return cache.make(WINDOWS, planned.address, making.fill)


@dataclass(frozen=True, slots=True)
class Making:
    """An installation in a scratch directory of the cache."""

    plan: Plan
    cache: Cache
    accel: Accel
    gate: Gate | None
    limits: Limits

    def fill(self, scratch: Path) -> dict[str, Any]:
        """Install; then disk and password are in ``scratch`` and nothing else. Returns the image's facts."""
        order, edition = self.plan.order, self.plan.edition
        password = _password()
        wish = Wish(edition, password, self.plan.product_key)
        disk, told, console = scratch / DISK, scratch / "answers.iso", scratch / "console.log"
        disc.write(told, answers(wish).xml, self.plan.payload)
        size = f"{order.size_gib}G"
        output(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), size], f"{disk}")
        run = Machine(disk, order.bus, order.iso.absolute(), told, console, self.accel)
        begin = time.monotonic()
        try:
            facts, restarts = self._installed(run, scratch / "screen.png")
        except VirtproofError as error:
            raise self._kept(error, scratch) from None
        for path in (told, console):
            path.unlink()
        _write_secret(scratch / PASSWORD, password)
        return {
            **facts,  # first: the guest's own word for nothing that we know
            "name": self.plan.name,
            "windows": edition.windows.name if edition.windows else "",
            "edition": edition.name,
            "kernel": ".".join(map(str, edition.version)),
            "medium": self.plan.label,
            "bus": order.bus,
            "accel": self.accel.value,
            "account": administrator(edition.language),
            "restarts": restarts,
            "minutes": round((time.monotonic() - begin) / 60, 1),
        }

    def _installed(self, run: Machine, screen: Path) -> tuple[dict[str, str], int]:
        def say(line: str) -> None:
            self.cache.progress(f"{self.plan.name}: {line}")

        # No turn is held: this is no start of some seconds.
        with claimed(self.gate, run.memory_mib, say):
            seen = machine.install(run, self.limits, say, screen)
        if not _written(run.disk):
            raise ImageError(
                "the machine went off and left its disk empty",
                hint="with --disk virtio, Setup must find the driver; else its medium is damaged",
            )
        facts = machine.reported(run.console.read_bytes())
        try:
            found = image.inspect(run.disk)
        except ImageError as error:
            raise ImageError(f"no Windows is on the disk: {error.what}") from None
        for one in bootstart.judge(found):
            if one.driver == "" and not one.ok:
                say(f"beware: {one.detail}")
        say(f"{found.name} is on its disk; restarts: {seen.restarts}")
        return facts, seen.restarts

    def _kept(self, error: VirtproofError, scratch: Path) -> ImageError:
        """The error, with what was seen of the machine kept: its console has no secret, the answers have."""
        console = scratch / "console.log"
        said = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
        log = self.cache.keep_failed(self.plan.name, f"{error}\n\n{error.detail}\n{said}")
        log.chmod(0o600)
        hint, screen = error.hint, scratch / "screen.png"
        if screen.exists():
            picture = log.with_suffix(".png")
            shutil.move(screen, picture)
            picture.chmod(0o600)
            hint = hint.replace(str(screen), str(picture))
        return ImageError(f"{self.plan.name}: {error.what}; see {log}", hint=hint)


def _written(disk: Path) -> bool:
    """Whether anything but zeroes is on the disk."""
    said = output(["qemu-img", "map", "--output=json", str(disk)], f"{disk}")
    return any(part["data"] and not part["zero"] for part in json.loads(said))


def _password() -> str:
    """Of 20 letters and digits, with one of each kind that Windows' rules want."""
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    drawn = [secrets.choice(kind) for kind in kinds]
    drawn += [secrets.choice("".join(kinds)) for _ in range(17)]
    secrets.SystemRandom().shuffle(drawn)
    return "".join(drawn)


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n", encoding="ascii")

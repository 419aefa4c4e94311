"""A medium as a whole: a row for each package, its defects, and how it differs from another medium."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtproof.errors import PackageError
from virtproof.windows import checks, models
from virtproof.windows.certificates import Trust
from virtproof.windows.iso import Medium, open_medium
from virtproof.windows.looking import NotApplicable
from virtproof.windows.medium_checks import MEDIUM_CHECKS, medium_defects
from virtproof.windows.models import Model
from virtproof.windows.package import Package, packages
from virtproof.windows.signature import SignatureClass

_PCI = re.compile(r"PCI\\VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})")
_VIRTIO = "1AF4"


@dataclass(frozen=True, slots=True, order=True)
class Defect:
    """What a check found; ``place`` is the package's id, or empty for the medium itself."""

    place: str
    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A package. What could not be read is None, and a defect says why."""

    driver: str
    windows: str
    arch: str
    version: str | None
    date: str | None  # as in 2026-05-20
    ids: tuple[str, ...]  # short: 1001 for virtio's PCI devices, 1B36:0011 for others', else the id
    signature: SignatureClass | None

    @property
    def place(self) -> str:
        return f"{self.driver}/{self.windows}/{self.arch}"

    @property
    def key(self) -> str:
        """The place, the same however the driver's folder is spelled."""
        return self.place.lower()


@dataclass(frozen=True, slots=True)
class Survey:
    """All of a medium. ``rows`` are of the packages that are there; those missing are defects."""

    name: str
    label: str  # empty for a folder
    rows: tuple[Row, ...]
    defects: tuple[Defect, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def survey(path: Path, trust: Trust) -> Survey:
    """The medium at that path, looked at by every check; MediumError for what is none."""
    medium = open_medium(path)
    found = packages(medium, trust)
    defects = [
        Defect(str(package.place), check, text)
        for package in found
        for check in checks.checks_of(package)
        for text in _found(checks.defects, package, check)
    ]
    defects += [
        Defect("", check, text)
        for check in MEDIUM_CHECKS
        for text in _found(medium_defects, medium, check)
    ]
    label = next(iter(medium.labels.values()), "")
    rows = tuple(_row(package) for package in found if package.names)
    return Survey(medium.name, label, rows, tuple(defects))


def _found(
    ask: Callable[[Any, str], list[str]], about: Package | Medium, check: str
) -> Sequence[str]:
    try:
        return ask(about, check)
    except NotApplicable:
        return ()


def _row(package: Package) -> Row:
    """Of the driver's own INF, or the first one where the driver is not known; ids are of all INFs."""
    known = package.driver.inf if package.driver else ""
    named = {name.lower(): inf for name, inf in package.infs.items()}
    inf = named.get(known) or next(iter(named.values()), None)
    version = date = None
    ids: tuple[str, ...] = ()
    kind = None
    place = package.place
    if inf is not None:
        with suppress(PackageError):  # which is a defect, and told as one
            when, numbers = models.driver_version(inf)
            version, date = models.dotted(numbers), when.isoformat()
        with suppress(PackageError):
            infs = package.infs.values()
            ids = _short([m for one in infs for m in models.models(one, place.windows, place.arch)])
        kind = _signature(package, package.catalog_of(inf))
    return Row(place.driver, place.windows.name, str(place.arch), version, date, ids, kind)


def _signature(package: Package, name: str | None) -> SignatureClass | None:
    if name is None:
        return None
    try:
        found = package.catalog(name).signature
    except PackageError:
        return None
    return found.kind if found else SignatureClass.UNSIGNED


def _short(found: Sequence[Model]) -> tuple[str, ...]:
    short = set()
    for name in (name for model in found for name in model.ids):
        match = _PCI.match(name)
        if match:
            short.add(match[2] if match[1] == _VIRTIO else f"{match[1]}:{match[2]}")
        else:
            short.add(name.removeprefix("ACPI\\"))
    return tuple(sorted(short))


# --- two of them ------------------------------------------------------------------------------

_ORDER = list(SignatureClass)


@dataclass(frozen=True, slots=True)
class Change:
    """How a package differs. ``worse`` is what nobody wants of a newer medium."""

    place: str
    what: str  # lost, gained, version, ids, signature, defect, mended
    text: str
    worse: bool


def difference(old: Survey, new: Survey) -> list[Change]:
    """What has changed from one medium to the next, what is worse first."""
    before, after = ({row.key: row for row in one.rows} for one in (old, new))
    found = [
        Change(before[key].place, "lost", f"was {_version(before[key])}", True)
        for key in before
        if key not in after
    ]
    found += [
        Change(after[key].place, "gained", f"is {_version(after[key])}", False)
        for key in after
        if key not in before
    ]
    for key in before.keys() & after.keys():
        found += _changes(before[key], after[key])
    one, two = ({(d.place.lower(), d.check): d for d in side.defects} for side in (old, new))
    found += [Change(two[k].place, "defect", _told(two[k]), True) for k in two if k not in one]
    found += [Change(one[k].place, "mended", _told(one[k]), False) for k in one if k not in two]
    return sorted(found, key=lambda change: (not change.worse, change.what, change.place.lower()))


def _changes(old: Row, new: Row) -> list[Change]:
    found = []
    if _version(old) != _version(new):
        older = _numbers(new.version) < _numbers(old.version)
        found.append(Change(new.place, "version", f"{_version(old)} -> {_version(new)}", older))
    lost, gained = sorted({*old.ids} - {*new.ids}), sorted({*new.ids} - {*old.ids})
    if lost or gained:
        ids = [*(f"-{name}" for name in lost), *(f"+{name}" for name in gained)]
        found.append(Change(new.place, "ids", " ".join(ids), bool(lost)))
    if old.signature != new.signature:
        said = f"{old.signature or 'none'} -> {new.signature or 'none'}"
        found.append(Change(new.place, "signature", said, _rank(new) > _rank(old)))
    return found


def _rank(row: Row) -> int:
    return len(_ORDER) if row.signature is None else _ORDER.index(row.signature)


def _version(row: Row) -> str:
    return f"{row.version or 'unknown'} of {row.date or 'unknown'}"


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "0").split("."))


def _told(defect: Defect) -> str:
    return f"{defect.check}: {defect.text}"

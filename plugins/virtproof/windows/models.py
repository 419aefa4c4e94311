"""What an INF says of a driver: versions, files, catalog, and the devices it takes on a given Windows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from virtproof.windows.inf import Inf, InfError, Line
from virtproof.windows.platform import Arch, Windows

Version = tuple[int, int, int, int]
_DRIVER_VERSION = re.compile(r"\d{1,5}(\.\d{1,5}){0,3}")


@dataclass(frozen=True, slots=True)
class Model:
    """A line of a models section: an install section, and the hardware ids that it is for."""

    line: int
    description: str
    install: str
    ids: tuple[str, ...]  # the hardware id, then compatible ones; in capitals


@dataclass(frozen=True, slots=True)
class Target:
    """A TargetOSVersion as in ``NTamd64.10.0...19041``; what is not given fits everything."""

    arch: str = ""  # "", "x86", "amd64", "arm64" ...
    version: tuple[int, int] = (0, 0)
    product: int = 0  # 1 a workstation, 3 a server
    build: int = 0

    def fits(self, windows: Windows, arch: Arch) -> bool:
        product = 3 if windows.server else 1
        return (
            self.arch in ("", arch.lower())
            and self.version <= (windows.major, windows.minor)
            and self.product in (0, product)
            and (self.version < (windows.major, windows.minor) or self.build <= windows.build)
        )

    @property
    def rank(self) -> tuple[tuple[int, int], int, int, bool]:
        """Of several that fit, the greatest is taken."""
        return self.version, self.build, self.product, bool(self.arch)


def target(text: str, line: int = 0) -> Target:
    """The parts of a decoration; InfError for none."""
    name, *rest = text.strip().split(".")
    match = re.fullmatch(r"NT(x86|ia64|amd64|arm|arm64)?", name, re.IGNORECASE)
    numbers = [*rest, *[""] * (5 - len(rest))]
    if match is None or len(numbers) > 5:
        raise InfError(f"{text!r} is no target of Windows", line)
    try:
        major, minor, product, _suite, build = (int(part or "0", 0) for part in numbers)
    except ValueError:
        raise InfError(f"{text!r} is no target of Windows", line) from None
    return Target((match[1] or "").lower(), (major, minor), product, build)


def signature(inf: Inf) -> str:
    """[Version] Signature; InfError where it is not Windows'."""
    values = inf.value("Version", "Signature")
    text = values[0] if values else ""
    if text.upper() not in ("$WINDOWS NT$", "$CHICAGO$", "$WINDOWS 95$"):
        raise InfError(f"[Version] has the Signature {text!r}, which is not Windows'")
    return text


def driver_version(inf: Inf) -> tuple[date, Version]:
    """[Version] DriverVer: month/day/year, then w.x.y.z, the last of which may lack; InfError for none."""
    values = inf.value("Version", "DriverVer")
    if not values or len(values) < 2:
        raise InfError(f"[Version] has no whole DriverVer (it is {','.join(values or ())!r})")
    try:
        month, day, year = (int(part) for part in re.split("[/-]", values[0]))
        when = date(year, month, day)
    except ValueError:
        raise InfError(f"DriverVer has {values[0]!r} for its date") from None
    if not _DRIVER_VERSION.fullmatch(values[1]):
        raise InfError(f"DriverVer has {values[1]!r} for its version")
    one, two, three, four = [*(int(part) for part in values[1].split(".")), 0, 0, 0][:4]
    return when, (one, two, three, four)


def catalog_name(inf: Inf, arch: Arch) -> str | None:
    """The catalog's file name: CatalogFile.NTamd64, CatalogFile.NT or CatalogFile."""
    for key in (f"CatalogFile.NT{arch}", "CatalogFile.NT", "CatalogFile"):
        values = inf.value("Version", key)
        if values and values[0]:
            return values[0]
    return None


def source_files(inf: Inf, arch: Arch) -> tuple[str, ...]:
    """The files of [SourceDisksFiles] and of its section for the architecture, as they are spelled."""
    names = {}
    for section in ("SourceDisksFiles", f"SourceDisksFiles.{arch}"):
        for line in inf.lines(section):
            name = line.key if line.key is not None else line.values[0]
            if name:
                names[name.lower()] = name
    return tuple(names.values())


def models(inf: Inf, windows: Windows, arch: Arch) -> tuple[Model, ...]:
    """What Windows would match devices against: of each manufacturer, the section that fits best.

    InfError where [Manufacturer] names a section that is not there.
    """
    found: list[Model] = []
    for line in inf.lines("Manufacturer"):
        if not line.values or not line.values[0]:
            continue
        name, *decorations = line.values
        fitting = [
            one for one in decorations if one and target(one, line.number).fits(windows, arch)
        ]
        if fitting:
            best = max(fitting, key=lambda one: target(one).rank)
            section = f"{name}.{best}"
        elif not [one for one in decorations if one] or name in inf:
            section = name
        else:
            continue
        if section not in inf:
            raise InfError(f"[Manufacturer] names [{section}], which is not there", line.number)
        found += [_model(one) for one in inf.lines(section)]
    return tuple(found)


def _model(line: Line) -> Model:
    install, *ids = line.values
    return Model(line.number, line.key or "", install, tuple(one.upper() for one in ids if one))


def install_section(inf: Inf, name: str, arch: Arch) -> str | None:
    """The section that installs a model: NAME.NTamd64, NAME.NT or NAME, whichever comes first."""
    for section in (f"{name}.NT{arch}", f"{name}.NT", name):
        if section in inf:
            return section
    return None


def dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)

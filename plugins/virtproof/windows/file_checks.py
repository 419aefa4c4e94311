"""Checks of a package's own files: INF and .sys. Each gives the defects it finds, a line each."""

from __future__ import annotations

from collections.abc import Iterator

from virtproof.errors import PackageError
from virtproof.windows import models
from virtproof.windows.inf import Inf
from virtproof.windows.looking import NotApplicable, drivers, hardware_ids, readable
from virtproof.windows.models import dotted
from virtproof.windows.package import Package


def files_complete(package: Package) -> list[str]:
    """INF, catalog and every file that the INF installs are there."""
    if not package.names:
        return [f"there is no {package.place}, though other drivers are there for it"]
    found = []
    driver = package.driver
    if driver is not None and not package.has(driver.inf):
        found.append(f"{driver.inf} is missing")
    elif not package.inf_names:
        found.append("there is no INF")
    for name, inf in package.infs.items():
        catalog = models.catalog_name(inf, package.place.arch)
        if catalog is None:
            found.append(f"{name} names no catalog")
        elif not package.has(catalog):
            found.append(f"{catalog} is missing, the catalog of {name}")
        files = models.source_files(inf, package.place.arch)
        found += [
            f"{file} is missing, which {name} installs" for file in files if not package.has(file)
        ]
    return found


def inf_parses(package: Package) -> list[str]:
    """Each INF is one of Windows', is for this Windows and architecture, and lacks no section or string."""
    if not package.inf_names:
        raise NotApplicable("there is no INF")
    found = []
    for name in package.inf_names:
        try:
            inf = package.inf(name)
            models.signature(inf)
            lines = [f"line {line}: %{key}% has no string" for line, key in inf.undefined()]
            found += [f"{name}: {line}" for line in [*lines, *_uninstalled(inf, package)]]
        except PackageError as error:
            found.append(f"{name}: {error}")
    return found


def _uninstalled(inf: Inf, package: Package) -> Iterator[str]:
    """Faults of the models: none for this Windows, and those without a section that installs them."""
    arch = package.place.arch
    found = models.models(inf, package.place.windows, arch)
    if not found and inf.value("Version", "Class") and "Manufacturer" in inf:
        yield f"no models section is for {package.place.windows.title} on {arch}"
    for model in found:
        if model.install and models.install_section(inf, model.install, arch) is None:
            device = model.ids[0] if model.ids else "a device"
            yield f"line {model.line}: [{model.install}] is not there, which installs {device}"


def ids_complete(package: Package) -> list[str]:
    """The INF takes the device in each form that QEMU gives it: transitional and modern."""
    driver = package.driver
    if driver is None or not (driver.devices or driver.either):
        raise NotApplicable("no list of this driver's hardware ids is known")
    ids = {name for inf in readable(package).values() for name in hardware_ids(inf, package)}
    found = [
        f"nothing takes the {device.name} device {device.ids[0]}"
        for device in driver.devices
        if not ids.intersection(device.ids)
    ]
    if driver.either and not any(ids.intersection(device.ids) for device in driver.either):
        found.append(f"nothing takes {' or '.join(device.ids[-1] for device in driver.either)}")
    return found


def driverver_matches_sys(package: Package) -> list[str]:
    """DriverVer has the version that the .sys files have."""
    found, seen = [], False
    for name, inf in readable(package).items():
        try:
            wanted = models.driver_version(inf)[1]
        except PackageError as error:
            found.append(f"{name}: {error}")
            continue
        for file, executable in drivers(inf, package):
            seen = True
            if executable.version is None:
                found.append(f"{file} has no version")
            elif executable.version != wanted:
                version = dotted(executable.version)
                found.append(f"DriverVer of {name} is {dotted(wanted)}, {file} is {version}")
    if not (seen or found):
        raise NotApplicable("the INF installs no .sys that could be read")
    return found


def pe_architecture(package: Package) -> list[str]:
    """Each .sys is for the architecture of its folder."""
    found, seen = [], False
    for inf in readable(package).values():
        for file, executable in drivers(inf, package):
            seen = True
            if executable.arch is not package.place.arch:
                machine = executable.arch or f"machine {executable.machine:#06x}"
                found.append(f"{file} is for {machine}, not {package.place.arch}")
    if not seen:
        raise NotApplicable("the INF installs no .sys that is there")
    return found

"""The running kernel of a guest: release, modules, built-ins, options. Source: procfs, kmod."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from virtproof.errors import CommandError, UsageError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import MARKER, Facts, clean

_SCRIPT = r"""
rec kernel running
say release "$(uname -r)"
first cmdline /proc/cmdline; first taint /proc/sys/kernel/tainted
rec modules loaded
while read -r name size users by rest; do say module "$name $size $users $by"; done </proc/modules
"""

# Names only: modules.dep of a distribution's kernel has 4,000 lines of 100 characters. The module
# directories of /sys show built-ins of a kernel without modules.builtin.
_CATALOGUE = r"""
d=/lib/modules/$(uname -r)
rec modules available
[ ! -r "$d/modules.dep" ] || sed -e 's/:.*//' -e 's|.*/||' -e 's/^/file	/' "$d/modules.dep"
rec modules builtin
[ ! -r "$d/modules.builtin" ] || sed -e 's|.*/||' -e 's/^/file	/' "$d/modules.builtin"
rec modules present
for m in /sys/module/*; do say name "${m##*/}"; done
"""

_CONFIG = r"""
release=$(uname -r)
for f in "/boot/config-$release" "/lib/modules/$release/config" "/usr/lib/modules/$release/config"
do [ ! -r "$f" ] || exec grep '^CONFIG_' "$f"; done
[ ! -r /proc/config.gz ] || { zcat /proc/config.gz | grep '^CONFIG_'; exit; }
echo 'no kernel configuration in /boot, /lib/modules or /proc' >&2
exit 3
"""


def normal(module: str) -> str:
    """A module's name as lsmod shows it: no directory, no ``.ko``, ``_`` for ``-``."""
    name = module.rsplit("/", 1)[-1]
    return re.sub(r"\.ko(\.[a-z0-9]+)?$", "", name).replace("-", "_")


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A line of lsmod. ``size_bytes`` in memory; ``users`` -1 where it cannot be unloaded."""

    name: str
    size_bytes: int
    users: int
    used_by: tuple[str, ...]


class KernelProbe:
    """The running kernel. Three commands at most, each on first use, kept until ``refresh``."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._facts = Facts(runner, "kernel", _SCRIPT)
        self._catalogue = Facts(runner, "modules", _CATALOGUE)
        self._config: dict[str, str] | None = None

    def refresh(self) -> None:
        self._facts.refresh()
        self._catalogue.refresh()
        self._config = None

    @property
    def release(self) -> str:
        """As ``uname -r``.

        >>> kernel.release
        '6.1.0-56-amd64'
        """
        return self._facts.one("kernel").text("release")

    @property
    def version(self) -> tuple[int, ...]:
        """The numbers a release begins with, two or three, to be compared.

        >>> kernel.version >= (2, 6, 25)
        True
        """
        match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", self.release)
        if match is None:
            raise CommandError(f"kernel release {self.release!r} does not begin with N.N or N.N.N")
        return tuple(int(part) for part in match.groups() if part is not None)

    @property
    def cmdline(self) -> tuple[str, ...]:
        """The kernel's command line, by words.

        >>> kernel.cmdline[:2]
        ('root=LABEL=root', 'ro')
        """
        return tuple((self._facts.one("kernel").get("cmdline") or "").split())

    @property
    def taint(self) -> int:
        """/proc/sys/kernel/tainted, 0 for a clean kernel.

        >>> kernel.taint
        0
        """
        return self._facts.one("kernel").number("taint")

    @property
    def lsmod(self) -> tuple[LoadedModule, ...]:
        """Every loaded module.

        >>> [m for m in kernel.lsmod if m.name == "ata_piix"]
        [LoadedModule(name='ata_piix', size_bytes=45056, users=1, used_by=())]
        """
        return tuple(_loaded(line) for line in self._facts.one("modules").all("module"))

    def loaded(self, module: str) -> bool:
        """Whether lsmod shows it; a built-in is not loaded.

        >>> kernel.loaded("ata-piix"), kernel.loaded("virtio_blk")
        (True, False)
        """
        return normal(module) in {entry.name for entry in self.lsmod}

    def builtin(self, module: str) -> bool:
        """Whether it is built in: in modules.builtin, or in /sys/module and no module.

        >>> kernel.builtin("ext4"), kernel.builtin("unix")
        (False, True)
        """
        name = normal(module)
        if name in self._names("builtin", "file"):
            return True
        present = name in self._names("present", "name")
        return present and not self.loaded(name) and name not in self._names("available", "file")

    def available(self, module: str) -> bool:
        """Whether the kernel has it, as a module on disk or built in.

        >>> kernel.available("virtio_net"), kernel.available("virtio_warp")
        (True, False)
        """
        return self.supports(module) is not None

    def supports(self, driver: str) -> Literal["module", "builtin"] | None:
        """How the kernel has a driver, None where it has not.

        >>> kernel.supports("virtio_blk"), kernel.supports("unix"), kernel.supports("virtio_warp")
        ('module', 'builtin', None)
        """
        if self.builtin(driver):
            return "builtin"
        return "module" if normal(driver) in self._names("available", "file") else None

    def config(self, option: str) -> str | None:
        """An option of the kernel's configuration: ``y``, ``m``, a value, or None where not set.

        >>> kernel.config("CONFIG_VIRTIO_BLK"), kernel.config("NO_SUCH_OPTION")
        ('m', None)
        """
        if re.fullmatch(r"[A-Za-z0-9_]+", option) is None:
            raise UsageError(f"{option!r} is no kernel option", hint="as CONFIG_VIRTIO_BLK")
        if self._config is None:
            command = f"{MARKER}config\n{_CONFIG}"
            self._config = _config(self._runner.run(command, timeout_s=60).stdout)
        return self._config.get(option if option.startswith("CONFIG_") else f"CONFIG_{option}")

    def _names(self, source: str, key: str) -> frozenset[str]:
        for record in self._catalogue.of_kind("modules"):
            if record.name == source:
                return frozenset(normal(value) for value in record.all(key))
        raise CommandError(f"probe modules: no record 'modules {source}'")


def _loaded(line: str) -> LoadedModule:
    parts = line.split()
    if len(parts) != 4 or not parts[1].isdigit():
        raise CommandError(f"/proc/modules said {line[:80]!r}, expected 'NAME SIZE USERS BY'")
    name, size, users, by = parts
    used_by = tuple(part for part in by.split(",") if part not in ("", "-"))
    return LoadedModule(name, int(size), int(users) if users.isdigit() else -1, used_by)


def _config(text: str) -> dict[str, str]:
    options = re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE)
    if not options:
        raise CommandError(f"the kernel configuration has no line 'CONFIG_X=', but {text[:80]!r}")
    return {name: clean(value).strip('"') for name, value in options}

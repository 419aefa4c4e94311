"""What a kernel supports: its configuration, what is built in, its modules, what its virtio drivers take.

Read from the files of a kernel, wherever they lie (``Files``): nothing is booted, nothing is asked of a
running kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from virtproof.kernel.table import VirtioDriver, virtio_drivers
from virtproof.kernel.unpack import KernelFileError

CONFIG, BUILTIN = "config", "modules.builtin"
_OPTION = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)
_MODULE = re.compile(r"\.ko(\.(xz|zst|gz))?$")


class Files(Protocol):
    """A kernel's files, by their names below ``lib/modules/RELEASE`` (``kernel/drivers/net/virtio_net.ko``);
    ``config`` is its configuration, wherever the distribution has that."""

    release: str

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> bytes | None: ...


def normal(module: str) -> str:
    """A module's name as lsmod shows it: no directory, no ``.ko``, ``_`` for ``-``.

    >>> normal("kernel/drivers/char/hw_random/virtio-rng.ko.xz")
    'virtio_rng'
    """
    return _MODULE.sub("", module.rsplit("/", 1)[-1]).replace("-", "_")


def options(config: bytes) -> dict[str, str]:
    """The options of a configuration that are set, without ``CONFIG_``: ``y``, ``m`` or a value.

    >>> options(b'CONFIG_VIRTIO=m\\n# CONFIG_EISA is not set\\nCONFIG_DEFAULT_HOSTNAME="(none)"\\n')
    {'VIRTIO': 'm', 'DEFAULT_HOSTNAME': '(none)'}
    """
    text = config.decode("utf-8", "replace")
    return {name: value.strip().strip('"') for name, value in _OPTION.findall(text)}


def builtin(listing: bytes) -> frozenset[str]:
    """The names in ``modules.builtin``.

    >>> sorted(builtin(b"kernel/net/unix/unix.ko\\nkernel/drivers/virtio/virtio-mmio.ko\\n"))
    ['unix', 'virtio_mmio']
    """
    return frozenset(normal(line) for line in listing.decode("utf-8", "replace").split())


@dataclass(frozen=True, slots=True)
class Support:
    """What a kernel supports. ``config`` is None where the kernel came without its configuration,
    ``builtin`` None without ``modules.builtin``; ``modules``: name (as of lsmod) to file."""

    release: str
    config: Mapping[str, str] | None
    builtin: frozenset[str] | None
    modules: Mapping[str, str]
    _files: Files = field(repr=False, compare=False)

    def has(self, driver: str) -> Literal["module", "builtin"] | None:
        """How the kernel has a driver (a name as of lsmod); None where it has not."""
        name = normal(driver)
        if name in self.modules:
            return "module"
        return "builtin" if self.builtin is not None and name in self.builtin else None

    def virtio_driver(self, driver: str) -> VirtioDriver | None:
        """What a virtio driver takes; None where that is not known: it is built in, or there is none.

        KernelFileError where its module cannot be read, or has no virtio driver.
        """
        file = self.modules.get(normal(driver))
        if file is None:
            return None
        data = self._files.read(file)
        if data is None:
            raise KernelFileError(f"{file} of kernel {self.release} cannot be read")
        name = normal(driver)
        for found in virtio_drivers(data, file):
            if normal(found.name) == name:
                return found
        raise KernelFileError(f"{file} of kernel {self.release} has no virtio driver")


def support(files: Files) -> Support:
    """What the kernel of these files supports."""
    config, listing = files.read(CONFIG), files.read(BUILTIN)
    return Support(
        files.release,
        None if config is None else options(config),
        None if listing is None else builtin(listing),
        {normal(name): name for name in files.names() if _MODULE.search(name)},
        files,
    )

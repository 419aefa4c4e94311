"""Registry hives, read by regipy: keys by path, values by name; never written.

What a hive says is hostile: whoever reads one does so in a process with bounds (``offline``).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any

from construct import ConstructError
from regipy.exceptions import RegipyException
from regipy.registry import RegistryHive

from virtproof.errors import ImageError

SMALLEST = 4096 + 32
MOST_NAMES = 20_000  # subkeys of one key: a SYSTEM hive's largest has some 3,000
MOST_VALUES = 1_000
# What the libraries raise on a damaged hive: construct's compiled parsers raise Python's own, too.
_FAULTS = (RegipyException, ConstructError, struct.error, ValueError, LookupError, OverflowError)


class Hive:
    """One hive. Paths are below its root, parted by ``\\``; case does not matter."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        if len(data) < SMALLEST or data[:4] != b"regf":
            raise ImageError(f"hive {name} is none: {len(data)} bytes, beginning {data[:4]!r}")
        # Of a hive that was not written out wholly, the rest stands in its transaction logs.
        first, second = struct.unpack_from("<II", data, 4)
        self.unfinished = first != second
        # The library takes a path. In memory, so that nothing is left of it however we end.
        with open(os.memfd_create(f"hive-{name}"), "wb") as file:
            file.write(data)
            file.flush()
            path = f"/proc/self/fd/{file.fileno()}"
            try:
                self._hive: Any = RegistryHive(path)  # type: ignore[no-untyped-call]
            except _FAULTS as error:
                raise ImageError(f"hive {name} is damaged: {_words(error)}") from None

    def has(self, path: str) -> bool:
        """Whether there is such a key."""
        return self._key(path) is not None

    def value(self, path: str, name: str) -> Any:
        """A value (int, str, list or bytes); None where there is none. The default one's name is ""."""
        return self.values(path).get(name.lower())

    def values(self, path: str) -> dict[str, Any]:
        """A key's values by lower-case name; none where there is no such key."""
        key = self._key(path)
        found: dict[str, Any] = {}
        if key is None or not key.values_count:
            return found
        with _told(self.name, path):
            for value in key.iter_values(trim_values=False):
                name = "" if value.name == "(default)" else str(value.name).lower()
                found[name] = value.value
                if len(found) > MOST_VALUES:
                    raise ImageError(f"hive {self.name}: {path} has more than {MOST_VALUES} values")
        return found

    def names(self, path: str) -> list[str]:
        """Names of a key's subkeys; none where there is no such key."""
        key = self._key(path)
        found: list[str] = []
        if key is None:
            return found
        with _told(self.name, path):
            for subkey in key.iter_subkeys():
                found.append(str(subkey.name))
                if len(found) > MOST_NAMES:
                    raise ImageError(f"hive {self.name}: {path} has more than {MOST_NAMES} keys")
        return found

    def _key(self, path: str) -> Any:
        key: Any = self._hive.root
        with _told(self.name, path):
            for part in path.split("\\"):
                key = next(
                    (sub for sub in _subkeys(self.name, key) if sub.name.upper() == part.upper()),
                    None,
                )
                if key is None:
                    return None
        return key


def _subkeys(name: str, key: Any) -> Iterator[Any]:
    for number, subkey in enumerate(key.iter_subkeys() or ()):
        if number > MOST_NAMES:
            raise ImageError(f"hive {name}: a key has more than {MOST_NAMES} keys")
        yield subkey


@contextlib.contextmanager
def _told(hive: str, path: str) -> Iterator[None]:
    """What the libraries raise on a damaged hive, as one line that names hive and key."""
    try:
        yield
    except _FAULTS as error:
        raise ImageError(f"hive {hive}: {path} is damaged: {_words(error)}") from None


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:160]

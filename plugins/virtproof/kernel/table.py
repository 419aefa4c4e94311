"""The virtio drivers of a kernel module: device types and feature tables, read from its ELF file.

``struct virtio_driver`` (linux/virtio.h) has, one after another, pointers to its device table and its
feature table, that table's length, and pointer and length of the table for legacy devices. What stands
before them has another size in each kernel, so they are found by what they point to: a table of virtio
devices, each an id and a vendor (any), ended by zeros.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from virtproof.kernel.unpack import KernelFileError, unpacked

ANY_VENDOR = 0xFFFFFFFF
MOST_DEVICES, MOST_FEATURES, MOST_BITS = 16, 256, 1024
_POINTER = 1  # R_X86_64_64
_X86_64 = "EM_X86_64"


@dataclass(frozen=True, slots=True)
class VirtioDriver:
    """A driver of a module. ``features``: bits that it takes; ``legacy``: those it takes of a device without
    F_VERSION_1 (the same where it has no table of its own for them)."""

    name: str
    device_ids: tuple[int, ...]
    features: frozenset[int]
    legacy: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Place:
    section: int
    offset: int


class _Module:
    """Sections and relocations of an ELF file of the kind that modules are."""

    def __init__(self, elf: ELFFile) -> None:
        self._elf = elf
        self._data: dict[int, bytes] = {}
        symbols = elf.get_section_by_name(".symtab")
        if symbols is None:
            raise ELFError("it has no symbols")
        self._symbols: Any = symbols
        self.pointers = self._read_pointers()

    def _read_pointers(self) -> Mapping[_Place, _Place]:
        found: dict[_Place, _Place] = {}
        for section in self._elf.iter_sections():
            if not isinstance(section, RelocationSection) or not section.is_RELA():
                continue
            target = int(section["sh_info"])
            if not str(self._elf.get_section(target).name).startswith(".data"):
                continue
            for entry in section.iter_relocations():
                symbol = self._symbols.get_symbol(entry["r_info_sym"])
                where = symbol["st_shndx"]
                if entry["r_info_type"] == _POINTER and isinstance(where, int):
                    offset = symbol["st_value"] + entry["r_addend"]
                    found[_Place(target, entry["r_offset"])] = _Place(where, offset)
        return found

    def bytes_at(self, place: _Place, count: int) -> bytes:
        """So many bytes, fewer where the section ends."""
        if place.section not in self._data:
            self._data[place.section] = self._content(self._elf.get_section(place.section))
        return self._data[place.section][place.offset : place.offset + count]

    @staticmethod
    def _content(section: Any) -> bytes:
        if section["sh_type"] != "SHT_NOBITS":
            return bytes(section.data())
        # A table of the bit 0 alone is all zeros, and lies in .bss.
        return bytes(min(section["sh_size"], 1 << 16))

    def words(self, place: _Place, most: int) -> tuple[int, ...]:
        data = self.bytes_at(place, 4 * most)
        return struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])

    def text(self, place: _Place) -> str:
        return self.bytes_at(place, 64).partition(b"\0")[0].decode("ascii", "replace")

    def name_at(self, place: _Place) -> str:
        """What the object around a place calls itself: the string that its first pointer points to."""
        for symbol in self._symbols.iter_symbols():
            begin, size = symbol["st_value"], symbol["st_size"]
            inside = symbol["st_shndx"] == place.section and begin <= place.offset < begin + size
            if inside and symbol["st_info"]["type"] == "STT_OBJECT":
                name = self.pointers.get(_Place(place.section, begin))
                return self.text(name) if name else ""
        return ""


def virtio_drivers(data: bytes, name: str) -> tuple[VirtioDriver, ...]:
    """The virtio drivers of a module (.ko, also packed); none where it has none.

    KernelFileError where it is no module of x86-64, or is damaged.
    """
    content = unpacked(data, name)
    try:
        elf = ELFFile(io.BytesIO(content))
        if elf["e_machine"] != _X86_64 or elf["e_type"] != "ET_REL":
            raise KernelFileError(f"{name} is no kernel module for x86-64")
        module = _Module(elf)
        drivers = [_driver(module, place) for place in sorted(module.pointers, key=_order)]
    except KernelFileError:
        raise
    except Exception as error:  # noqa: BLE001  # the library trusts the file, and breaks anywhere
        raise KernelFileError(f"{name} is no whole ELF file: {error}") from None
    return tuple(driver for driver in drivers if driver is not None)


def _order(place: _Place) -> tuple[int, int]:
    return place.section, place.offset


def _driver(module: _Module, at: _Place) -> VirtioDriver | None:
    """The driver whose pointer to a table of virtio devices stands here; None where it is none."""
    ids = _device_ids(module.words(module.pointers[at], 2 * MOST_DEVICES))
    if not ids:
        return None
    features, own = _features(module, at, 8)
    legacy, has_legacy = _features(module, at, 24)
    name = module.name_at(at)
    return VirtioDriver(name, ids, features, legacy if has_legacy else features) if own else None


def _device_ids(words: tuple[int, ...]) -> tuple[int, ...]:
    """The device types of a table of (type, vendor) that ends with zeros; none where it is not one."""
    found: list[int] = []
    for kind, vendor in zip(words[::2], words[1::2], strict=False):
        if (kind, vendor) == (0, 0):
            return tuple(found)
        if vendor != ANY_VENDOR or not 0 < kind < 4096:
            return ()
        found.append(kind)
    return ()


def _features(module: _Module, at: _Place, offset: int) -> tuple[frozenset[int], bool]:
    """The bits of a table whose pointer stands ``offset`` behind; and whether there is one (a table may be
    left out, which the kernel reads as one of no bits)."""
    count = (*module.words(_Place(at.section, at.offset + offset + 8), 1), 0)[0]
    where = module.pointers.get(_Place(at.section, at.offset + offset))
    if where is None or count == 0:
        return frozenset(), offset == 8 or where is not None
    bits = module.words(where, min(count, MOST_FEATURES))
    if count > MOST_FEATURES or len(bits) < count or max(bits) >= MOST_BITS:
        raise KernelFileError("a virtio feature table has no sane size")
    return frozenset(bits), True

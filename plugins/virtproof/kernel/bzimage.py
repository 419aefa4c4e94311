"""A kernel image for x86 (bzImage): its release, and what is built into it.

Offsets are those of the boot protocol (Linux, Documentation/arch/x86/boot.rst).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from virtproof.kernel.unpack import KernelFileError, unpacked

LARGEST = 512 << 20  # bytes of an unpacked kernel; a distribution's has 60 MiB
_CONFIG = b"IKCFG_ST"
_FOREIGN = {
    b"\x7fELF": "an ELF file (vmlinux?)",
    b"\x1f\x8b": "packed by gzip (of another architecture?)",
    b"!<ar": "an archive (a package? give it to --kernel-deb)",
}


def release_of(data: bytes, name: str) -> str:
    """The release (as ``uname -r``) that a kernel image says in its header.

    KernelFileError that says what the file is, where it is no bzImage for x86-64.
    """
    if data[0x38:0x3C] == b"ARMd":
        raise KernelFileError(f"{name} is a kernel for arm64, and guests are x86-64")
    if data[0x202:0x206] != b"HdrS" or data[0x1FE:0x200] != b"\x55\xaa":
        kind = next((text for mark, text in _FOREIGN.items() if data.startswith(mark)), "")
        raise KernelFileError(
            f"{name} is no bzImage{f', but {kind}' if kind else ''}",
            hint="make bzImage leaves one in arch/x86/boot",
        )
    if not struct.unpack_from("<H", data, 0x236)[0] & 1:
        raise KernelFileError(f"{name} is a kernel of 32 bits, and guests are x86-64")
    at = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    words = data[at : at + 256].partition(b"\0")[0].decode("ascii", "replace").split()
    if not words or not re.fullmatch(r"[0-9][\w.+~-]*", words[0]):
        raise KernelFileError(f"{name} does not say its release")
    return words[0]


def kernel_of(data: bytes, name: str) -> bytes | None:
    """The kernel itself, unpacked; None where it is packed in a way that is not read here (LZ4, LZO)."""
    start = (data[0x1F1] or 4) * 512 + 512
    offset, length = struct.unpack_from("<II", data, 0x248)
    payload = data[start + offset : start + offset + length]
    try:
        found = unpacked(payload, name, LARGEST)
    except KernelFileError:
        return None
    return None if found is payload else found


def config_of(kernel: bytes) -> bytes | None:
    """The configuration inside of a kernel (CONFIG_IKCONFIG); None where it has none."""
    at = kernel.find(_CONFIG)
    if at < 0:
        return None
    return unpacked(kernel[at + len(_CONFIG) :], "the kernel's own configuration")


def drivers_of(kernel: bytes, names: Iterable[str]) -> frozenset[str]:
    """Which of these drivers are built into a kernel: a driver's name stands in it, ended by a zero."""
    return frozenset(name for name in names if name.encode() + b"\0" in kernel)

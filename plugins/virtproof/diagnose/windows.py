"""Names of the Windows stop codes that a guest on new devices is likely to meet; how screens show them."""

from __future__ import annotations

import difflib
import re
from typing import Final

# Values and names: the bug check code reference of Windows' driver documentation.
_STOPS: Final[dict[int, str]] = {
    0x0A: "IRQL_NOT_LESS_OR_EQUAL",
    0x19: "BAD_POOL_HEADER",
    0x1E: "KMODE_EXCEPTION_NOT_HANDLED",
    0x24: "NTFS_FILE_SYSTEM",
    0x3B: "SYSTEM_SERVICE_EXCEPTION",
    0x50: "PAGE_FAULT_IN_NONPAGED_AREA",
    0x51: "REGISTRY_ERROR",
    0x5C: "HAL_INITIALIZATION_FAILED",
    0x5D: "UNSUPPORTED_PROCESSOR",
    0x67: "CONFIG_INITIALIZATION_FAILED",
    0x69: "IO1_INITIALIZATION_FAILED",
    0x6B: "PROCESS1_INITIALIZATION_FAILED",
    0x73: "CONFIG_LIST_FAILED",
    0x74: "BAD_SYSTEM_CONFIG_INFO",
    0x77: "KERNEL_STACK_INPAGE_ERROR",
    0x7A: "KERNEL_DATA_INPAGE_ERROR",
    0x7B: "INACCESSIBLE_BOOT_DEVICE",
    0x7C: "BUGCODE_NDIS_DRIVER",
    0x7E: "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
    0x7F: "UNEXPECTED_KERNEL_MODE_TRAP",
    0x80: "NMI_HARDWARE_FAILURE",
    0x8E: "KERNEL_MODE_EXCEPTION_NOT_HANDLED",
    0x9F: "DRIVER_POWER_STATE_FAILURE",
    0xA5: "ACPI_BIOS_ERROR",
    0xBE: "ATTEMPTED_WRITE_TO_READONLY_MEMORY",
    0xC1: "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION",
    0xC2: "BAD_POOL_CALLER",
    0xC4: "DRIVER_VERIFIER_DETECTED_VIOLATION",
    0xC5: "DRIVER_CORRUPTED_EXPOOL",
    0xC9: "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
    0xCE: "DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS",
    0xD1: "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
    0xD5: "DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL",
    0xD6: "DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION",
    0xDA: "SYSTEM_PTE_MISUSE",
    0xE6: "DRIVER_VERIFIER_DMA_VIOLATION",
    0xED: "UNMOUNTABLE_BOOT_VOLUME",
    0xEF: "CRITICAL_PROCESS_DIED",
    0xF4: "CRITICAL_OBJECT_TERMINATION",
    0xFC: "ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY",
    0x101: "CLOCK_WATCHDOG_TIMEOUT",
    0x10D: "WDF_VIOLATION",
    0x124: "WHEA_UNCORRECTABLE_ERROR",
    0x133: "DPC_WATCHDOG_VIOLATION",
    0x139: "KERNEL_SECURITY_CHECK_FAILURE",
    0x154: "UNEXPECTED_STORE_EXCEPTION",
    0x1000007E: "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED_M",
    0xC0000225: "STATUS_NOT_FOUND",
}


def stop_name(code: int) -> str:
    """The code's name, or ``unnamed`` for one that this table does not hold."""
    return _STOPS.get(code, "unnamed")


# A code as a reader of pictures may see it: the first 0 as @ or ©, others as O, 1 as I or l, 5 as S.
_SEEN: Final = re.compile(r"(?<![0-9A-Za-z])[0OoQ@©]x([0-9A-Fa-fOoQIlS]{8})(?![0-9A-Fa-f])")
_MISREAD: Final = str.maketrans("OoQIlS", "000115")
_ALIKE: Final = 0.92  # of a name's letters; the names differ by more


def screen_stop(text: str) -> str:
    """The stop that a picture's text tells, as ``windows 0x0000007b INACCESSIBLE_BOOT_DEVICE``, or empty.

    Names are English and codes alike in every language of Windows. Only what the table holds counts: a
    misread number is nothing, rather than another stop.
    """
    by_letters = {_letters(name): code for code, name in _STOPS.items()}
    for line in text.splitlines():
        for seen in _SEEN.findall(line):
            code = int(seen.translate(_MISREAD), 16)
            if code in _STOPS:
                return _told(code)
        told = _letters(re.sub(r"\([^)]*\)", "", line.rpartition(":")[2]))
        if near := difflib.get_close_matches(told, by_letters, n=1, cutoff=_ALIKE):
            return _told(by_letters[near[0]])
    return ""


def _told(code: int) -> str:
    return f"windows {code:#010x} {_STOPS[code]}"


def _letters(text: str) -> str:
    return "".join(char for char in text.upper() if char.isalnum())

"""What the kernel has against what was seen: a cell's verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Name = Literal["works", "not-supported", "broken"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is empty for what works."""

    name: Name
    reason: str = ""


WORKS = Verdict("works")


def lacking(modules: Iterable[str], has: Callable[[str], object]) -> tuple[str, ...]:
    """Those of the modules that the kernel has not, neither as files nor built in."""
    return tuple(module for module in modules if not has(module))


def not_supported(missing: Iterable[str]) -> Verdict:
    """Of a cell that the kernel cannot have, and that was not tried."""
    return Verdict("not-supported", f"it has no {' and no '.join(missing)}")


def bound(missing: tuple[str, ...], wanted: tuple[str, ...], seen: str | None) -> Verdict:
    """Of a device that was tried: ``wanted`` are the drivers that may have it, ``seen`` the one that has.

    A driver that bound though the kernel has it not says that our reading of the kernel is wrong.
    """
    if seen in wanted:
        if missing:
            said = ", ".join(missing)
            return Verdict("broken", f"the kernel was read to have no {said}, yet {seen} bound")
        return WORKS
    if missing:
        return not_supported(missing)
    if seen is None:
        return Verdict("broken", f"the kernel has {_either(wanted)}, but it did not bind")
    return Verdict("broken", f"{seen} bound in the place of {_either(wanted)}")


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)

"""The way of an installed Windows to virtio, as data: what is done, and what must then be so.

A driver that no device of its own was ever there for is not started at boot: Windows then stops by 0x7B. So a
disk of the same kind, which nobody needs, is there first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from virtproof.windows.online.judge import Check


class Action(StrEnum):
    """What is done to the machine, or in its Windows."""

    BOOT = "boot"
    SHUT_DOWN = "shut-down"
    REMEMBER = "remember"  # what is seen now is what "before" means
    ADD_DUMMY = "add-dummy"
    ADD_MEDIUM = "add-medium"
    INSTALL = "install"
    INSTALL_NIC = "install-nic"
    SAFE_MODE = "safe-mode"  # with the agent allowed in it
    NORMAL_MODE = "normal-mode"
    SWITCH = "switch"
    RESTORE_ADDRESS = "restore-address"
    VERIFY = "verify"  # Driver Verifier, from the next boot on
    STOP_VERIFYING = "stop-verifying"
    REMOVE = "remove"  # the NIC's package, from device and store
    TAKE_OLD_MEDIUM = "take-old-medium"
    TAKE_NEW_MEDIUM = "take-new-medium"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Step:
    """One action, and the checks after it."""

    action: Action
    checks: tuple[Check, ...] = ()


SOUND = (Check.NORMAL_MODE, Check.NO_PROBLEM, Check.NO_CRASH)
DRIVER = (Check.DRIVER_BOUND, Check.DRIVER_VERSION, Check.DRIVER_SIGNED, Check.BOOT_START)
INSTALLED = (Check.DUMMY_SEEN, *DRIVER, Check.NO_PROBLEM, Check.NO_CRASH)
SWITCHED = (*SOUND, Check.ROOT_ON_DRIVER, *DRIVER)
ON_NIC = (Check.NIC_ON_DRIVER, Check.OLD_NIC_GONE)
RESTART = (Step(Action.SHUT_DOWN), Step(Action.BOOT))


def switch(*, nic: bool, cold: bool = False, safe_mode: bool = False) -> tuple[Step, ...]:
    """From IDE (and RTL8139 or another, with ``nic``) to virtio, and a second boot.

    ``cold``: the disk and the medium are there from the start, for machines that take none while they run.
    ``safe_mode``: the first boot on the new disk is in safe mode, which starts every boot driver.
    """
    first = Step(Action.BOOT, (Check.NORMAL_MODE, Check.SIGNATURES_WANTED))
    adding = (Step(Action.ADD_DUMMY), Step(Action.ADD_MEDIUM))
    begin = (*adding, first, Step(Action.REMEMBER))
    if not cold:
        begin = (first, Step(Action.REMEMBER), *adding)
    middle = [Step(Action.INSTALL, INSTALLED)]
    if safe_mode:
        middle.append(Step(Action.SAFE_MODE))
    middle += [Step(Action.SHUT_DOWN), Step(Action.SWITCH)]
    if safe_mode:
        middle += [Step(Action.BOOT), Step(Action.NORMAL_MODE), *RESTART]
    else:
        middle.append(Step(Action.BOOT))
    checks = (*SWITCHED, *(ON_NIC if nic else ()))
    middle.append(Step(Action.LOOK, checks))
    if nic:
        middle.append(Step(Action.RESTORE_ADDRESS, (Check.ADDRESS_KEPT,)))
        checks += (Check.ADDRESS_KEPT,)
    return (*begin, *middle, *RESTART, Step(Action.LOOK, checks))


def verified() -> tuple[Step, ...]:
    """Driver Verifier on the drivers, for a boot; of a Windows that is on virtio and up."""
    return (
        Step(Action.VERIFY),
        *RESTART,
        Step(Action.LOOK, SWITCHED),
        Step(Action.STOP_VERIFYING),
        *RESTART,
        Step(Action.LOOK, SWITCHED),
    )


def reinstalled() -> tuple[Step, ...]:
    """The NIC's package removed and installed again; the disk's stays, as Windows runs from it."""
    return (
        Step(Action.REMOVE),
        Step(Action.INSTALL_NIC),
        *RESTART,
        Step(Action.LOOK, (*SWITCHED, *ON_NIC)),
    )


def upgraded() -> tuple[Step, ...]:
    """From the other medium's drivers, which it was switched with, to those of the medium under test."""
    return (
        Step(Action.TAKE_NEW_MEDIUM),
        Step(Action.INSTALL),
        *RESTART,
        Step(Action.LOOK, SWITCHED),
    )


def downgraded() -> tuple[Step, ...]:
    """The NIC back to the other medium's driver, which Windows takes only where the newer one is gone.

    Not the disk: it has Windows on it, and no driver while its package is removed.
    """
    return (
        Step(Action.REMOVE),
        Step(Action.TAKE_OLD_MEDIUM),
        Step(Action.INSTALL_NIC),
        *RESTART,
        Step(Action.LOOK, (*SWITCHED, *ON_NIC)),
    )

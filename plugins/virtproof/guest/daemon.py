"""Opening connections to a libvirtd, which end where it hangs: no call waits for ever.

libvirt asks the daemon now and then whether it is there, and ends what waits for one that is mute.
"""

from __future__ import annotations

import contextlib
import functools
import threading

import libvirt

from virtproof.deadline import within

OPEN_S = 30.0
# A daemon that has said nothing for so long hangs; a busy one answers from a thread of its own.
ASK_S, UNANSWERED = 5, 6


def opened(uri: str) -> libvirt.virConnect:
    """A connection; TimeoutError where nothing answers, libvirtError where libvirt says why not."""
    _listen()

    def connect() -> libvirt.virConnect:
        handle = libvirt.open(uri)
        with contextlib.suppress(libvirt.libvirtError):  # a driver that has no daemon
            handle.setKeepAlive(ASK_S, UNANSWERED)
        return handle

    return within(OPEN_S, connect)


@functools.cache
def _listen() -> None:
    """Run libvirt's event loop, which hears the answers; once a process, as it has only one."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def serve() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=serve, daemon=True, name="libvirt").start()


def first_line(error: libvirt.libvirtError) -> str:
    """What libvirt's error says first."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]

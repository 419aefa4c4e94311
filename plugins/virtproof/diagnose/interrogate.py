"""What to ask a shell on the console of a guest that did not find its root, and what it answered.

Data and parsing only: the guest's console does the typing. Every command is made of what a POSIX
shell has built in, so that klibc's sh, busybox and dracut's dash or bash answer alike. Words of an
answer are typed with quotes inside (``vp-"module"``): the echo of the typed command carries the
quotes, the answer does not, however the terminal wraps the line.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from virtproof.diagnose.text import lines, standing

_TAIL: Final = 32 * 1024


class Prompt(StrEnum):
    """What stands at the console's end.

    ``enter``: a shell opens after Enter (systemd's emergency mode, dracut's). ``locked``: root has
    no password, Enter only goes on with the boot; ``password``: a password is asked. The last two
    give no shell, and the console's text is all there is.
    """

    INITRAMFS = "initramfs"
    DRACUT = "dracut"
    SHELL = "shell"
    ENTER = "enter"
    LOCKED = "locked"
    PASSWORD = "password"

    @property
    def answers(self) -> bool:
        """Whether COMMANDS can be typed, after ``wake``."""
        return self not in (Prompt.LOCKED, Prompt.PASSWORD)

    @property
    def wake(self) -> str:
        """What to type before the first command; then ``prompt`` is to be asked again."""
        return "\n" if self is Prompt.ENTER else ""


# Tried from the last line upwards, in this order on each line.
_PROMPTS: Final = (
    (re.compile(r"^\(initramfs\)"), Prompt.INITRAMFS),
    (re.compile(r"^(?:dracut|switch_root):\S{0,80}[#$]|^:/[^\s#]{0,80}#"), Prompt.DRACUT),
    (re.compile(r"^(?:sh|bash)-\d[.\d]*#|^\w[\w.-]{0,40}@[\w.()-]{1,80}:\S{1,80}#"), Prompt.SHELL),
    (re.compile(r"^Cannot open access to console, the root account is locked"), Prompt.LOCKED),
    (re.compile(r"^Give root password for (?:maintenance|login)"), Prompt.PASSWORD),
    (re.compile(r"^Press Enter for (?:system )?(?:maintenance|login)"), Prompt.ENTER),
)

#: To be typed one at a time, each followed by Enter, waiting for the prompt between them.
COMMANDS: Final = (
    'echo virtproof-"answers"-begin',
    (
        "for n in block/virtio_blk virtio/virtio_pci scsi/virtio_scsi scsi/sd_mod; do m=${n##*/}; s=absent; "
        "for f in /lib/modules/*/kernel/drivers/$n.ko* /sys/module/$m /sys/bus/virtio/drivers/$m; "
        'do [ -e $f ] && s=present; done; echo vp-"module" $m $s; done'
    ),
    (
        "for d in /sys/bus/pci/devices/*; do read -r v <$d/vendor; read -r i <$d/device; "
        "read -r c <$d/class; b=unbound; [ -e $d/driver ] && b=bound; "
        'case $v$c in 0x1af4*|*0x01????) echo vp-"pci" ${d##*/} $v $i $b;; esac; done'
    ),
    'echo vp-"virtio" /sys/bus/virtio/devices/* /sys/bus/virtio/drivers/*',
    'cd /sys/class/block; echo vp-"block" *; cd /',
    'read -r l </proc/cmdline; echo vp-"cmdline" $l',
    (
        "r=; for w in $l; do case $w in root=*) r=${w#root=};; esac; done; s=; "
        'case $r in /dev/*) s=absent; [ -e $r ] && s=present;; esac; echo vp-"root" $r $s'
    ),
    (
        'l=; [ -e /proc/modules ] && while read -r m x; do l="$l $m"; done </proc/modules; '
        'echo vp-"modules" $l'
    ),
    'echo virtproof-"answers"-end',
)
BEGIN: Final = "virtproof-answers-begin"
END: Final = "virtproof-answers-end"

_ANSWER: Final = re.compile(r"^vp-(module|pci|virtio|block|cmdline|root|modules)( .*)?$")


def prompt(console: str) -> Prompt | None:
    """The prompt that stands at the end of the console, or None.

    Kernel messages may come after a prompt, on its line or on lines of their own.
    """
    for text in reversed(standing(lines(console[-_TAIL - 1 :], _TAIL))):
        for regex, found in _PROMPTS:
            if regex.match(text):
                return found
    return None


def parse(text: str) -> str:
    """The last answers, one a line; empty where the end marker is missing.

    ``module NAME present|absent``, ``pci ADDRESS VENDOR DEVICE bound|unbound``, ``virtio PATHS``,
    ``block NAMES``, ``cmdline ...``, ``root NAME [present|absent]``, ``modules NAMES``. Anything
    else (echoed commands, kernel messages between them) is left out. The first command may be lost
    (sulogin throws away what was typed before it was ready), and with it the begin marker.
    """
    texts = [line.rstrip() for line in lines(text).texts]
    ends = [i for i, line in enumerate(texts) if line == END]
    if not ends:
        return ""
    begins = [i for i, line in enumerate(texts[: ends[-1]]) if line in (BEGIN, END)]
    answers = texts[begins[-1] if begins else 0 : ends[-1]]
    found = [_ANSWER.match(line) for line in answers]
    return "\n".join(f"{m.group(1)}{m.group(2) or ''}" for m in found if m)

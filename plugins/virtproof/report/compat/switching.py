"""Can a root disk be switched to virtio on this kernel, and how: the answer, from what was tried. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from virtproof.measure.store import clean_line
from virtproof.report.compat.grid import Filled, Grid, State, System

_MODULES = "virtio_pci virtio_blk virtio_scsi"
# By initramfs tool: what tells it in an image's or a distribution's name, and what root does there.
_TOOLS: dict[str, tuple[tuple[str, ...], str]] = {
    "dracut": (
        ("dracut", "fedora", "red hat", "centos", "rocky", "alma", "suse", "amazon", "oracle"),
        (
            f"echo 'add_drivers+=\" {_MODULES} \"' >/etc/dracut.conf.d/virtio.conf\n"
            "dracut --force --kver {release}"
        ),
    ),
    "initramfs-tools": (
        ("debian", "ubuntu", "mint", "raspbian"),
        (
            f"printf '%s\\n' {_MODULES} >>/etc/initramfs-tools/modules\n"
            "update-initramfs -u -k {release}"
        ),
    ),
    "mkinitcpio": (
        ("arch", "manjaro"),
        f"echo 'MODULES+=({_MODULES})' >>/etc/mkinitcpio.conf\nmkinitcpio -P",
    ),
    "mkinitfs": (
        ("alpine",),
        "sed -i 's/^features=\"/&virtio /' /etc/mkinitfs/mkinitfs.conf\nmkinitfs {release}",
    ),
}
THEN = (
    "Then, switched off, the disk of the domain gets <target dev='vda' bus='virtio'/> (or bus='scsi' "
    "with a controller of the model virtio-scsi), and its old <address> is removed."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """``state``, ``word`` and ``why`` for a reader; ``tool`` and ``commands`` where it can be done."""

    state: State
    word: str
    why: str
    tool: str = ""
    commands: str = ""


def tool_of(image: str, distribution: str) -> str:
    """The initramfs tool of an image; empty where nothing tells it."""
    for text in (image.lower(), distribution.lower()):
        for tool, (words, _) in _TOOLS.items():
            if any(word in text for word in words):
                return tool
    return ""


def answer(full: Grid, system: System) -> Answer:
    """By the checks ``root/FROM-to-TO`` of the system."""
    cells = {c: one for c, one in full.of(system).items() if c.startswith("root/")}
    works = _named(cells, State.WORKS)
    broken = {c: one for c, one in cells.items() if one.state is State.BROKEN}
    if works:
        tool, commands = _how(full, system)
        if broken:
            return Answer(State.BROKEN, "Partly", f"{works} works; {_whys(broken)}", tool, commands)
        return Answer(State.WORKS, "Yes", f"seen to boot after the switch: {works}", tool, commands)
    if broken:
        return Answer(State.BROKEN, "No", _whys(broken))
    unsupported = [one for one in cells.values() if one.state is State.UNSUPPORTED]
    if unsupported:
        return Answer(State.UNSUPPORTED, "No", f"this kernel cannot: {unsupported[0].reason}")
    return Answer(State.NOT_RUN, "Not tried", _hint(full, system, list(cells.values())))


def _how(full: Grid, system: System) -> tuple[str, str]:
    tool = tool_of(system.image, full.distributions.get(system, ""))
    release = shlex.quote(clean_line(system.kernel))
    return tool, _TOOLS[tool][1].replace("{release}", release) if tool else ""


def _named(cells: dict[str, Filled], state: State) -> str:
    names = [c.removeprefix("root/") for c, one in cells.items() if one.state is state]
    return ", ".join(name.replace("-to-", " to ") for name in names)


def _whys(broken: dict[str, Filled]) -> str:
    return "; ".join(
        f"{_named({c: one}, one.state)} fails: {_why(one)}" for c, one in broken.items()
    )


def _why(cell: Filled) -> str:
    """The diagnosis, if the test has one, with its line; else the reason."""
    for record in cell.records:
        if record.diagnosis:
            return f"{record.diagnosis['name']} ({record.diagnosis['line']})"
    return cell.reason


def _hint(full: Grid, system: System, tried: Sequence[Filled]) -> str:
    if tried:
        return tried[0].reason
    if full.state(system, "disk/virtio") is State.WORKS:
        return "a virtio disk works on the running system, but no root disk was switched"
    return "no test switched a root disk"

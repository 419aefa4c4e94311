"""Drivers put into a Windows that is switched off, by virt-v2v-in-place, on an overlay of the image."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from virtproof.errors import ImageError, MissingToolError
from virtproof.images import foreign
from virtproof.images.child import need, output, spawned
from virtproof.images.scratch import fresh, short
from virtproof.windows.appliance import KernelTree, command, environment
from virtproof.windows.bootstart import judge
from virtproof.windows.image import inspect

PROGRAM = "virt-v2v-in-place"
DEADLINE_S = 1800
SAYS = re.compile(rf"^{PROGRAM}: (?P<kind>error|warning): (?P<text>.*)")
# Of a virt-v2v up to this version; what later ones do was not seen.
SEEN = (2, 2, 0)
KNOWN = (
    "virt-v2v {version} registers its drivers as guestor.inf_tmp: pnputil and upgrades stumble over it",
    "virt-v2v {version} does not know Windows Server 2025 (2k25): it gets no drivers, or another's",
)


@dataclass(frozen=True, slots=True)
class Injected:
    """What was done: the overlay, virt-v2v's version and warnings, and what is known to be wrong with it."""

    overlay: Path
    version: str
    warnings: tuple[str, ...]
    known_faults: tuple[str, ...]


def inject(
    image: Path,
    virtio_win: Path,
    overlay: Path,
    tree: Callable[[Path], KernelTree],
    *,
    kvm: bool,
    say: Callable[[str], None],
) -> Injected:
    """Make ``overlay`` a qcow2 on ``image`` in which virt-v2v has installed the drivers of ``virtio_win``
    (an ISO or a directory). The image is only read. ``tree`` unpacks a kernel into a directory.

    Takes a minute under emulation. ImageError with virt-v2v's own line where it fails; nothing is left then.
    """
    image, virtio_win, overlay = image.absolute(), virtio_win.absolute(), overlay.absolute()
    checked = foreign.check(image)
    if not virtio_win.exists():
        raise ImageError(f"{virtio_win}: no such ISO or directory of drivers")
    _require_free(overlay)
    version = installed_version()
    _require_rest(image)
    with _beside(overlay) as scratch:
        making = scratch / "overlay.qcow2"
        backing = ["-F", checked.format, "-b", str(image)]
        output(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(making)], str(overlay))
        domain = scratch / "domain.xml"
        domain.write_text(domain_xml(making))
        told = environment(scratch, lambda: tree(scratch), kvm=kvm)
        told["VIRTIO_WIN"] = str(virtio_win)
        say(f"{image.name}: installing drivers by virt-v2v {version}, about {20 if kvm else 70} s")
        warnings = _run(["-i", "libvirtxml", str(domain)], told, image.name)
        _require_free(overlay)  # that took a minute
        making.rename(overlay)
    return Injected(overlay, version, warnings, known_faults(version))


@contextlib.contextmanager
def _beside(overlay: Path) -> Iterator[Path]:
    """A directory on the overlay's file system, gone after the block; what killed ones left goes too."""
    parent = overlay.with_name(f".{overlay.name}.making")
    try:
        parent.mkdir(exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot write {overlay}: {error.strerror}") from None
    try:
        with fresh(parent) as scratch:
            yield scratch
    finally:
        with contextlib.suppress(OSError):  # another of the same name is at work
            parent.rmdir()


def _require_free(overlay: Path) -> None:
    if overlay.exists():
        raise ImageError(f"{overlay} is there already", hint="name a file that is not")


def _require_rest(image: Path) -> None:
    """ImageError for a Windows that sleeps, or whose file system or registry is not closed."""
    wrong = [one.detail for one in judge(inspect(image)) if one.driver == "" and not one.ok]
    if wrong:
        raise ImageError(f"{image}: {wrong[0]}", hint="nothing can be installed until then")


def installed_version() -> str:
    """As ``2.2.0``. MissingToolError where there is no virt-v2v."""
    try:
        need(PROGRAM)
    except MissingToolError:
        raise MissingToolError(f"not installed: {PROGRAM}", hint="apt install virt-v2v") from None
    said = output([PROGRAM, "--version"], PROGRAM)
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "unknown"


def known_faults(version: str) -> tuple[str, ...]:
    """What is known to be wrong with what that version does."""
    numbers = tuple(int(part) for part in version.split(".")) if version[0].isdigit() else ()
    return tuple(text.format(version=version) for text in KNOWN if () < numbers <= SEEN)


def domain_xml(disk: Path) -> str:
    """The machine as it was: IDE and RTL8139. Nobody starts it; virt-v2v reads what disks it has."""
    domain = etree.Element("domain", type="qemu")
    for tag, text in (("name", "windows"), ("memory", "1048576"), ("vcpu", "1")):
        etree.SubElement(domain, tag).text = text
    etree.SubElement(
        etree.SubElement(domain, "os"), "type", arch="x86_64", machine="pc"
    ).text = "hvm"
    etree.SubElement(etree.SubElement(domain, "features"), "acpi")
    devices = etree.SubElement(domain, "devices")
    element = etree.SubElement(devices, "disk", type="file", device="disk")
    etree.SubElement(element, "driver", name="qemu", type="qcow2")
    etree.SubElement(element, "source", file=str(disk))
    etree.SubElement(element, "target", dev="hda", bus="ide")
    nic = etree.SubElement(devices, "interface", type="user")
    etree.SubElement(nic, "mac", address="52:54:00:00:00:01")
    etree.SubElement(nic, "model", type="rtl8139")
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def _run(arguments: list[str], told: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Run virt-v2v to its end; its warnings."""
    limited = ["timeout", str(DEADLINE_S), PROGRAM, *arguments]
    # virt-v2v makes its sockets in TMPDIR, and a socket's path has at most 107 bytes.
    with short() as folder:
        variables = {**os.environ, **told, "TMPDIR": str(folder)}
        with spawned(command(limited), env=variables) as child:
            said = child.stdout.read().decode("utf-8", "replace") if child.stdout else ""
            status = child.wait()
    lines = [found for line in said.splitlines() if (found := SAYS.match(line))]
    if status != 0:
        errors = [line["text"] for line in lines if line["kind"] == "error"]
        last = errors[0] if errors else (said.strip().splitlines() or [f"status {status}"])[-1]
        hint = "virt-v2v wants rhsrvany.exe in /usr/share/virt-tools, or in VIRT_TOOLS_DATA_DIR"
        raise ImageError(
            f"{name}: virt-v2v: {last[:300]}", hint=hint if "rhsrvany" in said else "", detail=said
        )
    return tuple(line["text"] for line in lines)

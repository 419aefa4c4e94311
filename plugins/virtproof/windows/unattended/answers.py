"""autounattend.xml: what libosinfo's osinfo-install-script writes, corrected and then checked.

Secrets (product key, password) never go to that program, whose arguments everybody can read: they are put
in here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from virtproof.errors import ImageError, MissingToolError, UsageError
from virtproof.images.child import need, output
from virtproof.images.scratch import short
from virtproof.windows.platform import Arch
from virtproof.windows.unattended.corrections import CORRECTIONS, Wish
from virtproof.windows.unattended.faults import faults

PROGRAM = "osinfo-install-script"
PROFILE = "jeos"  # no user but the administrator, and off at the end
FILE = "autounattend.xml"
ARCHES = {Arch.AMD64: "x86_64", Arch.X86: "i386"}
# Windows by its folder's name -> libosinfo's ids of it, the one to be taken first.
OSINFO = {"w10": ("10",), "w11": ("11", "10")}
SERVERS = ("2k25", "2k22", "2k19", "2k16")
KEY = re.compile(r"(?:[A-Z0-9]{5}-){4}[A-Z0-9]{5}")
LARGEST_KEY_FILE = 256


@dataclass(frozen=True, slots=True)
class Answers:
    """The file's bytes, which have secrets, and what was wrong in libosinfo's, a sentence each."""

    xml: bytes
    corrected: tuple[str, ...]


def answers(wish: Wish) -> Answers:
    """libosinfo's answers for that Windows, corrected. ImageError where they do not hold even then."""
    written, of = template(wish)
    return corrected(written, of, wish)


def template(wish: Wish) -> tuple[bytes, str]:
    """What the program writes, and for which Windows: its database may know of none for this one."""
    try:
        need(PROGRAM)
    except MissingToolError:
        raise MissingToolError(
            f"not installed: {PROGRAM}", hint="apt install libosinfo-bin osinfo-db"
        ) from None
    windows = wish.edition.windows
    names = OSINFO.get(windows.name if windows else "", ())
    if windows and windows.server:
        names = (*SERVERS[SERVERS.index(windows.name) :], "10")
    for name in names:
        identity = f"http://microsoft.com/win/{name}"
        with short() as folder:
            arch = f"hardware-arch={ARCHES[wish.edition.arch]}"
            argv = [PROGRAM, "-q", "-p", PROFILE, "-d", str(folder), "-c", arch, identity]
            try:
                output(argv, FILE, timeout_s=60)
                return (folder / FILE).read_bytes(), name
            except (ImageError, OSError):
                continue  # this database has no such Windows, or no script for it
    raise ImageError(f"{PROGRAM} writes no answers for Windows {' or '.join(names)}")


def corrected(written: bytes, of: str, wish: Wish) -> Answers:
    """``written``: libosinfo's answers; ``of``: its name of the Windows that they are for."""
    try:
        parser = etree.XMLParser(remove_blank_text=True, resolve_entities=False, no_network=True)
        root = etree.fromstring(written, parser)
    except etree.XMLSyntaxError as error:
        raise ImageError(f"{PROGRAM} wrote no XML: {error}") from None
    windows = wish.edition.windows
    said = []
    if windows is None or of != windows.name.removeprefix("w"):
        said.append(f"it has no answers for {windows.title if windows else '?'}: those of {of}")
    said += [text for correct in CORRECTIONS if (text := correct(root, wish))]
    if wrong := faults(root, wish):
        raise ImageError(f"{FILE} does not hold: {wrong[0]}", detail="\n".join(wrong))
    etree.cleanup_namespaces(root)
    xml = etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True)
    return Answers(xml, tuple(said))


def product_key(path: Path) -> str:
    """The key in a file that nobody but its owner may read. UsageError, which never quotes the content."""
    try:
        about = path.stat()
        if about.st_mode & 0o077:
            raise UsageError(
                f"{path}: others may read it (mode {about.st_mode & 0o777:o})",
                hint=f"chmod 600 {path}",
            )
        with path.open("rb") as file:
            text = file.read(LARGEST_KEY_FILE + 1).decode("ascii", "replace").strip().upper()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="--product-key-file FILE") from None
    if not KEY.fullmatch(text):
        raise UsageError(
            f"{path}: has no product key", hint="five groups of five letters and digits, with -"
        )
    return text

"""Reading, writing and comparing libvirt domain XML, which is untrusted as any file is."""

from __future__ import annotations

import difflib

from lxml import etree

from virtproof.errors import UsageError


def parse(xml: str) -> etree._Element:
    """The ``<domain>`` element. No entities, no DTD, no network; UsageError where it is none."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(xml.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError, ValueError) as error:
        line = str(error).splitlines()[0][:200] if str(error) else "no XML"
        raise UsageError(f"the domain XML cannot be parsed: {line}") from None
    if "<!DOCTYPE" in xml:
        raise UsageError("the domain XML has a DOCTYPE", hint="libvirt writes none; remove it")
    if root.tag != "domain":
        raise UsageError(
            f"the XML's root element is <{str(root.tag)[:40]}>, not <domain>",
            hint="as `virsh dumpxml --inactive NAME` prints it",
        )
    return root


def text(domain: etree._Element) -> str:
    """The domain as XML text, indented by two spaces, without a declaration."""
    etree.indent(domain, space="  ")
    return etree.tostring(domain, encoding="unicode") + "\n"


def diff(before: str, after: str) -> str:
    """Unified diff of two domains, both in one canonical form; empty where they say the same."""
    old, new = (_canonical(xml).splitlines(keepends=True) for xml in (before, after))
    return "".join(difflib.unified_diff(old, new, fromfile="before", tofile="after"))


def _canonical(xml: str) -> str:
    domain = parse(xml)
    etree.indent(domain, space="  ")
    return etree.tostring(domain, method="c14n").decode("utf-8") + "\n"


def devices(domain: etree._Element) -> etree._Element:
    """The ``<devices>`` element; UsageError where there is none."""
    found = domain.find("devices")
    if found is None:
        raise UsageError("the domain XML has no <devices>")
    return found


def target(disk: etree._Element) -> str:
    """``<target dev=...>`` of a disk, empty where there is none."""
    element = disk.find("target")
    return "" if element is None else element.get("dev", "")


def libvirt_bus(disk: etree._Element) -> str:
    """``<target bus=...>`` of a disk, as libvirt names it; empty where there is none."""
    element = disk.find("target")
    return "" if element is None else element.get("bus", "")


def target_index(name: str) -> int:
    """Number of a target: 0 for hda, 25 for vdz, 26 for vdaa; UsageError where it is none."""
    letters = name[2:]
    if len(name) < 3 or not (letters.isascii() and letters.isalpha() and letters.islower()):
        raise UsageError(f"{name!r} is no disk target", hint="as hda, sda, vda")
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1

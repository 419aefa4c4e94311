"""Answers for Windows Setup held against what it is known to want, before a machine is started on them.

Microsoft's own schema is made by Windows System Image Manager for each image and is not to be had alone;
these are checks of our own, of what the documentation of each setting says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lxml import etree

from virtproof.windows.unattended.corrections import (
    ACTION,
    BYPASSES,
    COMMON,
    DRIVERS,
    LANGUAGE,
    LETTERS,
    NAMESPACE,
    PE_DRIVERS,
    PE_LANGUAGE,
    RUN_SCRIPT,
    SCRIPT,
    SETUP,
    SHELL,
    Wish,
    name,
)

COMPONENTS = {
    "windowsPE": {PE_DRIVERS, SETUP, PE_LANGUAGE},
    "specialize": {SHELL},
    "oobeSystem": {SHELL, LANGUAGE},
}
LONGEST_COMMAND = {"CommandLine": 1024, "Path": 259}
# Pass, component, path below it: what must be there, for the installation to ask nobody.
REQUIRED = (
    ("windowsPE", SETUP, "UserData/AcceptEula", "true"),
    ("windowsPE", SETUP, "DiskConfiguration/Disk/WillWipeDisk", "true"),
    ("windowsPE", SETUP, "ImageInstall/OSImage/InstallTo/PartitionID", None),
    ("windowsPE", SETUP, "ImageInstall/OSImage/InstallFrom/MetaData/Value", None),
    ("windowsPE", PE_LANGUAGE, "SetupUILanguage/UILanguage", None),
    ("oobeSystem", SHELL, "UserAccounts/AdministratorPassword/Value", None),
    ("oobeSystem", SHELL, "AutoLogon/Password/Value", None),
    ("oobeSystem", SHELL, "AutoLogon/Enabled", "true"),
    ("oobeSystem", SHELL, "OOBE/HideEULAPage", "true"),
    ("oobeSystem", SHELL, "OOBE/HideOnlineAccountScreens", "true"),
    ("oobeSystem", LANGUAGE, "UILanguage", None),
    ("specialize", SHELL, "TimeZone", "UTC"),
)
LISTS = {"Disk", "CreatePartition", "ModifyPartition", "PathAndCredentials", "SynchronousCommand"}


def faults(root: etree._Element, wish: Wish) -> list[str]:
    """What Setup would refuse or ask for; none where the answers hold. No secret is in them."""
    if root.tag != name("unattend"):
        return [f"the root is {etree.QName(root).localname}, not unattend of {NAMESPACE}"]
    return [*_components(root, wish), *_leaves(root), *_lists(root), *_required(root, wish)]


def _components(root: etree._Element, wish: Wish) -> Iterator[str]:
    passes = Counter(one.get("pass", "") for one in root)
    yield from (f"pass {stage} comes {n} times" for stage, n in passes.items() if n > 1)
    for settings in root:
        stage = settings.get("pass", "")
        titles = Counter(one.get("name", "") for one in settings)
        for title, count in titles.items():
            if count > 1:
                yield f"{title} comes {count} times in {stage}"
            if title not in COMPONENTS.get(stage, set()):
                yield f"{title} is no component of pass {stage}"
        wanted = {**COMMON, "processorArchitecture": wish.edition.arch.lower()}
        for one in settings:
            for key, value in wanted.items():
                if one.get(key) != value:
                    yield f"{one.get('name')} in {stage}: {key} is {one.get(key)}, not {value}"


def _leaves(root: etree._Element) -> Iterator[str]:
    for one in root.iter():
        tag = etree.QName(one).localname
        text = one.text or ""
        if len(one) == 0 and not text.strip():
            yield f"{tag} is empty"
        limit = LONGEST_COMMAND.get(tag)
        if limit is not None and len(text) > limit:
            yield f"{tag} has {len(text)} characters, over {limit}"


def _lists(root: etree._Element) -> Iterator[str]:
    """Orders count from 1 without a gap, and list items have the key and the action that tell them apart."""
    for one in root.iter(*(name(tag) for tag in LISTS)):
        if one.get(f"{{{ACTION}}}action") != "add":
            yield f"{etree.QName(one).localname} has no wcm:action"
    for parent in root.iter():
        orders = [one.findtext(name("Order")) for one in parent]
        if any(orders) and orders != [str(n) for n in range(1, len(orders) + 1)]:
            yield f"{etree.QName(parent).localname}: the orders are {orders}"
        keys = [key for one in parent if (key := one.get(f"{{{ACTION}}}keyValue")) is not None]
        if len(keys) != len(set(keys)):
            yield f"{etree.QName(parent).localname}: a keyValue comes twice"


def _required(root: etree._Element, wish: Wish) -> Iterator[str]:
    for stage, title, path, wanted in REQUIRED:
        inner = "/".join(name(part) for part in path.split("/"))
        place = f"{name('settings')}[@pass='{stage}']/{name('component')}[@name='{title}']/{inner}"
        found = root.findtext(place)
        if not found:
            yield f"{path} is not there"
        elif wanted is not None and found != wanted:
            yield f"{path} is {found}, not {wanted}"
    yield from _own(root, wish)


def _own(root: etree._Element, wish: Wish) -> Iterator[str]:
    """What is ours alone: edition, key, drivers, Windows 11's switches, the commands of the first logon."""
    indexes = [one.findtext(name("Value")) for one in root.iter(name("MetaData"))]
    if indexes != [str(wish.edition.index)]:
        yield f"the edition's index is {indexes}, not {wish.edition.index}"
    keys = [
        "".join(str(text).strip() for text in one.itertext())
        for one in root.iter(name("ProductKey"))
    ]
    wanted = [f"{wish.product_key}OnError", wish.product_key] if wish.product_key else []
    if keys != wanted:
        yield "the product key is not where it belongs"
    paths = {one.text or "" for one in root.iter(name("Path"))}
    if not {f"{letter}:\\{DRIVERS}" for letter in LETTERS} <= paths:
        yield "drivers are not looked for on the answer medium"
    newest = wish.edition.windows is not None and wish.edition.windows.name == "w11"
    if newest and not all(any(switch in path for path in paths) for switch in BYPASSES):
        yield "Windows 11 would ask for TPM 2.0 and Secure Boot"
    commands = [one.text or "" for one in root.iter(name("CommandLine"))]
    if RUN_SCRIPT not in commands:
        yield f"{SCRIPT} is not run"
    if not commands or "shutdown" not in commands[-1]:
        yield "the last command of the first logon does not switch the machine off"

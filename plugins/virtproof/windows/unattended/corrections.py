"""What is wrong in libosinfo's autounattend.xml for Windows 10 and later, and set right, a function each.

A correction takes the root of the answers and what is wished, changes the first, and says in one sentence
what was wrong; the empty text where nothing was.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from lxml import etree

from virtproof.windows.unattended.wim import Edition

NAMESPACE = "urn:schemas-microsoft-com:unattend"
ACTION = "http://schemas.microsoft.com/WMIConfig/2002/State"
SETUP = "Microsoft-Windows-Setup"
SHELL = "Microsoft-Windows-Shell-Setup"
PE_DRIVERS = "Microsoft-Windows-PnpCustomizationsWinPE"
PE_LANGUAGE, LANGUAGE = (f"Microsoft-Windows-International-Core{end}" for end in ("-WinPE", ""))
COMMON = {
    "publicKeyToken": "31bf3856ad364e35",
    "language": "neutral",
    "versionScope": "nonSxS",
}
# The CD-ROM's letter is not known beforehand; paths that are not there are passed over.
LETTERS = "DEFGH"
# In answers it is the English word, in any language: that one switches the account on.
ADMINISTRATOR = "Administrator"
# What the installed account is then called, by language where it is not that.
ADMINISTRATORS = {
    "es": "Administrador",
    "fi": "J\u00e4rjestelm\u00e4nvalvoja",
    "fr": "Administrateur",
    "hu": "Rendszergazda",
    "pt": "Administrador",
    "ru": "\u0410\u0434\u043c\u0438\u043d\u0438\u0441\u0442\u0440\u0430\u0442\u043e\u0440",
    "sv": "Administrat\u00f6r",
}
COMPUTER = "guest"
DRIVERS, SCRIPT = "drivers", "first-logon.ps1"
# Setup's own switches, which Microsoft documents for none but labs.
BYPASSES = ("BypassTPMCheck", "BypassSecureBootCheck", "BypassRAMCheck")
RUN_SCRIPT = (
    "powershell -NoProfile -ExecutionPolicy Bypass -Command "
    f"\"foreach ($l in '{LETTERS}'.ToCharArray()) {{ $f = $l + ':\\{SCRIPT}'; "
    'if (Test-Path $f) { & $f; break } }"'
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be installed. ``product_key``: empty where the user gave none; secrets are not in repr."""

    edition: Edition
    password: str = field(repr=False)
    product_key: str = field(default="", repr=False)


def administrator(language: str) -> str:
    """What the built-in account is called in a Windows of that language (``fr-FR``)."""
    return ADMINISTRATORS.get(language.partition("-")[0].lower(), ADMINISTRATOR)


def name(tag: str) -> str:
    """As lxml spells an element of answers."""
    return f"{{{NAMESPACE}}}{tag}"


def put(parent: etree._Element, tag: str, text: str | None = None) -> etree._Element:
    """The child of that name with that text, made where it is not there."""
    child = parent.find(name(tag))
    if child is None:
        child = etree.SubElement(parent, name(tag))
    if text is not None:
        child.text = text
    return child


def component(root: etree._Element, stage: str, title: str, wish: Wish) -> etree._Element:
    """The component in that pass of the installation, made where it is not there."""
    settings = root.find(f"{name('settings')}[@pass='{stage}']")
    if settings is None:
        settings = etree.SubElement(root, name("settings"), {"pass": stage})
    found = settings.find(f"{name('component')}[@name='{title}']")
    if found is None:
        attributes = {"name": title, **COMMON, "processorArchitecture": _arch(wish)}
        found = etree.SubElement(settings, name("component"), attributes)
    return found


def architecture(root: etree._Element, wish: Wish) -> str:
    wrong = {
        said
        for one in root.iter(name("component"))
        if (said := one.get("processorArchitecture", "none")) != _arch(wish)
    }
    for one in root.iter(name("component")):
        one.set("processorArchitecture", _arch(wish))
    return f"processorArchitecture is {'/'.join(sorted(wrong))}: Setup ignores it" if wrong else ""


def drivers(root: etree._Element, wish: Wish) -> str:
    paths = put(component(root, "windowsPE", PE_DRIVERS, wish), "DriverPaths")
    was = [one.text or "" for one in paths.iter(name("Path"))]
    for child in list(paths):
        paths.remove(child)
    for number, letter in enumerate(LETTERS, start=1):
        one = _added(paths, "PathAndCredentials")
        one.set(f"{{{ACTION}}}keyValue", str(number))
        put(one, "Path", f"{letter}:\\{DRIVERS}")
    return f"drivers are looked for in {', '.join(was) or 'no place'}: there is no floppy"


def partitions(root: etree._Element, _wish: Wish) -> str:
    lacking = [
        one
        for tag in ("Disk", "CreatePartition", "ModifyPartition")
        for one in root.iter(name(tag))
        if one.get(f"{{{ACTION}}}action") is None
    ]
    for one in lacking:
        one.set(f"{{{ACTION}}}action", "add")
    return "disk and partitions lack wcm:action" if lacking else ""


def edition(root: etree._Element, wish: Wish) -> str:
    image = put(put(component(root, "windowsPE", SETUP, wish), "ImageInstall"), "OSImage")
    was = image.find(name("InstallFrom")) is not None
    data = put(put(image, "InstallFrom"), "MetaData")
    data.set(f"{{{ACTION}}}action", "add")
    put(data, "Key", "/IMAGE/INDEX")
    put(data, "Value", str(wish.edition.index))
    return "" if was else "no edition is named: Setup asks on media that have several"


def product_key(root: etree._Element, wish: Wish) -> str:
    said = "an empty product key, which Setup refuses" if _empty_keys(root) else ""
    for key in list(root.iter(name("ProductKey"))):
        _remove(key)
    if wish.product_key:
        key = put(put(component(root, "windowsPE", SETUP, wish), "UserData"), "ProductKey")
        put(key, "Key", wish.product_key)
        put(key, "WillShowUI", "OnError")
        # The one that Setup takes; without this one the first start asks for it again.
        put(component(root, "specialize", SHELL, wish), "ProductKey", wish.product_key)
    return said


def language(root: etree._Element, wish: Wish) -> str:
    setup = component(root, "windowsPE", PE_LANGUAGE, wish)
    was = {one.text or "" for one in setup.iter(name("UILanguage"))}
    put(put(setup, "SetupUILanguage"), "UILanguage", wish.edition.language)
    for part in (setup, component(root, "oobeSystem", LANGUAGE, wish)):
        for tag in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"):
            put(part, tag, wish.edition.language)
    wrong = was != {wish.edition.language}
    first = f"Setup's language is {'/'.join(sorted(was)) or 'not named'}, " if wrong else ""
    return f"{first}the installed system's is not named: it asks"


def requirements(root: etree._Element, wish: Wish) -> str:
    if wish.edition.windows is None or wish.edition.windows.name != "w11":
        return ""
    run = put(component(root, "windowsPE", SETUP, wish), "RunSynchronous")
    for number, switch in enumerate(BYPASSES, start=1):
        one = _added(run, "RunSynchronousCommand")
        put(one, "Order", str(number))
        key = r"HKLM\SYSTEM\Setup\LabConfig"
        put(one, "Path", f"reg add {key} /v {switch} /t REG_DWORD /d 1 /f")
    return "Windows 11 asks for TPM 2.0 and Secure Boot: Setup's checks of both are switched off"


def logon(root: etree._Element, wish: Wish) -> str:
    shell = component(root, "oobeSystem", SHELL, wish)
    was = shell.find(name("AutoLogon")) is not None
    password = put(put(shell, "UserAccounts"), "AdministratorPassword")
    _secret(password, wish.password, "AdministratorPassword")
    automatic = put(shell, "AutoLogon")
    _secret(put(automatic, "Password"), wish.password, "Password")
    put(automatic, "Enabled", "true")
    put(automatic, "LogonCount", "1")
    put(automatic, "Username", ADMINISTRATOR)
    return "" if was else "nobody logs on, so that the commands of the first logon never run"


def first_dialogs(root: etree._Element, wish: Wish) -> str:
    dialogs = put(component(root, "oobeSystem", SHELL, wish), "OOBE")
    old = [one for one in dialogs if etree.QName(one).localname.startswith("Skip")]
    for one in old:
        dialogs.remove(one)
    for tag in ("HideOEMRegistrationScreen", "HideOnlineAccountScreens", "HideWirelessSetupInOOBE"):
        put(dialogs, tag, "true")
    return "SkipMachineOOBE and SkipUserOOBE are of Windows 7; later ones ask for an account"


def machine(root: etree._Element, wish: Wish) -> str:
    shell = component(root, "specialize", SHELL, wish)
    put(shell, "ComputerName", COMPUTER)
    put(shell, "TimeZone", "UTC")
    return "the time zone is not named, and the machine's clock is UTC"


def first_logon(root: etree._Element, wish: Wish) -> str:
    """Ours goes before the last one, by which the machine is switched off."""
    commands = put(component(root, "oobeSystem", SHELL, wish), "FirstLogonCommands")
    script = etree.Element(name("SynchronousCommand"), {f"{{{ACTION}}}action": "add"})
    put(script, "Order", "0")
    put(script, "Description", "Drivers, guest agent and WinRM")
    put(script, "CommandLine", RUN_SCRIPT)
    commands.insert(max(len(commands) - 1, 0), script)
    for number, one in enumerate(commands, start=1):
        put(one, "Order", str(number))
        line = one.find(name("CommandLine"))
        if line is not None and line.text and "reg add" in line.text and "/f" not in line.text:
            line.text += " /f"  # it would ask, and nobody answers
    return "neither guest agent nor WinRM is set up"


CORRECTIONS: tuple[Callable[[etree._Element, Wish], str], ...] = (
    architecture,
    drivers,
    partitions,
    edition,
    product_key,
    language,
    requirements,
    logon,
    first_dialogs,
    machine,
    first_logon,
)


def _arch(wish: Wish) -> str:
    return wish.edition.arch.lower()


def _added(parent: etree._Element, tag: str) -> etree._Element:
    return etree.SubElement(parent, name(tag), {f"{{{ACTION}}}action": "add"})


def _empty_keys(root: etree._Element) -> bool:
    keys = root.iter(name("ProductKey"))
    return any(not "".join(str(text) for text in key.itertext()).strip() for key in keys)


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _secret(password: etree._Element, text: str, kind: str) -> None:
    """As Windows System Image Manager hides it: not encrypted, only not to be read in passing."""
    for child in list(password):
        password.remove(child)
    put(password, "Value", base64.b64encode((text + kind).encode("utf-16-le")).decode())
    put(password, "PlainText", "false")

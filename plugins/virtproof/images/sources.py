"""The machine's own apt sources, as far as they serve the suite that an image is made of."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from virtproof.errors import ImageError, UsageError
from virtproof.images.entry import BuildEntry

ENVIRONMENT = "VIRTPROOF_APT_SOURCES"
APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
# The archives of these suites, under every name that a sources file may call them by.
DISTRIBUTION = {
    "debian": re.compile(
        r"(?:buster|bullseye|bookworm|trixie|forky|sid|unstable|testing|stable|oldstable)"
        r"(?:-(?:updates|security|backports|proposed-updates))?(?:/updates)?"
    ),
    "ubuntu": re.compile(
        r"(?:focal|jammy|noble|plucky|questing|resolute|devel)(?:-(?:updates|security|backports|proposed))?"
    ),
}
# Which keyring the distribution's archives are signed by: what tells its mirrors from third parties.
KEYRING = {"debian": "debian-archive", "ubuntu": "ubuntu-archive"}


@dataclass(frozen=True, slots=True)
class Source:
    """One archive: ``options`` are those of a sources file (``signed-by`` ...), lower-case keys."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)

    def stanza(self) -> str:
        """The deb822 form, which keeps an embedded key too."""
        lines = ["Types: deb", f"URIs: {self.uri}", f"Suites: {self.suite}"]
        lines += [f"Components: {' '.join(self.components)}"]
        lines += [f"{key.capitalize()}: {value}" for key, value in self.options.items()]
        return "\n".join(lines) + "\n"


def machine_sources(apt: Path = APT) -> list[Source]:
    """Every enabled binary source of the machine, in apt's order of files."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    return [source for path in files if path.is_file() for source in parse(path)]


def parse(path: Path) -> list[Source]:
    """The sources of one file, by its name's ending as apt does; other endings hold none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ImageError(f"apt sources {path}: {error.strerror}") from None
    if path.suffix == ".sources":
        return list(_deb822(text))
    return list(_one_line(text)) if path.suffix == ".list" else []


def for_entry(entry: BuildEntry, apt: Path = APT, os_release: Path = OS_RELEASE) -> list[Source]:
    """The archives that a root filesystem is built of: its suite with updates and security fixes.

    From the file that VIRTPROOF_APT_SOURCES names, as it stands; else from the machine's own
    sources of that distribution: those that serve the suite, or its neighbour's with the suite replaced.
    """
    if named := os.environ.get(ENVIRONMENT):
        return _named(Path(named), entry)
    own = [s for s in machine_sources(apt) if _is_of(s, entry.distribution, os_release)]
    found = [s for s in own if _release(s.suite) == entry.suite] or [
        Source(s.uri, _moved(s.suite, entry.suite), s.components, s.options) for s in own
    ]
    chosen = _wanted(found, entry)
    if not chosen:
        raise ImageError(
            f"{entry.name}: this machine's apt sources serve no {entry.distribution} {entry.suite}",
            hint=f"give a sources file by --apt-sources FILE or {ENVIRONMENT}, or take another image",
        )
    return chosen


def for_kernel(entry: BuildEntry, apt: Path = APT, os_release: Path = OS_RELEASE) -> list[Source]:
    """The archives that the entry's kernel is taken from: those of ``for_entry``, and its backports.

    Backports lie beside the release itself, on the same mirror, whether the machine uses them or not.
    """
    chosen = for_entry(entry, apt, os_release)
    if entry.kernel_pocket == "release":
        return chosen
    suite = f"{entry.suite}-{entry.kernel_pocket}"
    if named := os.environ.get(ENVIRONMENT):
        found = [s for s in parse(Path(named)) if s.suite == suite]
        if not found:
            raise ImageError(f"{named} serves no {suite}", hint=f"{entry.name}'s kernel is in it")
        return chosen + found
    release = next(source for source in chosen if source.suite == entry.suite)
    return [*chosen, Source(release.uri, suite, release.components, release.options)]


def serves(entry: BuildEntry, apt: Path = APT, os_release: Path = OS_RELEASE) -> bool:
    """Whether the machine's sources name this very suite: then it is the natural default."""
    if os.environ.get(ENVIRONMENT):
        return any(s.suite == entry.suite for s in parse(Path(os.environ[ENVIRONMENT])))
    own = [s for s in machine_sources(apt) if _is_of(s, entry.distribution, os_release)]
    return any(s.suite == entry.suite for s in own)


def _named(path: Path, entry: BuildEntry) -> list[Source]:
    if path.suffix not in (".list", ".sources"):
        raise UsageError(f"apt sources {path}: not a .list or .sources file")
    found = parse(path)
    if not any(s.suite == entry.suite for s in found):
        raise ImageError(f"{path} serves no {entry.suite}", hint=f"{entry.name} is made of it")
    backports = f"{entry.suite}-backports"
    return [s for s in found if _release(s.suite) == entry.suite and s.suite != backports]


def _is_of(source: Source, distribution: str, os_release: Path) -> bool:
    """A source of the distribution itself: its suite names, and its key or the machine's default."""
    names = DISTRIBUTION.get(distribution)
    if names is None or not names.fullmatch(source.suite) or "main" not in source.components:
        return False
    key = source.options.get("signed-by")
    if key:
        return KEYRING[distribution] in key or "BEGIN PGP" in key
    return f"ID={distribution}" in _lines(os_release)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").replace('"', "").splitlines() if path.exists() else []


def _release(suite: str) -> str:
    """``bookworm`` of ``bookworm-security`` or ``buster/updates``."""
    return re.split(r"[-/]", suite, maxsplit=1)[0]


def _moved(suite: str, to: str) -> str:
    return to + suite[len(_release(suite)) :]


def _wanted(found: list[Source], entry: BuildEntry) -> list[Source]:
    """Each archive once, with the entry's components; none without the suite itself."""
    chosen: dict[tuple[str, str], Source] = {}
    suites = {entry.suite if p == "release" else f"{entry.suite}-{p}" for p in entry.pockets}
    for source in found:
        if source.suite in suites:
            new = Source(source.uri, source.suite, entry.components, source.options)
            chosen.setdefault((new.uri, new.suite), new)
    return list(chosen.values()) if any(s.suite == entry.suite for s in chosen.values()) else []


def _deb822(text: str) -> Iterator[Source]:
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, value = (part.strip() for part in line.split(":", 1))
                key = key.lower()
                fields[key] = value
        if (
            "deb" not in fields.get("types", "").split()
            or fields.get("enabled", "").lower() == "no"
        ):
            continue
        known = ("types", "uris", "suites", "components", "enabled")
        options = {k: v for k, v in fields.items() if k not in known and not k.startswith("x-")}
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), options)


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if found is None:
            continue
        pairs = (word.split("=", 1) for word in shlex.split(found[1] or "") if "=" in word)
        names = {"arch": "architectures", "lang": "languages", "target": "targets"}
        options = {names.get(key.lower(), key.lower()): value for key, value in pairs}
        yield Source(found[2], found[3], tuple(found[4].split()), options)

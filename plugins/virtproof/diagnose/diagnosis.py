"""Why a boot failed, by name: the table of patterns applied to the evidence. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from virtproof.diagnose.evidence import Diagnosis, Evidence
from virtproof.diagnose.facts import SOURCES, fields
from virtproof.diagnose.table import Row, Table, table
from virtproof.diagnose.text import Lines, lines, quoted, standing

#: ``fatal`` reads no more than this at the console's end, so that it can be asked at every poll.
FATAL_TAIL: Final = 32 * 1024
LAST_LINES: Final = 4

_NUMBERED: Final = ("console", "qemu.log", "host.log", "shell")

# A console may hold several boots of one guest. Firmware marks the beginning; where it does not
# write to the serial port, the kernel's first line does.
_STARTS: Final = (re.compile(r"SeaBIOS \(version "), re.compile(r"\[ +0\.0+\] Linux version "))


@dataclass(frozen=True, slots=True)
class _Field:
    lines: Lines
    joined: str

    @classmethod
    def of(cls, found: Lines) -> _Field:
        return cls(found, found.joined)


def diagnose(evidence: Evidence, patterns: Table | None = None) -> Diagnosis:
    """The cause of the failed boot; ``unknown`` with the last console lines where no row fits.

    The rows are tried in the order of their priority: what the host knows (QEMU killed, refused,
    died) comes before what the guest printed, and what the guest's devices say before its shell.
    Of a console that holds several boots the last one counts; the earlier ones are asked only
    where it names nothing.
    """
    rows = (patterns or table()).rows
    texts = {name: _Field.of(lines(text)) for name, text in fields(evidence).items()}
    texts["qemu_log"] = _Field.of(_last_run(texts["qemu_log"].lines))
    boots = [_Field.of(boot) for boot in _boots(texts["console"].lines)]
    late: Diagnosis | None = None
    for boot in reversed(boots):
        found = _first({**texts, "console": boot}, rows)
        if found is not None and found.name != "boot-hang":
            return found
        late = late or found
    return late or _unknown(evidence, texts["console"].lines)


def fatal(console: str, patterns: Table | None = None) -> str | None:
    """The diagnosis' name if the console shows that this boot is over, else None.

    For the one who waits for a guest: cheap however long the console is, as only its end is read.
    The name is a first one; ``diagnose`` with all the evidence may know better.
    """
    rows = patterns or table()
    tail = lines(console[-FATAL_TAIL - 1 :], FATAL_TAIL)
    for how, text in (("seen", tail.joined), ("standing", "\n".join(standing(tail)))):
        for row in rows.fatal(how):
            if row.regex.search(text):
                return row.name
    return None


def _first(texts: Mapping[str, _Field], rows: tuple[Row, ...]) -> Diagnosis | None:
    for row in rows:
        field = texts[row.field]
        match = row.regex.search(field.joined)  # the first: what follows, follows from it
        if match is not None and _applies(row, texts):
            return _diagnosis(row, field, match)
    return None


def _applies(row: Row, texts: Mapping[str, _Field]) -> bool:
    def holds(field: str, regex: re.Pattern[str]) -> bool:
        return regex.search(texts[field].joined) is not None

    required = all(holds(field, regex) for field, regex in row.requires)
    return required and not any(holds(field, regex) for field, regex in row.unless)


def _diagnosis(row: Row, field: _Field, match: re.Match[str]) -> Diagnosis:
    if row.quote == "last-lines":
        return _tail(row.name, field.lines, SOURCES[row.field])
    index = field.joined.count("\n", 0, match.start())
    line = quoted(field.lines.texts[index])
    return Diagnosis(row.name, line, _source(SOURCES[row.field], field.lines.numbers[index]))


def _unknown(evidence: Evidence, console: Lines) -> Diagnosis:
    """What there is: the console's last lines, else libvirt's error, else QEMU's last words."""
    paused = evidence.domain_state == "paused"
    if evidence.libvirt_error and not paused and not console.last(1).texts:
        return Diagnosis("unknown", quoted(evidence.libvirt_error), "libvirt")
    if not console.last(1).texts and evidence.qemu_log:
        return _tail("unknown", lines(evidence.qemu_log), SOURCES["qemu_log"], 1)
    found = _tail("unknown", console, SOURCES["console"])
    if paused:
        state = f"the guest is paused ({evidence.domain_reason or 'reason not known'}): "
        return Diagnosis("unknown", quoted(state + found.line), found.source)
    return found


def _tail(name: str, field: Lines, source: str, count: int = LAST_LINES) -> Diagnosis:
    last = field.last(count)
    if not last.texts:
        return Diagnosis(name, "(nothing was printed)", source)
    # The newest line matters most: it is kept whole, whatever the bound leaves of the others.
    line = quoted(" | ".join(text.strip()[-140:] for text in last.texts))
    return Diagnosis(name, line, _source(source, last.numbers[-1]))


def _source(source: str, number: int) -> str:
    """Files carry the line's number (from 1); what is one line does not."""
    return f"{source}:{number}" if source in _NUMBERED else source


def _boots(console: Lines) -> list[Lines]:
    """The console cut at the beginnings of its boots; a console without one is one boot."""
    for start in _STARTS:
        cuts = [i for i, text in enumerate(console.texts) if start.search(text)]
        if cuts:
            # The bound keeps a guest that reboots for ever from making this long.
            cuts = cuts[-3:]
            return [console.since(a, b) for a, b in zip(cuts, [*cuts[1:], None], strict=True)]
    return [console]


def _last_run(qemu_log: Lines) -> Lines:
    """libvirt appends to one log a guest; what an earlier QEMU said is not this one's fault."""
    starts = [i for i, text in enumerate(qemu_log.texts) if "starting up libvirt version" in text]
    return qemu_log.since(starts[-1]) if starts else qemu_log

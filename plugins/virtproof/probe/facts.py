"""Facts of one topic, gathered by one command: the script's prelude, its output's shape, the cache.

Each command in a guest is a round trip, so a topic is one sh script. It needs a POSIX shell and
prints records; nothing else may be in its output::

    @ KIND NAME         a record begins
    KEY<TAB>VALUE       a field of it; a key may come again
    .                   the end: without it the output was cut short
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner

MARKER = "# virtproof probe: "
MAX_OUTPUT = 4 * 1024 * 1024  # characters; the largest topic (all modules of a kernel) has 100,000
MAX_VALUE = 4096  # characters; a kernel's command line is the longest value of use

# Builtins only: a fork costs milliseconds under emulation, and a topic reads hundreds of files.
# A field whose file is missing or cannot be read (EINVAL of carrier) is left out.
_PRELUDE = r"""
LC_ALL=C; export LC_ALL
rec() { printf '@ %s %s\n' "$1" "$2"; }
say() { printf '%s\t%s\n' "$1" "$2"; }
first() {
  value=; [ -r "$2" ] || return 0
  IFS= read -r value 2>/dev/null <"$2"
  [ -z "$value" ] || say "$1" "$value"
}
link() { cd -P "$2" 2>/dev/null && say "$1" "${PWD##*/}"; return 0; }
real() { cd -P "$2" 2>/dev/null && say "$1" "$PWD"; return 0; }
"""


def clean(text: str, limit: int = MAX_VALUE) -> str:
    """``text`` without control characters (each becomes ``?``), at most ``limit`` characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


@dataclass(frozen=True, slots=True)
class Record:
    """One thing of a topic (a PCI device, a disk) and its fields, cleaned of control characters."""

    topic: str
    kind: str
    name: str
    fields: Mapping[str, tuple[str, ...]]

    def get(self, key: str) -> str | None:
        """The first value of ``key``, None where there is none."""
        values = self.fields.get(key, ())
        return values[0] if values else None

    def all(self, key: str) -> tuple[str, ...]:
        """Every value of ``key``, in order."""
        return self.fields.get(key, ())

    def text(self, key: str) -> str:
        """The first value of ``key``; CommandError where it is missing."""
        value = self.get(key)
        if value is None:
            raise CommandError(f"probe {self.topic}: {self.kind} {self.name} has no {key!r}")
        return value

    def number(self, key: str, base: int = 10) -> int:
        """The first value of ``key`` as an integer; CommandError where it is none."""
        value = self.text(key)
        try:
            return int(value, base)
        except ValueError:
            raise CommandError(
                f"probe {self.topic}: {key} of {self.kind} {self.name} is {value[:80]!r}, "
                f"not a number of base {base}"
            ) from None


def parse(topic: str, output: str) -> tuple[Record, ...]:
    """The records in a script's output; CommandError that names the shape where it has another."""
    if len(output) > MAX_OUTPUT:
        raise CommandError(
            f"probe {topic}: {len(output)} characters, at most {MAX_OUTPUT} expected"
        )
    lines = output.split("\n")
    if lines[-2:] != [".", ""]:
        raise CommandError(
            f"probe {topic}: the output does not end with the line '.', so it was cut short",
            detail=clean(output[-2000:]),
        )
    records: list[Record] = []
    fields: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines[:-2], 1):
        key, tab, value = line.partition("\t")
        if line.startswith("@ ") and line.count(" ") >= 2:
            kind, name = line[2:].split(" ", 1)
            fields = {}
            records.append(Record(topic, clean(kind, 64), clean(name, 256), fields))
        elif tab and key.isidentifier() and records:
            fields[key] = (*fields.get(key, ()), clean(value))
        else:
            raise CommandError(
                f"probe {topic}: line {number} is {clean(line, 80)!r}, expected "
                "'@ KIND NAME', 'KEY<TAB>VALUE' after one, or a last '.'"
            )
    return tuple(records)


class Facts:
    """The records of a topic: gathered on first use by one command, kept until ``refresh``."""

    def __init__(
        self, runner: Runner, topic: str, script: str, *args: str, timeout_s: float = 60
    ) -> None:
        self._runner = runner
        self._topic = topic
        self._timeout_s = timeout_s
        arguments = " ".join(shlex.quote(arg) for arg in args)
        self._command = f"{MARKER}{topic}\nset -- {arguments}\n{_PRELUDE}{script}\necho .\n"
        self._records: tuple[Record, ...] | None = None

    def refresh(self) -> None:
        """Forget what was gathered."""
        self._records = None

    @property
    def records(self) -> tuple[Record, ...]:
        if self._records is None:
            result = self._runner.run(self._command, timeout_s=self._timeout_s)
            self._records = parse(self._topic, result.stdout)
        return self._records

    def of_kind(self, kind: str) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.kind == kind)

    def one(self, kind: str) -> Record:
        """The only record of ``kind``; CommandError where there is none, or more."""
        found = self.of_kind(kind)
        if len(found) != 1:
            raise CommandError(f"probe {self._topic}: {len(found)} records '{kind}', expected 1")
        return found[0]

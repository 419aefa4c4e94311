"""INF files: bytes to sections, lines and fields, as Windows' SetupAPI reads them.

Not configparser's dialect: a section or a key may come twice and both count (a driver's two hardware
ids are two lines of one key), names have no case, and the text may be UTF-16 or of a code page.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from virtproof.errors import PackageError

LIMIT_BYTES = 4 << 20  # the largest of Windows' own is a tenth of this
LIMIT_TEXT = (
    64 << 10
)  # characters of a line with its continuations, and of a value after substitution
LIMIT_NAME = 255  # SetupAPI's, for a section's name
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_END = "\x1a"  # Ctrl-Z ends a text file, since CP/M
_BLANK = " \t\v\f\r\0"  # what SetupAPI takes for space
_TOKEN = re.compile(r'"[^"]*(?:""[^"]*)*"?|[^",;=]+|[,;=]')
# Variables of the environment, which many leave to whoever reads the registry, and never define.
_ENVIRONMENT = {"systemroot", "systemdrive", "windir", "programfiles", "programdata"}
_SUBSTITUTED = re.compile(r"%([^%]*)%")


class InfError(PackageError):
    """The text is no INF; ``line`` says where, and is 0 where that is no question of lines."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {what}" if line else what)
        self.line = line


@dataclass(frozen=True, slots=True)
class Line:
    """A line: without quotes, comment and continuation, with its %strings% as they stand."""

    number: int  # of the text, from 1
    key: str | None  # before the first "="; of a line that is one value alone, that value too
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inf:
    """An INF. Sections are asked for by name in any case; repeated ones are one, in their order."""

    sections: Mapping[str, tuple[Line, ...]]  # by the name in lower case
    locale: str = ""  # four hexadecimal digits of a language, as in [Strings.0409]
    _strings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("strings", f"strings.{self.locale.lower()}") if self.locale else ("strings",)
        for line in (line for name in names for line in self.sections.get(name, ())):
            if line.key is not None:
                self._strings[line.key.lower()] = line.values[0] if line.values else ""

    def __contains__(self, section: str) -> bool:
        return section.lower() in self.sections

    def lines(self, section: str) -> tuple[Line, ...]:
        """The section's lines with their %strings% put in; none where there is no such section."""
        found = self.sections.get(section.lower(), ())
        return tuple(
            Line(
                line.number,
                None if line.key is None else self.expanded(line.key, line.number),
                tuple(self.expanded(value, line.number) for value in line.values),
            )
            for line in found
        )

    def value(self, section: str, key: str) -> tuple[str, ...] | None:
        """The values of the first line with that key; None where there is none."""
        for line in self.lines(section):
            if line.key is not None and line.key.lower() == key.lower():
                return line.values
        return None

    def undefined(self) -> Iterator[tuple[int, str]]:
        """Lines and names of %strings% that no [Strings] section has; %12% is a directory's number."""
        known = {*self._strings, *_ENVIRONMENT, ""}
        for name, lines in self.sections.items():
            if name.split(".")[0] == "strings":
                continue
            for line in lines:
                for text in (line.key or "", *line.values):
                    for key in _SUBSTITUTED.findall(text):
                        if not key.isdigit() and key.lower() not in known:
                            yield line.number, key

    def expanded(self, text: str, number: int = 0) -> str:
        """``text`` with its %strings%: once, as Windows does; unknown ones and %12% stay."""
        if "%" not in text:
            return text
        parts: list[str] = []
        end = length = 0
        for match in _SUBSTITUTED.finditer(text):
            value = self._strings.get(match[1].lower(), match[0]) if match[1] else "%"
            parts += [text[end : match.start()], value]
            length += match.start() - end + len(value)
            end = match.end()
            if length > LIMIT_TEXT:
                raise InfError(f"a value grows beyond {LIMIT_TEXT} characters", number)
        return "".join([*parts, text[end:]])


def read(data: bytes, *, code_page: str = "cp1252", locale: str = "") -> Inf:
    """The INF of these bytes. ``code_page`` is that of a text without a byte order mark.

    InfError, and nothing else, for what cannot be read.
    """
    if len(data) > LIMIT_BYTES:
        raise InfError(f"{len(data)} bytes are more than any INF has (at most {LIMIT_BYTES})")
    sections: dict[str, list[Line]] = {}
    current: list[Line] | None = None
    for number, tokens in _logical(_decoded(data, code_page)):
        if isinstance(tokens, str):
            current = sections.setdefault(_section_name(tokens, number).lower(), [])
        elif current is None:
            raise InfError("there is text before the first [section]", number)
        else:
            current.append(_fields(tokens, number))
    if not sections:
        raise InfError("there is no [section]")
    return Inf({name: tuple(lines) for name, lines in sections.items()}, locale)


def _decoded(data: bytes, code_page: str) -> str:
    """The text up to Ctrl-Z. Without a mark, NULs betray UTF-16, as they do to Windows."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    else:
        head = data[:512]
        encoding = code_page
        if len(head) > 1 and head[1::2].count(0) * 2 > len(head[1::2]):
            encoding = "utf-16-le"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != code_page:
            before = data[: error.start].decode(encoding, "replace")
            raise InfError(
                f"what follows is not {encoding.upper()}", before.count("\n") + 1
            ) from None
        text = "".join(_as_windows(byte, code_page) for byte in data)
    except LookupError:
        raise InfError(f"no code page is called {code_page!r}") from None
    return text.partition(_END)[0]


def _as_windows(byte: int, code_page: str) -> str:
    """A character of a code page; Windows gives the holes of cp1252 the control character there."""
    try:
        return bytes([byte]).decode(code_page)
    except UnicodeDecodeError:
        return chr(byte)


def _logical(text: str) -> Iterator[tuple[int, str | list[str]]]:
    """Number and text of a section's head, or number and tokens of a line with what continues it.

    A quote ends with its line at the latest, so each is cut into tokens by itself.
    """
    begin, tokens, length = 0, list[str](), 0
    for number, line in enumerate(re.split("\r\n|\n|\r", text), start=1):
        content = line.lstrip(_BLANK)
        if not begin and content.startswith("["):
            yield number, content
            continue
        found, continues = _tokens(content)
        begin = begin or (number if found or continues else 0)
        tokens += found
        length += len(content)
        if length > LIMIT_TEXT:
            raise InfError(f"a line grows beyond {LIMIT_TEXT} characters", begin)
        if not continues:
            if begin:
                yield begin, tokens
            begin, tokens, length = 0, [], 0
    if begin:
        yield begin, tokens


def _tokens(line: str) -> tuple[list[str], bool]:
    """The tokens before a comment, and whether a backslash, which is none of them, continues the line."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(line):
        if match[0] == ";":
            break
        tokens.append(match[0])
    if not tokens or tokens[-1].startswith('"'):
        return tokens, False
    last = tokens[-1].rstrip(_BLANK)
    if last.endswith("\\"):
        bare = last.rstrip(_BLANK + "\\")
        return tokens[:-1] + ([bare] if bare else []), True
    return tokens if last or tokens[1:] else [], False


def _section_name(text: str, number: int) -> str:
    name, closed, _ = text[1:].partition("]")
    name = name.strip(_BLANK).strip('"')
    if not closed:
        raise InfError("a [section] is not closed", number)
    if not name:
        raise InfError("a [section] has no name", number)
    if len(name) > LIMIT_NAME:
        raise InfError(f"a [section]'s name is longer than {LIMIT_NAME} characters", number)
    return name


def _fields(tokens: list[str], number: int) -> Line:
    """Key and values. ``=`` ends a key only before the first comma; after it, it is a character."""
    fields: list[list[str]] = [[]]
    key: str | None = None
    for token in tokens:
        if token == ",":
            fields.append([])
        elif token == "=" and key is None and len(fields) == 1:
            key, fields = _joined(fields[0]), [[]]
        else:
            fields[-1].append(token)
    values = tuple(_joined(parts) for parts in fields)
    return Line(number, values[0] if key is None and len(values) == 1 else key, values)


def _joined(parts: list[str]) -> str:
    """A field of quoted and bare parts: quotes go, a doubled one is one, and bare ends are trimmed."""
    done = []
    for index, part in enumerate(parts):
        if part.startswith('"'):
            body = (
                part[1:-1] if len(part) > 1 and part.endswith('"') and _closed(part) else part[1:]
            )
            done.append(body.replace('""', '"'))
            continue
        bare = part.lstrip(_BLANK) if index == 0 else part
        done.append(bare.rstrip(_BLANK) if index == len(parts) - 1 else bare)
    return "".join(done)


def _closed(part: str) -> bool:
    """Whether a quoted part has its end: an even number of quotes."""
    return part.count('"') % 2 == 0

"""The run's results on disk: results.jsonl grows by a line a test, run.json is written at the end.

Both are checked against the schemas in ``schema/`` on their way out and on their way in, so that
a damaged or foreign file is one clear line and never a report of something else.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from importlib.resources import files
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jsonschema

from virtproof.errors import VirtproofError
from virtproof.measure.results import CompatRecord, GuestRecord, RunRecord, TestRecord

_ESCAPE = re.compile(
    r"\x1b\][^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\|\x9c)?"  # OSC: window titles, links
    r"|\x1b[PX^_][^\x1b\x9c\n]{0,4096}(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]{0,16}[0-~]?"  # the short ones
)
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi, unseen
    "\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"  # not characters; tags
)
_BREAK = re.compile("\r*\n|\r|\x85|\u2028|\u2029")
_DIGITS = 18  # of a whole number: what 64 bits hold
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Text from a guest made safe to print and to store; its lines end in a newline only.

    Terminal escapes, other control characters, bidirectional controls and what else cannot be seen
    are removed; a lone surrogate becomes U+FFFD. Tabs and newlines stay. Escaping for HTML or XML
    is left to the writer of these.
    """
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _HIDDEN.sub("", _BREAK.sub("\n", _ESCAPE.sub("", text)))


def clean_line(text: str) -> str:
    """``clean_text`` on one line: each run of white space becomes a single space."""
    return " ".join(clean_text(text).split())


class ResultsWriter:
    """Writes results.jsonl, one line a test, each handed to the system before ``write`` returns.

    Entering replaces the file of an earlier run. Raises VirtproofError where the file cannot be
    written or a record breaks the schema; either way the lines before it stay whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "w")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, record: TestRecord) -> None:
        """Append one test."""
        if self._file is None:
            raise VirtproofError(f"{self.path} is not open", hint="use ResultsWriter by `with`")
        line = _serialise(record.as_dict(), "results", f"the record of {record.test}")
        start = self._file.tell()
        try:
            rest = f"{line}\n".encode()
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(start)  # no half line: a full disk costs this record only
            self._file.seek(start)
            raise _unwritable(self.path, error) from error


def write_run(path: Path, run: RunRecord) -> None:
    """Write run.json whole or not at all."""
    text = _serialise(run.as_dict(), "run", "the run's record", indent=2)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_results(path: Path) -> list[TestRecord]:
    """The tests of a results.jsonl, in the order they were written; none for an empty file.

    What an older run did not yet know has its default.
    """
    records = []
    lines = _read(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            break  # what follows the last newline
        record = _parse(line, "results", f"{path}, line {number}")
        if record["guest"] is not None:
            record["guest"] = GuestRecord(**record["guest"])
        if record.get("compat") is not None:
            record["compat"] = CompatRecord(**record["compat"])
        records.append(TestRecord(**record))
    return records


def read_run(path: Path) -> RunRecord:
    """The run of a run.json."""
    return RunRecord(**_parse(_read(path), "run", str(path)))


def _serialise(record: dict[str, Any], schema: str, what: str, indent: int | None = None) -> str:
    record = _clean(record)
    if fault := _fault(record, schema):
        raise VirtproofError(f"{what} cannot be stored: {fault}")
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as error:
        raise VirtproofError(f"{what} cannot be stored: {error}") from error


def _parse(data: bytes, schema: str, where: str) -> dict[str, Any]:
    hint = "the file is damaged, or was not written by this version of Virtproof"
    try:
        record = json.loads(
            data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        place = f"{where}, column {error.colno}"
        if schema == "run":
            place = f"{where}, line {error.lineno}, column {error.colno}"
        raise VirtproofError(f"{place}: no JSON: {error.msg}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise VirtproofError(f"{where}: no JSON: {clean_line(str(error))}", hint=hint) from error
    if fault := _fault(record, schema):
        raise VirtproofError(f"{where}: {fault}", hint=hint)
    cleaned: dict[str, Any] = _clean(record)
    return cleaned


def _fault(record: Any, schema: str) -> str:
    """What is wrong with a record, in one line; empty if nothing is."""
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(record))
    if error is None:
        return ""
    member = "/".join(str(step) for step in error.absolute_path)
    message = clean_line(str(error.message))
    if len(message) > 160:
        message = f"{message[:80]} ... {message[-75:]}"
    return f"{member}: {message}" if member else message


@functools.cache
def _validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator(load_schema(schema))


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema called ``results`` (one line of results.jsonl) or ``run``."""
    source = files("virtproof.measure").joinpath("schema", f"{name}.schema.json")
    schema: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return schema


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number that JSON knows")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:_DIGITS]}... is too large a number")
    return int(text)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "a run writes it into the directory given by --out"
        raise VirtproofError(f"cannot read {path}: {reason}", hint=hint) from error


def _unwritable(path: Path, error: OSError) -> VirtproofError:
    reason = error.strerror or str(error)
    return VirtproofError(
        f"cannot write {path}: {reason}", hint="give another directory by --out, or make room"
    )

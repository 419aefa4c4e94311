"""What each script was answered, in a file; and such a file in the place of a Windows.

A transcript is JSON Lines: ``{"script": NAME, "value": [...]}``, or ``"error"`` with its line. So one who has
an image can send what was seen, and the probes and judgements are run on it without that image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from virtproof.errors import CommandError, GuestError, UsageError
from virtproof.windows.online.runner import PowerShell, clean, name_of

LARGEST = 64 << 20
HIDDEN = "***"


class Recording:
    """A channel that keeps a transcript. ``secret`` (a password) is not written, wherever it stands."""

    def __init__(self, shell: PowerShell, path: Path, secret: str = "") -> None:
        self._shell = shell
        self._path = path
        self._secret = secret

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        told: dict[str, Any] = {"script": name_of(script)}
        try:
            told["value"] = self._shell.run_powershell(script, timeout_s)
        except (CommandError, GuestError) as error:
            told["error"] = str(error)
            raise
        finally:
            if len(told) > 1:
                line = json.dumps(_without(told, self._secret), ensure_ascii=True)
                with self._path.open("a", encoding="ascii") as file:
                    file.write(line + "\n")
        return told["value"]


class Replay:
    """A transcript's answers, in their order, to the scripts that were asked then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers = _read(path)
        self._next = 0

    def run_powershell(self, script: str, timeout_s: float | None = None) -> Any:
        del timeout_s
        name = name_of(script)
        if self._next == len(self._answers):
            raise UsageError(f"{self._path}: it ends before the script {name!r}")
        told = self._answers[self._next]
        if told["script"] != name:
            asked = clean(str(told["script"]), 40)
            where = f"{self._path}:{self._next + 1}"
            raise UsageError(f"{where}: an answer to {asked!r}, where {name!r} is asked")
        self._next += 1
        if "error" in told:
            raise CommandError(clean(str(told["error"])))
        return told["value"]

    @property
    def left(self) -> int:
        """Answers that nobody has asked for."""
        return len(self._answers) - self._next


def _read(path: Path) -> list[dict[str, Any]]:
    """UsageError, in one line, for what is no transcript."""
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path}: a transcript of more than {LARGEST >> 20} MiB")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no transcript: {error}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or "script" not in told or not {"value", "error"} & {*told}:
            raise UsageError(
                f"{path}:{number}: no line of a transcript",
                hint='as {"script": NAME, "value": [...]}',
            )
        found.append(told)
    return found


def _without(value: Any, secret: str) -> Any:
    if not secret:
        return value
    if isinstance(value, str):
        return value.replace(secret, HIDDEN)
    if isinstance(value, list):
        return [_without(one, secret) for one in value]
    if isinstance(value, dict):
        return {_without(key, secret): _without(one, secret) for key, one in value.items()}
    return value

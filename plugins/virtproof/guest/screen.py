"""The text on a guest's screen, as Tesseract reads it."""

from __future__ import annotations

import subprocess

from virtproof.host import find_program

READER = "tesseract"
READ_S = 60.0
LONGEST = 1 << 14  # characters
SPARSE = ("--psm", "11")  # find what text there is, in no order: a screen has no paragraphs


def text_of(picture: bytes) -> str:
    """What a picture (PNG or PPM) has in words, a line each; empty where Tesseract is not installed or fails.

    The picture is the guest's, hence hostile: read by a process of its own, for ``READ_S`` seconds at most.
    """
    program = find_program(READER)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [str(program), "-", "-", *SPARSE],
            input=picture,
            capture_output=True,
            timeout=READ_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")[:LONGEST]

"""Errors that a user sees: one line that says what, where and what to do."""

from __future__ import annotations


class VirtproofError(Exception):
    """A fault with a cause that can be named.

    ``what`` says what is wrong and where, in one line; ``hint`` what to do about it; ``detail`` is
    the evidence behind it (a tool's output), which goes to a file or below the line, never into it.
    """

    def __init__(self, what: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class UsageError(VirtproofError):
    """The user asked for something that cannot be: an unknown image, an impossible axis."""


class MissingToolError(VirtproofError):
    """A program or capability that the host lacks; the hint is the command that mends it."""


class ImageError(VirtproofError):
    """An image cannot be built, is damaged, or is no image."""


class LabError(VirtproofError):
    """The lab (namespaces, libvirtd, network) does not come up or has gone."""


class LabGoneError(LabError):
    """The lab went while it was in use: its libvirtd does not answer any more."""


class GuestError(VirtproofError):
    """A guest does not start, does not answer, or is gone."""


class CommandError(VirtproofError):
    """A command in a guest failed, or its output has not the shape it must have."""


class PackageError(VirtproofError):
    """A driver package, or a file of one (INF, catalog, .sys), is not what it must be."""

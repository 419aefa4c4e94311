"""HTML that cannot be broken out of: every text is cleaned and escaped unless it is Markup already.

Pure; the only place of the report where angle brackets are written.
"""

from __future__ import annotations

import html
import re
from urllib.parse import quote

from virtproof.measure.store import clean_line, clean_text

_VOID = frozenset({"br", "hr", "img", "meta"})
_NAME = re.compile(r"[a-z][a-z0-9-]*")


class Markup(str):
    """Finished HTML. Only this module makes it from text."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: str | bool | None) -> Markup:
    """An element. Attributes: ``class_`` is ``class``, ``data_label`` is ``data-label``.

    ``True`` writes a bare attribute, ``None`` and ``False`` none. Children that are None are
    left out.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: str | None) -> Markup:
    """Children one after another, the texts among them escaped."""
    return Markup("".join(_text(child) for child in children if child is not None))


def stylesheet(css: str) -> Markup:
    """A style element of the project's own CSS."""
    if "</" in css:
        raise ValueError("a style sheet must not end its element")
    return Markup(f"<style>\n{css}</style>")


def document(*children: Markup) -> str:
    """The file's text: doctype and the element ``html``."""
    return f"<!DOCTYPE html>\n{el('html', *children, lang='en')}\n"


def href(*steps: str) -> str:
    """Relative link to a file below the report's directory; can never name a scheme or a host."""
    return quote("/".join(steps), safe="/", errors="replace")


def _text(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(clean_text(child), quote=True)


def _attribute(name: str, value: str | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if not _NAME.fullmatch(name):
        raise ValueError(f"no attribute's name: {name!r}")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(clean_line(value), quote=True)}"'

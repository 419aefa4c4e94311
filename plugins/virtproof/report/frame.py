"""What every page has: its head, with the style sheet in it and a policy that lets nothing else in."""

from __future__ import annotations

from importlib.resources import files

from virtproof.report.markup import Markup, el, stylesheet

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def head(title: str) -> Markup:
    """The element ``head`` of a page that holds all it needs."""
    css = files("virtproof.report").joinpath("style.css").read_text(encoding="utf-8")
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title} \N{EN DASH} Virtproof"),
        stylesheet(css),
    )

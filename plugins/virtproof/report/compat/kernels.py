"""Releases of kernels: their order, and their flavour. Pure."""

from __future__ import annotations

import re

# Words of a release that say how or for what machine it was built, not which kernel it is.
_NO_FLAVOUR = frozenset(
    {"amd64", "x86", "i686", "arm64", "aarch64", "bpo", "rc", "el", "fc", "deb", "unsigned"}
)


def release_order(release: str) -> tuple[tuple[int, int, str], ...]:
    """A key that puts 5.10 before 6.1 before 6.12, and 7.0-rc3 before 7.0.

    >>> sorted(["6.12.1", "7.0", "6.1.0-9", "6.1.0-10", "7.0-rc3"], key=release_order)
    ['6.1.0-9', '6.1.0-10', '6.12.1', '7.0-rc3', '7.0']
    """
    parts = re.findall(r"rc\d+|\d+|[a-z]+", release.lower())
    key = [(1, int(part), "") if part.isdigit() else _word(part) for part in parts]
    return (*key, (0, 0, ""))


def _word(part: str) -> tuple[int, int, str]:
    return (-1, int(part[2:]), "rc") if re.fullmatch(r"rc\d+", part) else (0, 1, part)


def flavour(release: str) -> str:
    """What the kernel was made for: ``cloud``, ``rt``, ``generic`` ...; empty for a plain one.

    >>> [flavour(one) for one in ("6.1.0-55-cloud-amd64", "6.1.0-55-amd64", "6.8.0-45-generic")]
    ['cloud', '', 'generic']
    """
    words = re.split(r"[^a-z0-9]+", release.lower())
    told = [word for word in words if word.isalpha() and word not in _NO_FLAVOUR]
    return "-".join(told)


def without_release(image: str) -> str:
    """``debian-12`` of ``debian-12@6.1.0-55-amd64``, as an image with a kernel under test is called."""
    return image.partition("@")[0]

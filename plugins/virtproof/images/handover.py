"""What a second harness, inside of a guest, needs of the first one's cache: no network is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from virtproof.images import catalog, sources
from virtproof.images.cache import MANIFEST
from virtproof.images.keys import key_pair
from virtproof.images.sources import Source
from virtproof.images.store import ImageStore

CACHE, SOURCES = "cache", "apt.sources"
NOWHERE = "file:///nonexistent"  # no mirror is anybody's business in a guest


def hand_over(store: ImageStore, name: str, to: Path, *, with_image: bool = True) -> None:
    """Lay out in ``to``, a new directory: ``cache``, and ``apt.sources``.

    The cache has the kernel for the accelerator probe, the SSH key, and (``with_image``) the
    prepared image of that catalog name, which is built where it is missing. The sources name the
    suites that the image was made of, on which its address depends, and no mirror.
    """
    entry = catalog.find_build(catalog.load(), name)
    files = [store.fetch_probe_kernel()]
    if with_image:
        files.append(store.prepared(name).path)
    for file in files:
        kind, key = file.parent.parent.name, file.parent.name
        for path in (file, file.parent / MANIFEST):
            _put(path, to / CACHE / kind / key / path.name)
    private = key_pair(store.cache)[0]
    for path in (private, private.with_suffix(".pub")):
        _put(path, to / CACHE / private.parent.name / path.name)
    suites = sorted({source.suite for source in sources.for_entry(entry)})
    stanzas = [Source(NOWHERE, suite, entry.components).stanza() for suite in suites]
    (to / SOURCES).write_text("\n".join(stanzas), encoding="utf-8")


def _put(file: Path, target: Path) -> None:
    """A link where it can be one: an image is a GiB."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)

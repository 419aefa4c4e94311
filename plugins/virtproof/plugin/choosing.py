"""What ``--image`` may name beside an image: a pattern, and all that are built."""

from __future__ import annotations

from fnmatch import fnmatchcase

from virtproof.errors import ImageError, UsageError
from virtproof.images import catalog, foreign
from virtproof.images.entry import BuildEntry
from virtproof.images.store import ImageStore, default_cache
from virtproof.spec import Accel

ALL_BUILT = "all-built"
WILD = set("*?[")


def expand(name: str) -> list[str]:
    """The images that a name stands for: itself, or those of the catalog that can be built and fit it."""
    if foreign.is_file_name(name) or not (name == ALL_BUILT or WILD & set(name)):
        return [name]
    entries = catalog.builds()
    if name != ALL_BUILT:
        fitting = [one for one in entries if fnmatchcase(one, name)]
        if not fitting:
            raise UsageError(
                f"--image {name}: nothing that can be built is called so",
                hint=f"one of: {', '.join(entries)}",
            )
        return fitting
    store = ImageStore(default_cache(), Accel.TCG)
    there = {path.name for path in store.cache.items("prepared")}
    built = [one for one, entry in entries.items() if _key(store, entry) in there]
    if not built:
        raise UsageError("--image all-built: none is built yet", hint="./run images build NAME")
    return built


def _key(store: ImageStore, entry: BuildEntry) -> str:
    """Where the entry's image would lie; nowhere, if this machine has no source to build it from."""
    try:
        return store.prepared_key(entry)
    except ImageError:
        return ""

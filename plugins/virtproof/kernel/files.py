"""Where a kernel's files lie: a tree, packages (.deb), a running guest. See ``support.Files``."""

from __future__ import annotations

import base64
import re
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from virtproof.errors import MissingToolError
from virtproof.guest.shell import Runner
from virtproof.kernel.support import CONFIG
from virtproof.kernel.unpack import LARGEST, KernelFileError

READ_S = 60.0  # on KVM; a runner scales it
# What a package's tree is read for: not 4,000 modules, of which one look wants three.
WANTED = re.compile(r"(virtio[^/]*\.ko(\.\w+)?|modules\.builtin|config[^/]*|vmlinuz[^/]*)$")
_PLACE = re.compile(r"(?:\./)?(?:usr/)?lib/modules/([^/]+)/(.+)")
_BOOT = re.compile(r"(?:\./)?boot/(config|vmlinuz)-([^/]+)")

_LIST = r"""
d=/lib/modules/$(uname -r)
uname -r
[ -d "$d" ] || exit 0  # booted directly, on an image without modules of this kernel
cd "$d" && find . -name '*.ko' -o -name '*.ko.*' | sed 's|^\./||'
"""
_READ = r"""
r=$(uname -r); cd "/lib/modules/$r" 2>/dev/null || cd /dev  # where nothing of the names below is
case %s in
config)
  for f in "/boot/config-$r" config; do [ ! -r "$f" ] || exec base64 "$f"; done
  [ ! -r /proc/config.gz ] || { zcat /proc/config.gz | base64; exit; };;
*) [ ! -r %s ] || exec base64 %s;;
esac
echo -
"""


class TreeFiles:
    """Files below a root directory, as of a package that was unpacked or ``make modules_install``."""

    def __init__(self, root: Path, release: str) -> None:
        self.release = release
        places = [root / "lib/modules" / release, root / "usr/lib/modules" / release]
        self._modules = next((place for place in places if place.is_dir()), places[0])
        self._configs = (root / "boot" / f"config-{release}", self._modules / CONFIG)

    def names(self) -> Iterable[str]:
        found = self._modules.rglob("*.ko*")
        return sorted(path.relative_to(self._modules).as_posix() for path in found)

    def read(self, name: str) -> bytes | None:
        places = self._configs if name == CONFIG else (self._modules / name,)
        for path in places:
            if path.is_file():
                with path.open("rb") as file:
                    return file.read(LARGEST)
        return None


class DebFiles:
    """Packages of one kernel, read once and not unpacked to disk: the names of all files; of virtio's
    modules, ``config``, ``modules.builtin`` and ``vmlinuz`` the content. ``releases``: those seen."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self._contents: dict[str, bytes] = {}
        self._names: dict[str, None] = {}
        self.releases: set[str] = set()
        for package in packages:
            self._read_package(package)
        self.release = next(iter(sorted(self.releases)), "")

    def names(self) -> Iterable[str]:
        return self._names

    def read(self, name: str) -> bytes | None:
        return self._contents.get(name)

    def _read_package(self, package: Path) -> None:
        argv = ["dpkg-deb", "--fsys-tarfile", str(package)]
        try:
            child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise MissingToolError("not installed: dpkg-deb", hint="apt install dpkg") from None
        with child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                with tarfile.open(fileobj=child.stdout, mode="r|") as tar:
                    for member in tar:
                        self._take(member, tar.extractfile(member) if member.isfile() else None)
                child.stdout.read()
                said = ""
            except (tarfile.TarError, EOFError) as error:
                said = str(error)
            said = child.stderr.read().decode("utf-8", "replace").strip() or said
        if child.returncode != 0 or said:
            last = said.splitlines()[-1][:200] if said else f"status {child.returncode}"
            raise KernelFileError(f"{package} is no Debian package, or is damaged: {last}")

    def _take(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        if content is None:
            return
        if match := _BOOT.fullmatch(member.name):
            name, release = match[1], match[2]
        elif match := _PLACE.fullmatch(member.name):
            release, name = match[1], match[2]
        else:
            return
        self.releases.add(release)
        self._names[name] = None
        if WANTED.search(name) and member.size <= LARGEST:
            self._contents[name] = content.read(LARGEST)


class GuestFiles:
    """Files of the running kernel of a guest; each read is a command."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        lines = runner.run(_LIST, check=False, timeout_s=READ_S).stdout.split("\n")
        self.release = lines[0].strip()
        self._names = tuple(line.strip() for line in lines[1:] if line.strip())

    def names(self) -> Iterable[str]:
        return self._names

    def read(self, name: str) -> bytes | None:
        said = self._runner.run(_READ, name, name, name, timeout_s=READ_S).stdout.strip()
        if said == "-":
            return None
        try:
            return base64.b64decode(said)
        except ValueError:
            raise KernelFileError(f"{name} does not come out of the guest as base64") from None

"""The medium that drivers come on, an ISO or a folder: names, sizes, labels, and the bytes of a file."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Protocol

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from virtproof.errors import PackageError, UsageError

LIMIT_FILES = 100_000
LIMIT_BYTES = 256 << 20  # of one file that is read
_SECTOR = 2048
_DAMAGED = (PyCdlibException, struct.error, IndexError, KeyError, ValueError, AttributeError)


class MediumError(UsageError):
    """What was given is no medium that can be read."""


class Medium(Protocol):
    """Files by their path below the root, as in ``viostor/w11/amd64/viostor.inf``."""

    @property
    def name(self) -> str: ...  # of the file or folder

    @property
    def files(self) -> Mapping[str, int]: ...  # path to size in bytes

    @property
    def labels(self) -> Mapping[str, str]: ...  # by what says it; none of a folder

    @property
    def trees(self) -> Mapping[str, frozenset[str]]: ...  # paths in lower case by the kind of tree

    def read(self, path: str) -> bytes: ...


def open_medium(path: Path) -> Medium:
    """MediumError where there is neither an ISO nor a folder."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise MediumError(
            f"{path}: there is no such file", hint="give virtio-win's ISO or a folder"
        )
    if not (path.is_file() or path.is_block_device()):
        raise MediumError(f"{path}: is neither a file nor a folder")
    return Iso(path)


@dataclass(frozen=True)
class Folder:
    """An unpacked medium. Links are not followed."""

    path: Path
    files: Mapping[str, int] = field(init=False)
    labels: Mapping[str, str] = field(init=False, default_factory=dict)
    trees: Mapping[str, frozenset[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        found: dict[str, int] = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                file = Path(folder, name)
                about = file.lstat()
                if stat.S_ISREG(about.st_mode):
                    found[file.relative_to(self.path).as_posix()] = about.st_size
            if len(found) > LIMIT_FILES:
                raise MediumError(f"{self.path}: more than {LIMIT_FILES} files", hint="which one?")
        object.__setattr__(self, "files", found)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def read(self, path: str) -> bytes:
        _bounded(path, self.files[path])
        try:
            return (self.path / path).read_bytes()
        except OSError as error:
            raise PackageError(f"{path}: {error.strerror}") from None


class Iso:
    """An ISO. Its files are those of the tree that Windows takes: UDF, else Joliet, else ISO 9660."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._iso = pycdlib.PyCdlib()
        try:
            self._iso.open(str(path))
        except OSError as error:
            raise MediumError(f"{path}: {error.strerror or error}") from None
        except (*_DAMAGED, MemoryError, RecursionError) as error:
            raise self._refused(error) from None
        self._check_size()
        self._kind, self._paths, self.files = "", dict[str, str](), dict[str, int]()
        trees: dict[str, frozenset[str]] = {}
        try:
            for kind in self._kinds():
                paths = self._walk(kind)
                trees[kind] = frozenset(name.lower() for name in paths)
                if not self._kind:
                    self._kind, self._paths = kind, paths
            self.files = {name: self._length(inner) for name, inner in self._paths.items()}
        except _DAMAGED as error:
            raise self._refused(error) from None
        self.trees: Mapping[str, frozenset[str]] = trees
        self.labels: Mapping[str, str] = self._labels()

    @property
    def name(self) -> str:
        return self._path.name

    def read(self, path: str) -> bytes:
        """The file's bytes; PackageError where they are not all there."""
        size = self.files[path]
        _bounded(path, size)
        data = BytesIO()
        try:
            self._iso.get_file_from_iso_fp(data, **{f"{self._kind}_path": self._paths[path]})
        except (*_DAMAGED, OSError) as error:
            raise PackageError(f"{path}: cannot be read from {self.name}: {_said(error)}") from None
        if data.tell() != size:
            raise PackageError(f"{path}: {data.tell()} of its {size} bytes are on {self.name}")
        return data.getvalue()

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[RawIOBase]:
        """The file, to be read at places: of one that is too large for ``read``. Raises as that does."""
        try:
            with self._iso.open_file_from_iso(**{f"{self._kind}_path": self._paths[path]}) as file:
                yield file
        except (*_DAMAGED, OSError) as error:
            raise PackageError(f"{path}: cannot be read from {self.name}: {_said(error)}") from None

    @property
    def boots(self) -> bool:
        """Whether a BIOS finds something to boot (El Torito)."""
        return self._iso.eltorito_boot_catalog is not None

    def _kinds(self) -> list[str]:
        """The trees that are there, the one that Windows takes first."""
        kinds = [("udf", self._iso.has_udf()), ("joliet", self._iso.has_joliet()), ("iso", True)]
        return [name for name, there in [*kinds, ("rr", self._iso.has_rock_ridge())] if there]

    def _walk(self, kind: str) -> dict[str, str]:
        """Path to pycdlib's own path, of all files of a tree."""
        found: dict[str, str] = {}
        for folder, _, names in self._iso.walk(**{f"{kind}_path": "/"}):
            for name in names:
                inner = f"{folder.rstrip('/')}/{name}"
                found[_plain(inner) if kind == "iso" else inner.lstrip("/")] = inner
            if len(found) > LIMIT_FILES:
                raise MediumError(f"{self._path}: more than {LIMIT_FILES} files")
        return found

    def _length(self, inner: str) -> int:
        record = self._iso.get_record(**{f"{self._kind}_path": inner})
        return int(record.get_data_length())

    def _labels(self) -> dict[str, str]:
        """Of each volume descriptor; Joliet has room for 16 characters only, and Windows shows its label."""
        found = {"iso": _text(self._iso.pvd.volume_identifier, "ascii")}
        if self._iso.joliet_vd is not None:
            found["joliet"] = _text(self._iso.joliet_vd.volume_identifier, "utf-16-be")
        return found

    def _check_size(self) -> None:
        if not self._path.is_file():
            return  # a drive says nothing of its size
        there, wanted = self._path.stat().st_size, int(self._iso.pvd.space_size) * _SECTOR
        if there < wanted:
            raise MediumError(
                f"{self._path}: is cut off: {there} of its {wanted} bytes are there",
                hint="fetch it again",
            )

    def _refused(self, error: BaseException) -> MediumError:
        return MediumError(
            f"{self._path}: is no ISO, or is damaged: {_said(error)}",
            hint="give virtio-win's ISO or a folder",
        )


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _plain(inner: str) -> str:
    """An ISO 9660 path without the version at its end."""
    return inner.lstrip("/").partition(";")[0].rstrip(".")


def _text(raw: bytes, encoding: str) -> str:
    return raw.decode(encoding, "replace").strip(" \0")


def _bounded(path: str, size: int) -> None:
    if size > LIMIT_BYTES:
        raise PackageError(f"{path}: {size} bytes are more than any driver's file has")

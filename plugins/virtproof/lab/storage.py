"""Disks of guests as plain files in a directory of the lab's."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from virtproof.errors import LabError, MissingToolError


class FileStorage:
    """Overlays and blank disks as files below one directory, which goes with the lab."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def overlay(self, base: Path, name: str) -> str:
        path = self._directory / f"{name}.qcow2"
        _qemu_img("create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(path))
        return str(path)

    def blank(self, name: str, size_mib: int) -> str:
        path = self._directory / f"{name}.raw"
        with open(path, "xb") as disk:
            disk.truncate(size_mib << 20)
        return str(path)

    def archive(self, name: str, directory: Path) -> str:
        path = self._directory / f"{name}.raw"
        with tarfile.open(path, "x") as tar:
            for file in sorted(directory.iterdir()):
                tar.add(file, file.name)
        return str(path)

    def allocated_bytes(self, path: str) -> int:
        return os.stat(path).st_blocks * 512

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)


def _qemu_img(*arguments: str) -> None:
    try:
        subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingToolError("qemu-img is not installed", hint="./run doctor") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip()
        first = (said.splitlines() or [f"status {error.returncode}"])[0]
        raise LabError(f"qemu-img {arguments[0]} failed: {first}", detail=said) from None

"""A real image from a publisher on loopback that breaks off: fetched, proven, prepared by its first boot."""

from __future__ import annotations

import mmap
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from downloads.publishing import FILE, HOST, NAME, Site, published
from downloads.signing import lasting, why_not
from virtproof.images import base, catalog
from virtproof.images.cache import read_manifest, sha256
from virtproof.images.prepare import Maker
from virtproof.images.store import ImageStore, default_cache
from virtproof.spec import Accel

pytestmark = [
    pytest.mark.real,
    pytest.mark.boots(2),
    pytest.mark.skipif(
        shutil.which("mmdebstrap") is None or shutil.which("qemu-system-x86_64") is None,
        reason="no mmdebstrap or no qemu-system-x86_64",
    ),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mmap.mmap]:
    """What a publisher would serve: a system with cloud-init that has never been booted, as qcow2."""
    folder = tmp_path_factory.mktemp("publisher")
    store = ImageStore(default_cache(), Accel.TCG, print)
    entry = catalog.builds()["debian-12-virtio"]
    rootfs = store._rootfs(entry, Maker(store.cache, Accel.TCG, ""))
    kernel = store._packages(entry, entry.kernel)
    base.image(entry, rootfs.path / base.ROOTFS, kernel.path, folder, print)
    path = folder / FILE
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
    subprocess.run([*argv, str(folder / "disk.raw"), str(path)], check=True)
    (folder / "disk.raw").unlink()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(disk: mmap.mmap, tmp_path: Path) -> Iterator[Site]:
    """It breaks off after 100 MiB, and its list is clear-signed."""
    if why_not():
        pytest.skip(why_not())
    with published(tmp_path) as made:
        made.image.data, made.image.cuts = disk, [100 << 20]
        made.form, made.space_mib = "qcow2", 4096
        (tmp_path / "image").write_bytes(disk)
        listed = f"SHA256 ({FILE}) = {sha256(tmp_path / 'image')}\n".encode()
        (tmp_path / "image").unlink()
        made.list.data = lasting("").clear_signed(listed)
        made.more = ['signature = "inline"', f'key = "{lasting("").fingerprint}"']
        (made.catalog / "keys").mkdir()
        (made.catalog / "keys" / "publisher.gpg").write_bytes(lasting("").public())
        yield made


def test_a_publishers_image_is_fetched_proven_and_prepared(site: Site) -> None:

    status, lines = site.run("build", NAME)
    assert status == 0, lines
    told = "\n".join(lines)
    assert f"{NAME}: going on after 100 MiB" in told
    assert f"{NAME}: sha256 is right, signed by {lasting('').fingerprint}" in told
    (prepared,) = site.cache.glob("prepared/*")
    facts = read_manifest(prepared)["facts"]
    assert facts["name"] == NAME
    assert (facts["initramfs"], facts["agent"]) == ("initramfs-tools", "yes")
    asked = len(site.server.asked)
    site.mirror = f"{HOST}=http://nowhere.invalid/"  # offline: what is prepared needs nobody
    status, lines = site.run("build", NAME)
    assert (status, len(site.server.asked)) == (0, asked), lines
    assert str(prepared) in lines[-1]

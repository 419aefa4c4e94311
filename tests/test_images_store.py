"""The store: names in, images out; what an address depends on; overlays by the real qemu-img."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virtproof.errors import ImageError, UsageError
from virtproof.images import catalog, sources, store
from virtproof.images.store import ImageStore, default_image
from virtproof.spec import Accel, Firmware

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("ssh-keygen") is None,
    reason="no qemu-img or ssh-keygen",
)
MIRROR = "deb http://mirror.example/debian bookworm main\n"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    """A store on an empty cache, on a machine whose sources serve bookworm alone."""
    own = tmp_path / "own.list"
    own.write_text(MIRROR)
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    return ImageStore(tmp_path / "cache", Accel.TCG)


def put(images: ImageStore, name: str, **facts: Any) -> Path:
    """A prepared image of the catalog as if it had been built: an empty disk with a line in it."""
    key = images.prepared_key(catalog.builds()[name])

    def maker(scratch: Path) -> dict[str, Any]:
        disk = scratch / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "8M"], check=True)
        write = ["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 64k", str(disk)]
        subprocess.run(write, check=True)
        return {"name": name, "initramfs": "dracut", "agent": "yes", "kernel": "6.1", **facts}

    return images.cache.make("prepared", key, maker).path


def test_a_built_image_is_found_with_what_is_known_of_it(images: ImageStore) -> None:
    path = put(images, "debian-12")
    image = images.prepared("debian-12")
    assert image.path == path / "disk.qcow2"
    assert (image.initramfs, image.installed_on, image.agent) == ("dracut", "ide", True)
    assert image.digest == store.sha256(image.path)
    assert image.size_bytes == image.path.stat().st_size
    assert image.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("facts", "firmware"),
    [
        ({}, Firmware.BIOS),
        ({"firmware": "bios"}, Firmware.BIOS),
        ({"firmware": "uefi"}, Firmware.UEFI),
    ],
)
def test_an_image_says_what_it_boots_by(
    images: ImageStore, facts: dict[str, str], firmware: Firmware
) -> None:
    put(images, "debian-12", **facts)
    assert images.prepared("debian-12").firmware is firmware


def test_a_tool_that_the_guest_made_up_is_unknown(images: ImageStore) -> None:
    put(images, "debian-12", initramfs="mk<b>", agent="maybe")
    image = images.prepared("debian-12")
    assert (image.initramfs, image.agent) == ("unknown", False)


def test_an_overlay_reads_through_and_the_image_stays_as_it_was(
    images: ImageStore, tmp_path: Path
) -> None:
    put(images, "debian-12")
    image = images.prepared("debian-12")
    overlay = tmp_path / "over lay.qcow2"
    images.overlay(image, overlay)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", str(overlay)], capture_output=True, check=True
    )
    info = json.loads(told.stdout)
    assert info["backing-filename"] == str(image.path)
    assert info["backing-filename-format"] == "qcow2"
    for command in ("read -q -P 7 0 64k", "write -q -P 9 0 64k", "read -q -P 9 0 64k"):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(overlay)], check=True)
    assert store.sha256(image.path) == image.digest
    assert image.path.stat().st_mode & 0o222 == 0


def test_an_overlay_that_cannot_be_is_one_line(images: ImageStore, tmp_path: Path) -> None:
    put(images, "debian-12")
    with pytest.raises(ImageError, match="overlay on debian-12: ") as caught:
        images.overlay(images.prepared("debian-12"), tmp_path / "none" / "o.qcow2")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest(images: ImageStore) -> None:
    with pytest.raises(UsageError, match="did you mean debian-12"):
        images.prepared("debian12")


@pytest.mark.parametrize(
    "change",
    [
        {"drivers": ("virtio_pci",)},
        {"tool": "dracut"},
        {"packages": ("linux-image-amd64",)},
        {"size_mib": 8192},
        {"installed_on": "virtio"},
        {"components": ("main", "contrib")},
        {"kernel": "linux-image-rt-amd64"},
        {"kernel_pocket": "backports"},
        {"root": "xfs"},
        {"table": "gpt"},
    ],
)
def test_what_makes_another_image_makes_another_address(
    images: ImageStore, change: dict[str, Any]
) -> None:
    entry = catalog.builds()["debian-12"]
    assert images.prepared_key(replace(entry, **change)) != images.prepared_key(entry)


def test_title_and_mirror_make_no_other_image(
    images: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalog.builds()["debian-12"]
    before = images.prepared_key(entry)
    other = tmp_path / "other.list"
    other.write_text(MIRROR.replace("mirror", "another"))
    monkeypatch.setenv(sources.ENVIRONMENT, str(other))
    assert images.prepared_key(replace(entry, title="x")) == before
    other.write_text(MIRROR + MIRROR.replace("bookworm", "bookworm-security"))
    assert images.prepared_key(entry) != before


def test_another_key_makes_another_image(images: ImageStore) -> None:
    """Guests of the old one would let nobody in."""
    entry = catalog.builds()["debian-12"]
    before = images.prepared_key(entry)
    public = images.cache.root / "ssh" / "id_ed25519.pub"
    public.write_text("ssh-ed25519 AAAA other\n")
    assert images.prepared_key(entry) != before


def test_flavours_and_backports_share_the_root_filesystem_of_their_suite(
    images: ImageStore, tmp_path: Path
) -> None:
    """It is the dear part, and has no kernel in it."""
    (tmp_path / "own.list").write_text(MIRROR + MIRROR.replace("bookworm", "bookworm-backports"))
    entries = catalog.builds()
    others = ("dracut", "nested", "uefi", "xfs", "btrfs", "lvm")  # with other packages
    names = [n for n in entries if n.startswith("debian-12") and not n.endswith(others)]
    assert {"debian-12-cloud", "debian-12-rt", "debian-12-backports-cloud"} <= set(names)
    assert len({images.rootfs_key(entries[name]) for name in names}) == 1
    assert len({images.prepared_key(entries[name]) for name in names}) == len(names)


def test_a_recipe_changes_the_images_that_are_made_by_it(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And no other: a new way of booting makes no image anew."""
    entries = catalog.builds()
    before = {
        name: images.prepared_key(entry) for name, entry in entries.items() if "debian-12" in name
    }
    recipes = tmp_path / "recipes"
    shutil.copytree(catalog.catalog_dir() / "recipes", recipes)
    monkeypatch.setattr(store.base, "recipes", lambda: recipes)

    def changed(recipe: str) -> set[str]:
        path = recipes / recipe
        kept = path.read_text()
        path.write_text(kept + "# changed\n")
        found = {name for name in before if images.prepared_key(entries[name]) != before[name]}
        path.write_text(kept)
        return found

    assert changed("boot-uefi.sh") == {"debian-12-uefi"}
    assert changed("root-lvm.sh") == {"debian-12-lvm"}
    assert changed("mkfs.sh") == {"debian-12-xfs", "debian-12-btrfs"}
    assert changed("dracut.sh") == {"debian-12-dracut"}
    assert changed("root-ext4.sh") == before.keys() - {"debian-12-xfs", "debian-12-btrfs"}
    assert changed("image.sh") == before.keys()


def test_ide_and_virtio_images_share_their_root_filesystem(images: ImageStore) -> None:
    entries = catalog.builds()
    ide, virtio, dracut = (
        images.rootfs_key(entries[name])
        for name in ("debian-12", "debian-12-virtio", "debian-12-dracut")
    )
    assert ide == virtio
    assert ide != dracut


def test_too_little_space_is_said_before_the_build(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtproof.host.disk_free_mib", lambda _path: 10)
    with pytest.raises(ImageError, match=r"building debian-12 needs \d+ MiB free"):
        images.prepared("debian-12")


def test_a_recipe_that_fails_is_one_line_with_its_log_kept(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipes = tmp_path / "recipes"
    shutil.copytree(catalog.catalog_dir() / "recipes", recipes)
    (recipes / "base.sh").write_text(
        "echo noise\necho 'E: Unable to locate package x' >&2\nexit 3\n"
    )
    monkeypatch.setattr(store.base, "recipes", lambda: recipes)
    monkeypatch.setattr(store.base.namespace, "as_root", lambda argv: argv)
    monkeypatch.setattr(store.base.namespace, "check", lambda: None)
    monkeypatch.setattr(store.base, "need", lambda *_programs: None)
    with pytest.raises(
        ImageError, match="debian-12 failed: E: Unable to locate package x"
    ) as caught:
        images.prepared("debian-12")
    assert "\n" not in str(caught.value)
    (log,) = (images.cache.root / "failed").iterdir()
    assert str(log) in str(caught.value)
    assert "noise" in log.read_text()
    assert list((images.cache.root / "tmp").iterdir()) == []


def test_the_probe_kernel_is_one_that_is_there(images: ImageStore) -> None:
    """An unpacked one, else one whose packages a build has left, whatever the release's layout."""
    assert images.probe_kernel() is None

    def packages(scratch: Path) -> dict[str, Any]:
        tree = scratch / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
        (tree / "DEBIAN" / "control").write_text(control)
        for name, content in (("linux-image-7", ""), ("linux-binary-7", "kernel")):
            if content:
                (tree / "boot").mkdir()
                (tree / "boot" / "vmlinuz-7.2").write_text(content)
            argv = ["dpkg-deb", "--build", str(tree), str(scratch / f"{name}_1_amd64.deb")]
            subprocess.run(argv, check=True, capture_output=True)
        shutil.rmtree(tree)
        return {}

    images.cache.make("packages", "k", packages)
    assert images.probe_kernel() is None
    path = images.fetch_probe_kernel()
    assert path.read_text() == "kernel"
    assert images.probe_kernel() == path


def test_the_default_is_what_the_machine_serves(images: ImageStore, tmp_path: Path) -> None:
    assert images.probe_kernel() is None
    assert default_image() == "debian-12"
    (tmp_path / "own.list").write_text("deb http://mirror.example/ubuntu noble main\n")
    assert default_image() == "debian-12"  # Ubuntu's entry was never seen working

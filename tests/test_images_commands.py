"""``virtproof images``: the table, removing, and one line for what goes wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from virtproof.images import catalog, commands, sources
from virtproof.images.cache import WARM
from virtproof.images.store import ImageStore
from virtproof.spec import Accel


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    own = tmp_path / "own.list"
    own.write_text("deb http://mirror.example/debian bookworm main\n")
    monkeypatch.setenv(sources.ENVIRONMENT, str(own))
    monkeypatch.setenv("VIRTPROOF_CACHE", str(tmp_path / "cache"))
    return ImageStore(tmp_path / "cache", Accel.TCG)


def put(images: ImageStore, name: str, rootfs: str = "shared") -> None:
    def disk(scratch: Path) -> dict[str, Any]:
        (scratch / "disk.qcow2").write_bytes(b"d" * (3 << 20))
        return {"name": name, "kernel": "6.1.0-9", "rootfs": rootfs}

    def tar(scratch: Path) -> dict[str, Any]:
        (scratch / "rootfs.tar").write_bytes(b"t")
        return {}

    images.cache.make("prepared", images.prepared_key(catalog.builds()[name]), disk)
    if not (images.cache.root / "rootfs" / rootfs).exists():
        images.cache.make("rootfs", rootfs, tar)


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    commands.add_parser(parser.add_subparsers(required=True)).set_defaults(call=commands.main)
    args = parser.parse_args(["images", *argv])
    return int(args.call(args))


def kinds(images: ImageStore) -> tuple[int, int]:
    return len(images.cache.items("prepared")), len(images.cache.items("rootfs"))


def test_the_list_tells_what_is_built(
    images: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    put(images, "debian-12")
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["IMAGE", "KIND", "STATE", "SIZE", "AGE", "KERNEL"]
    by_name = {line.split()[0]: line for line in lines[1:-1]}
    assert by_name["debian-12"].split()[1:6] == ["*", "build", "built", "3", "MiB"]
    assert "6.1.0-9" in by_name["debian-12"]
    assert by_name["debian-12-virtio"].split()[1:] == ["build", "-", "yes"]
    assert "no apt source" in by_name["ubuntu-24.04"]
    assert by_name["ubuntu-24.04"].endswith("no")


def test_the_list_tells_of_guests_saved_warm(
    images: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list") == 0
    assert "saved warm" not in capsys.readouterr().out

    def state(scratch: Path) -> dict[str, str]:
        (scratch / "memory.save").write_bytes(b"x" * (3 << 20))
        return {"spec": "debian-12/pc/ide+virtio/tcg"}

    images.cache.make("warm", "key", state)
    assert run("list") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "guests saved warm: 1, 3 MiB: debian-12/pc/ide+virtio/tcg"


def test_the_list_for_programs(images: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    put(images, "debian-12")
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["debian-12"]["size_mib"] == 3
    assert rows["debian-12"]["default"] is True
    assert rows["debian-12-dracut"]["state"] == "-"


def test_a_damaged_item_does_not_hide_the_list(
    images: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    put(images, "debian-12")
    (item,) = images.cache.items("prepared")
    (item / "disk.qcow2").unlink()
    (item / "manifest.json").write_text("{")
    assert run("list") == 0
    assert "damaged" in capsys.readouterr().out


def test_a_root_filesystem_goes_with_the_last_image_that_needs_it(images: ImageStore) -> None:
    put(images, "debian-12")
    put(images, "debian-12-virtio")
    assert run("remove", "debian-12") == 0
    assert kinds(images) == (1, 1)
    assert run("remove", "debian-12-virtio") == 0
    assert kinds(images) == (0, 0)


def test_all_goes_with_all(images: ImageStore) -> None:
    put(images, "debian-12")
    put(images, "debian-12-dracut", rootfs="other")
    damaged = images.cache.items("prepared")[0]
    (damaged / "disk.qcow2").unlink()
    assert images.cache.get("prepared", damaged.name) is None
    assert run("remove", "--all") == 0
    assert list((images.cache.root / "quarantine").iterdir()) == []
    assert kinds(images) == (0, 0)
    assert list((images.cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("remove",), "nothing named to remove"),
        (("remove", "debian-10"), "no image is called 'debian-10' (did you mean debian-1"),
        (("build", "debian-10"), "no image is called 'debian-10'"),
        (("build", "debian-12", "debian-10"), "no image is called 'debian-10'"),
        (("build", "./none.qcow2"), "no such image file"),
        (("build", "--apt-sources", "none.list", "debian-12"), "none.list: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    images: ImageStore, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    put(images, "debian-12")
    assert run(*argv) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("virtproof: ")
    assert err.count("\n") == 1
    assert kinds(images) == (1, 1)


def test_ctrl_c_is_one_line_and_130(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageStore, "prepared", interrupted)
    assert images.probe_kernel() is None
    assert run("build") == 130
    assert "interrupted" in capsys.readouterr().err


def test_outdated_is_what_the_catalog_asks_for_no_more(
    images: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    put(images, "debian-12")
    public = images.cache.root / "ssh" / "id_ed25519.pub"
    public.write_text("ssh-ed25519 AAAA other\n")
    put(images, "debian-12")
    run("list")
    assert capsys.readouterr().out.count("built, outdated") == 1
    assert run("remove", "--outdated") == 0
    assert kinds(images) == (1, 1)
    run("list")
    assert "built, outdated" not in capsys.readouterr().out


def test_the_warm_guests_of_a_removed_image_go_with_it(images: ImageStore) -> None:
    put(images, "debian-12")
    [path] = images.cache.items("prepared")
    digest = json.loads((path / "manifest.json").read_text())["files"]["disk.qcow2"]["sha256"]
    images.cache.make(WARM, "mine", lambda _: {"image": digest})
    images.cache.make(WARM, "stale", lambda _: {"image": "of one that is gone"})
    assert run("remove", "--outdated") == 0
    assert [state.name for state in images.cache.items(WARM)] == ["mine"]
    assert run("remove", "debian-12") == 0
    assert images.cache.items(WARM) == []

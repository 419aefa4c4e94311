"""Downloads against a publisher at fault: what is said, what is kept, and that nothing wrong is used."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from downloads import faults
from downloads.faults import FAULTS, NEW, Fault, outcome
from downloads.publishing import (
    DISK,
    FILE,
    HOST,
    NAME,
    Site,
    listing,
    published,
    sha256,
)
from downloads.signing import why_not
from virtproof.cli import main
from virtproof.images import catalog
from virtproof.images.fetch import http

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_said_and_nothing_wrong_is_used(fault: Fault) -> None:
    if fault.signed and why_not():
        pytest.skip(why_not())
    found = outcome(fault)
    assert fault.said in "\n".join(found.lines)
    assert found.status == fault.status, found.lines
    assert found.kept == (fault.status == 0)
    assert found.right == found.kept
    assert found.leftovers == []
    if fault.status:
        assert fault.said in found.lines[-1]
    if fault.times is not None:
        assert found.times == fault.times


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with published(tmp_path) as made:
        yield made


def asked(site: Site) -> list[str]:
    """The Range of each request for the image."""
    return [wanted for path, wanted in site.server.asked if path == f"/{FILE}"]


def test_a_download_is_kept_with_what_proves_it(site: Site) -> None:
    status, lines = site.fetch()
    assert status == 0
    assert lines[-1] == f"{NAME}: {next(site.cache.glob('fetched/*/disk.raw'))}"
    assert site.fetched() == [DISK]
    (manifest,) = site.cache.glob("fetched/*/manifest.json")
    facts = json.loads(manifest.read_text())["facts"]
    assert facts["digest"] == sha256(DISK)
    assert (facts["url"], facts["said_by"]) == (HOST + FILE, "SHA256SUMS")
    assert next(site.cache.glob("fetched/*/disk.raw")).stat().st_mode & 0o222 == 0
    assert list((site.cache / "partial").iterdir()) == []


def test_what_is_there_is_not_asked_for_again(site: Site) -> None:
    site.fetch()
    before = len(site.server.asked)
    site.mirror = f"{HOST}=http://nowhere.invalid/"  # offline
    assert site.fetch()[0] == 0
    assert len(site.server.asked) == before


def test_what_a_killed_run_left_is_gone_on_from(site: Site) -> None:
    site.image.cuts = [700 << 10, *[0] * 3]
    assert site.fetch()[0] == 1
    assert site.fetched() == []
    status, lines = site.fetch()
    assert status == 0
    assert "going on after 700 KiB" in "\n".join(lines)
    assert asked(site)[-1] == f"bytes={700 << 10}-"
    assert site.fetched() == [DISK]


def test_parts_of_another_address_are_not_gone_on_from(site: Site) -> None:
    site.image.cuts = [700 << 10, *[0] * 3]
    assert site.fetch()[0] == 1
    site.put(f"mirror/{FILE}", DISK)
    site.put("mirror/SHA256SUMS", site.list.data)
    site.mirror = f"{HOST}={site.server.url}/mirror/"
    assert site.fetch()[0] == 0
    assert site.server.asked[-1] == (f"/mirror/{FILE}", "")


def test_a_damaged_image_is_fetched_anew(site: Site) -> None:
    site.fetch()
    (disk,) = site.cache.glob("fetched/*/disk.raw")
    disk.chmod(0o644)
    disk.write_bytes(NEW)
    status, lines = site.fetch()
    assert status == 0
    assert "put aside" in "\n".join(lines)
    assert site.fetched() == [DISK]


def test_refresh_takes_a_newer_one_and_leaves_the_same(site: Site) -> None:
    site.fetch()
    status, lines = site.fetch("--refresh")
    assert (status, f"{NAME}: up to date" in lines) == (0, True)
    assert len(asked(site)) == 1
    site.image.data, site.image.etag, site.list.data = NEW, '"2"', listing(NEW)
    assert site.fetch("--refresh")[0] == 0
    assert site.fetched() == [NEW]


def test_a_refresh_that_fails_leaves_what_was_there(site: Site) -> None:
    site.fetch()
    site.list.data = listing(NEW)
    assert site.fetch("--refresh")[0] == 1
    assert site.fetched() == [DISK]


def test_a_star_is_resolved_by_the_list(site: Site) -> None:
    site.url = HOST + "guest-*.raw"
    site.put("guest-2.raw", DISK)
    site.list.data = listing(DISK, "guest-2.raw") + listing(NEW, "other.raw")
    assert site.fetch()[0] == 0
    assert site.fetched() == [DISK]
    site.list.data += listing(NEW, "guest-3.raw")
    status, lines = site.fetch("--refresh")
    assert status == 1
    assert "lists 2 files guest-*.raw: guest-2.raw, guest-3.raw" in lines[-1]


def test_a_proxy_is_asked(site: Site) -> None:
    site.mirror = f"{HOST}=http://nowhere.invalid/"
    site.environment = {"http_proxy": site.server.url}
    assert site.fetch()[0] == 0
    site.environment = {"http_proxy": site.server.url, "no_proxy": "nowhere.invalid"}
    assert site.fetch("--refresh")[0] == 1


def test_xz_is_unpacked_and_zeros_are_holes(site: Site) -> None:
    disk = DISK + bytes(24 << 20) + b"end"
    site.form, site.image.data = "raw.xz", lzma.compress(disk, preset=0)
    site.list.data = listing(site.image.data)
    assert site.fetch()[0] == 0
    assert site.fetched() == [disk]
    (path,) = site.cache.glob("fetched/*/disk.raw")
    assert path.stat().st_blocks * 512 < 10 << 20


def test_too_little_room_is_said_before_a_byte_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtproof.host.disk_free_mib", lambda _path: 10)
    status, lines = site.fetch()
    assert status == 1
    assert "downloading guest needs 66 MiB free" in lines[-1]
    assert not list(site.cache.glob("partial/*/body"))


def test_a_server_that_is_gone_for_a_moment_is_waited_for(site: Site) -> None:
    """Once it has answered; one that never did is said at once."""
    site.image.cuts = [700 << 10]
    real, calls = http.request, []

    def flaky(*arguments: object, **more: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise http.UnreachableError("refuses the connection")
        return real(*arguments, **more)  # type: ignore[arg-type]

    with mock.patch("virtproof.images.fetch.transfer.request", flaky):
        assert site.fetch()[0] == 0
    assert len(calls) == 3


@pytest.mark.parametrize("at_once", [2, 4])
def test_processes_at_once_share_one_download(site: Site, at_once: int) -> None:
    (site.catalog / f"{NAME}.toml").write_text(site.entry())
    site.image.drip_s = 0
    script = (
        "import sys; from pathlib import Path; from unittest import mock\n"
        "from virtproof.cli import main\n"
        "with mock.patch('virtproof.images.catalog.catalog_dir', return_value=Path(sys.argv[1])):\n"
        f"    sys.exit(main(['images', 'fetch', '{NAME}']))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {"VIRTPROOF_MIRROR": f"{HOST}={site.server.url}/"}
    environment |= {"VIRTPROOF_CACHE": str(site.cache), "PYTHONPATH": str(ROOT / "plugins")}
    argv = [sys.executable, "-c", script, str(site.catalog)]
    running = [subprocess.Popen(argv, env=environment) for _ in range(at_once)]
    assert [process.wait(120) for process in running] == [0] * at_once
    assert len(asked(site)) == 1
    assert site.fetched() == [DISK]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("fetch", "gest"), "no image is called 'gest' (did you mean guest?"),
        (("fetch", "--mirror", "x", NAME), "mirror 'x' is not FROM=TO"),
        (("fetch", "--mirror", "http://a/=b", NAME), "is not FROM=TO"),
        (("fetch", "--mirror", "http://a/=http://b", NAME), "both with a / at the end"),
        (("fetch", "--keys", "/none.gpg", NAME), "/none.gpg: there is no such file of keys"),
        (("build", NAME), "is no disk image"),
    ],
)
def test_a_mistake_is_one_line(site: Site, argv: tuple[str, ...], said: str) -> None:
    site.more = [f'signature = "{HOST}x"', f'key = "{"0" * 40}"'] if "--keys" in argv else []
    if argv[0] == "build":
        faults.no_disk(site)
    status, lines = site.run(*argv)
    assert status == 1
    assert said in lines[-1]
    assert lines[-1].startswith("virtproof: ")


def test_a_built_image_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "fetch", "debian-12"]) == 1
    assert "debian-12 is built here, not downloaded" in capsys.readouterr().err


def test_the_list_tells_kind_state_and_end_of_life(site: Site) -> None:
    site.end_of_life = "2020-06-30"
    (site.catalog / "recipes").symlink_to(catalog.catalog_dir() / "recipes")
    (site.catalog / "debian-12.toml").write_bytes(
        (catalog.catalog_dir() / "debian-12.toml").read_bytes()
    )

    def row() -> list[str]:
        lines = site.run("list")[1]
        assert "KIND" in lines[0]
        assert "SUPPORTED UNTIL" in lines[0]
        return next(line.split() for line in lines if line.startswith(NAME))

    assert row() == [NAME, "download", "-", "2020-06-30", "(past)", "no"]
    site.fetch()
    assert row() == [NAME, "download", "fetched", "2020-06-30", "(past)", "no"]
    assert site.run("remove", NAME)[0] == 0
    assert row()[2] == "-"
    assert site.fetched() == []


def test_parts_go_with_all(site: Site) -> None:
    site.image.cuts = [700 << 10, *[0] * 3]
    assert site.fetch()[0] == 1
    assert list((site.cache / "partial").iterdir()) != []
    (site.catalog / "recipes").symlink_to(catalog.catalog_dir() / "recipes")
    (site.catalog / "debian-12.toml").write_bytes(
        (catalog.catalog_dir() / "debian-12.toml").read_bytes()
    )
    assert site.run("remove", "--all")[0] == 0
    assert list((site.cache / "partial").iterdir()) == []

"""Driver packages on trial: a whole medium has no defect, and each seeded one is found by its name alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

import windows_packages as made
from virtproof import host
from virtproof.windows import checks, pe
from virtproof.windows.catalog_checks import names_system
from virtproof.windows.certificates import Trust, trust
from virtproof.windows.checks import NotApplicable
from virtproof.windows.iso import MediumError, open_medium
from virtproof.windows.medium_checks import MEDIUM_CHECKS, medium_defects
from virtproof.windows.package import Package, packages
from virtproof.windows.platform import Arch, windows_of
from windows_packages import Authorities, Signing


@pytest.fixture(scope="module")
def trusting(test_root: Path) -> Trust:
    """Windows' roots and the tests' own."""
    return trust([test_root], made.NOW)


@pytest.fixture
def iso(whole: Path, tmp_path: Path) -> Callable[..., Path]:
    if host.find_program("xorriso") is None:
        pytest.skip("xorriso makes the tests' ISOs, and is not installed")

    def write(name: str = "virtio-win-0.1.271.iso", label: str = made.LABEL) -> Path:
        return made.write_iso(whole, tmp_path / name, label)

    return write


def found(path: Path, trusting: Trust) -> dict[str, list[str]]:
    """Check to its defects, of those that have any, over all packages and the medium."""
    medium = open_medium(path)
    all_found: dict[str, list[str]] = {}
    for package in packages(medium, trusting):
        for check in checks.checks_of(package):
            all_found.setdefault(check, []).extend(_defects(checks.defects, package, check))
    for check in MEDIUM_CHECKS:
        all_found.setdefault(check, []).extend(_defects(medium_defects, medium, check))
    return {check: lines for check, lines in all_found.items() if lines}


def _defects(ask: Callable[..., list[str]], *about: object) -> list[str]:
    try:
        return ask(*about)
    except NotApplicable:
        return []


# --- the good ones ----------------------------------------------------------------------------


def test_a_whole_folder_has_no_defect(whole: Path, trusting: Trust) -> None:
    assert found(whole, trusting) == {}
    assert len(packages(open_medium(whole), trusting)) == 13 * 5 - 4  # which some are not built for


def test_the_same_as_an_iso_has_none_either(iso: Callable[..., Path], trusting: Trust) -> None:
    path = iso()
    assert found(path, trusting) == {}
    medium = open_medium(path)
    assert medium.labels == {"iso": "virtio-win-0.1.271"}
    assert set(medium.trees) == {"iso", "rr"}
    assert _defects(medium_defects, medium, "iso-installer") == []
    for check in set(MEDIUM_CHECKS) - {"iso-trees"}:
        medium_defects(medium, check)  # each applies: none raises NotApplicable


@pytest.mark.parametrize(
    "signing",
    [
        Signing("whql"),
        Signing("expired", stamped=datetime(2019, 6, 1, tzinfo=made.NOW.tzinfo)),
        Signing("attested", stamped=made.NOW - timedelta(1)),
    ],
    ids=["whql", "expired-but-stamped-before", "stamped"],
)
def test_other_good_signatures_have_no_defect(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust, signing: Signing
) -> None:
    package = replace(made.good("viostor", "w11", Arch.AMD64), signing=signing)
    made.write_package(tmp_path, package, authorities, scratch)
    assert found(tmp_path, trusting) == {}
    catalog = _package(tmp_path, trusting).catalog("viostor.cat")
    assert catalog.signature is not None
    assert catalog.signature.stamped == signing.stamped
    assert catalog.signature.kind == ("whql" if signing.by == "whql" else "attested")


def test_a_vendors_signature_is_good_enough_for_windows_7(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust
) -> None:
    seven = windows_of("w7")
    assert seven is not None
    package = replace(
        made.good("viostor", "w7", Arch.AMD64), systems="7X64", signing=Signing("vendor")
    )
    made.write_package(tmp_path, package, authorities, scratch)
    text = (tmp_path / "viostor/w7/amd64/viostor.inf").read_bytes()
    assert b"NTamd64.10.0" in text
    assert set(found(tmp_path, trusting)) == {"inf-parses", "ids-complete"}  # 10.0 is not for it
    made.write_package(tmp_path, replace(package, target=".6.1"), authorities, scratch)
    assert found(tmp_path, trusting) == {}


def _package(root: Path, trusting: Trust) -> Package:
    return packages(open_medium(root), trusting)[0]


# --- the seeded ones --------------------------------------------------------------------------


def _append(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[name] += b"\n"

    return change


def _flip(name: str, at: int) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        data = bytearray(files[name])
        data[at] ^= 1
        files[name] = bytes(data)

    return change


def _unix(files: dict[str, bytes]) -> None:
    files["viostor.inf"] = files["viostor.inf"].replace(b"\r\n", b"\n")


def _without(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.pop(name) and None


def _replaced(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({name: data})


MODERN = ("PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01",)
OLD = ("PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",)
SEEDED: dict[str, tuple[dict[str, object], str, str]] = {
    "byte-appended-to-inf": (
        {"afterwards": _append("viostor.inf")},
        "catalog-covers-inf",
        "viostor.cat does not have the digest of viostor.inf",
    ),
    "line-ends-of-inf-changed": (
        {"afterwards": _unix},
        "catalog-covers-inf",
        "but of the same text with CRLF at the ends of lines",
    ),
    "byte-of-sys-changed": (
        {"afterwards": _flip("viostor.sys", 0x410)},
        "catalog-covers-sys",
        "viostor.cat does not have the digest of viostor.sys",
    ),
    "modern-id-missing": (
        {"ids": (OLD,)},
        "ids-complete",
        "nothing takes the modern device PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01",
    ),
    "transitional-id-dropped": (
        {"ids": (MODERN,)},
        "ids-complete",
        "nothing takes the transitional device PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
    ),
    "ids-of-another-subsystem": (
        {"ids": (OLD, ("PCI\\VEN_1AF4&DEV_1042&SUBSYS_1100FFFF&REV_01",))},
        "ids-complete",
        "nothing takes the modern device",
    ),
    "wrong-driverver": (
        {"inf_version": (100, 101, 104, 27000)},
        "driverver-matches-sys",
        "DriverVer of viostor.inf is 100.101.104.27000, viostor.sys is 100.101.104.27100",
    ),
    "test-signed": (
        {"signing": Signing("stranger")},
        "signature-class",
        "viostor.cat is test-signed: 'WDKTestCert somebody' is no root of Windows",
    ),
    "signed-by-the-vendor-alone": (
        {"signing": Signing("vendor")},
        "signature-class",
        "viostor.cat is signed by 'A Vendor, Inc.' alone, and not by Microsoft",
    ),
    "unsigned": ({"signing": Signing("")}, "signature-class", "viostor.cat is not signed"),
    "expired": (
        {"signing": Signing("expired")},
        "signature-expired",
        "'Test Compatibility Publisher' expired on 2020-01-01 (no time stamp)",
    ),
    "stamped-too-late": (
        {"signing": Signing("expired", stamped=datetime(2021, 6, 1, tzinfo=made.NOW.tzinfo))},
        "signature-expired",
        "'Test Compatibility Publisher' expired on 2020-01-01 (signed 2021-06-01)",
    ),
    "chain-without-its-middle": (
        {"signing": Signing("attested", length=1)},
        "signature-chain",
        "the certificate of 'Test Third Party Component CA' is missing",
    ),
    "catalog-for-another-windows": (
        {"systems": "_v63_X64"},
        "catalog-os",
        "OS attribute of viostor.cat is _v63_X64: not Windows 11 on amd64",
    ),
    "catalog-for-another-architecture": (
        {"systems": "_v100_ARM64,_v100"},
        "catalog-os",
        "OS attribute of viostor.cat is _v100_ARM64, _v100: not Windows 11 on amd64",
    ),
    "catalog-for-another-kernel": (
        {"kernel": "2:6.3"},
        "catalog-os",
        "OSAttr of viostor.inf in viostor.cat is 2:6.3: not 2:10.0",
    ),
    "sys-missing": (
        {"afterwards": _without("viostor.sys")},
        "files-complete",
        "viostor.sys is missing, which viostor.inf installs",
    ),
    "catalog-missing": (
        {"afterwards": _without("viostor.cat")},
        "files-complete",
        "viostor.cat is missing, the catalog of viostor.inf",
    ),
    "inf-missing": (
        {"afterwards": _without("viostor.inf")},
        "files-complete",
        "viostor.inf is missing",
    ),
    "sys-of-another-architecture": (
        {"sys_arch": Arch.ARM64},
        "pe-architecture",
        "viostor.sys is for ARM64, not amd64",
    ),
    "catalog-not-named": (
        {"edit": ("CatalogFile=", ";")},
        "files-complete",
        "viostor.inf names no catalog",
    ),
    "string-undefined": (
        {"edit": ("= %Device.Service%", "= %Device.Servise%")},
        "inf-parses",
        "line 37: %Device.Servise% has no string",
    ),
    "install-section-missing": (
        {"edit": ("[Device_Inst.NT]", "[Device_Inst2.NT]")},
        "inf-parses",
        "[Device_Inst] is not there, which installs PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
    ),
    "of-another-system": (
        {"edit": ("$WINDOWS NT$", "$OS/2$")},
        "inf-parses",
        "[Version] has the Signature '$OS/2$', which is not Windows'",
    ),
    "driverver-none": (
        {"edit": ("DriverVer = 05/20/2026,", "DriverVer = 20/05/2026,")},
        "driverver-matches-sys",
        "DriverVer has '20/05/2026' for its date",
    ),
    "inf-hostile": (
        {"afterwards": _replaced("viostor.inf", b"\xff\xfe" + b"\x00\xd8" * 1000)},
        "inf-parses",
        "viostor.inf: line 1: what follows is not UTF-16-LE",
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_defect_is_found_by_its_name_and_no_other(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust, name: str
) -> None:
    changes, check, said = SEEDED[name]
    whole = made.good("viostor", "w11", Arch.AMD64)
    made.write_package(tmp_path, replace(whole, **changes), authorities, scratch)  # type: ignore[arg-type]
    seen = found(tmp_path, trusting)
    assert set(seen) == {check}, seen
    assert any(said in line for line in seen[check]), seen[check]


def test_a_catalog_that_was_changed_does_not_hold(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust
) -> None:
    """A digest put in after signing: the INF is covered, and the signature is not good any more."""
    place = made.write_package(
        tmp_path, made.good("viostor", "w11", Arch.AMD64), authorities, scratch
    )
    data = (place / "viostor.cat").read_bytes()
    at = data.index("2:10.0".encode("utf-16-le"))
    (place / "viostor.cat").write_bytes(data[:at] + b"3" + data[at + 1 :])
    seen = found(tmp_path, trusting)
    assert seen["signature-chain"] == ["viostor.cat: what is signed was changed afterwards"]


def test_a_second_inf_of_a_package_counts_too(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust
) -> None:
    """pvpanic has its ACPI and its PCI device in INFs of their own; the second one is unsigned here."""
    whole = made.good("pvpanic", "w11", Arch.AMD64)
    acpi, pci = whole.ids
    place = made.write_package(tmp_path, replace(whole, ids=(acpi,)), authorities, scratch)
    assert found(tmp_path, trusting) == {}
    (place / "pvpanic-pci.inf").write_bytes(replace(whole, ids=(pci,)).inf())
    said = "pvpanic.cat does not have the digest of pvpanic-pci.inf"
    assert found(tmp_path, trusting) == {"catalog-covers-inf": [said]}


def test_a_driver_that_lost_a_platform_is_missed(
    tmp_path: Path, whole: Path, trusting: Trust
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "vioscsi" / "w10" / "x86")
    said = "there is no vioscsi/w10/x86, though other drivers are there for it"
    assert found(root, trusting) == {"files-complete": [said]}


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        ({"label": "virtio-win-0.1.270"}, "iso-name", "has 0.1.270 on its label"),
        ({"label": "virtio-win"}, "iso-label", "the label 'virtio-win' has no version"),
    ],
)
def test_an_iso_that_is_not_what_it_says(
    iso: Callable[..., Path], trusting: Trust, change: dict[str, str], check: str, said: str
) -> None:
    seen = found(iso(**change), trusting)
    assert said in seen[check][0]
    if change["label"].endswith("270"):
        assert seen.pop("iso-installer") == ["virtio-win-guest-tools.exe is 0.1.271.0, not 0.1.270"]
    assert set(seen) == {check}


def test_a_copy_that_is_another_and_a_driver_that_is_lost(
    tmp_path: Path, whole: Path, trusting: Trust
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    with (root / "amd64" / "w11" / "viostor.sys").open("ab") as file:
        file.write(b"\0")
    shutil.rmtree(root / "viorng")
    shutil.rmtree(root / "viomem")  # which older media do not have
    assert found(root, trusting) == {
        "iso-copies": ["amd64/w11/viostor.sys is not viostor/w11/amd64/viostor.sys"],
        "iso-drivers": ["there is no viorng"],
    }


def test_joliet_has_no_room_for_the_label(
    iso: Callable[..., Path], trusting: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As virtio-win 1.9.12 was once called 1.9.1 by Windows."""
    monkeypatch.setattr(made, "TREES", ("-J", "-joliet-long", *made.TREES))
    path = iso()
    said = "the label is not one: 'virtio-win-0.1.271' in iso, 'virtio-win-0.1.2' in joliet"
    assert found(path, trusting) == {"iso-label": [said]}
    assert set(open_medium(path).trees) == {"joliet", "iso", "rr"}


def test_trees_that_differ_are_found(tmp_path: Path) -> None:
    """UDF is what Windows reads, and a file is lacking in Joliet."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=4, joliet=3, udf="2.60", vol_ident="virtio-1.0")
    for name in ("a", "b"):
        joliet = {"joliet_path": f"/{name}"} if name == "a" else {}
        disc.add_fp(BytesIO(b"x"), 1, f"/{name}", udf_path=f"/{name}", **joliet)
    disc.write(str(tmp_path / "disc.iso"))
    disc.close()
    medium = open_medium(tmp_path / "disc.iso")
    assert list(medium.trees) == ["udf", "joliet", "iso"]
    assert medium.read("b") == b"x"
    said = "1 files are not in both udf and joliet: b ..."
    assert medium_defects(medium, "iso-trees") == [said]


# --- time stamps ------------------------------------------------------------------------------


@pytest.mark.parametrize("old_kind", [False, True], ids=["rfc3161", "countersignature"])
def test_a_time_stamp_of_another_signature_does_not_hold(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust, old_kind: bool
) -> None:
    """The stamp of one catalog on another; and the right one, of either kind, which makes no defect."""
    when = datetime(2019, 6, 1, tzinfo=made.NOW.tzinfo)
    signing = Signing("expired", stamped=when)
    package = replace(made.good("viostor", "w11", Arch.AMD64), signing=signing)
    place = made.write_package(tmp_path, package, authorities, scratch)
    right = (place / "viostor.cat").read_bytes()
    if old_kind:
        right = made.countersigned(right, authorities.stamper, when)
        (place / "viostor.cat").write_bytes(right)
    assert found(tmp_path, trusting) == {}
    assert _package(tmp_path, trusting).catalog("viostor.cat").signature.stamped == when  # type: ignore[union-attr]
    other = replace(package, systems="_v100_X64,_v100_X64_RS5")
    made.write_package(tmp_path, other, authorities, scratch)
    wrong = made.restamped((place / "viostor.cat").read_bytes(), right)
    (place / "viostor.cat").write_bytes(wrong)
    seen = found(tmp_path, trusting)
    assert set(seen) == {"signature-chain", "signature-expired"}
    assert "viostor.cat: its time stamp does not hold: " in seen["signature-chain"][0]


# --- the parts, against others' tools ---------------------------------------------------------


@pytest.mark.parametrize("arch", list(Arch), ids=str)
def test_osslsigncode_has_the_same_digest_and_finds_it_in_the_catalog(
    tmp_path: Path, authorities: Authorities, scratch: Path, arch: Arch
) -> None:
    place = made.write_package(tmp_path, made.good("viostor", "w10", arch), authorities, scratch)
    command = ["osslsigncode", "verify", "-catalog", "viostor.cat", "-in", "viostor.sys"]
    root, _ = authorities.root.write(tmp_path / "root")
    said = subprocess.run(
        [*command, "-CAfile", root, "-TSA-CAfile", root],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    digest = pe.authenticode((place / "viostor.sys").read_bytes(), "sha256").hex().upper()
    assert f"Calculated message digest : {digest}" in said.stdout
    assert "File is signed in catalog" in said.stdout


@pytest.mark.parametrize(
    ("system", "windows", "arch", "is_it"),
    [
        ("_v100_X64", "w11", Arch.AMD64, True),
        ("_v100_X64_RS5", "w10", Arch.AMD64, True),
        ("Server_v100_X64_21H2", "2k22", Arch.AMD64, True),
        ("_v100", "w10", Arch.X86, True),
        ("_v100_22H2", "w10", Arch.X86, True),
        ("_v100_ARM64_22H2", "w11", Arch.ARM64, True),
        ("_v100", "w10", Arch.AMD64, False),
        ("_v100_X64", "w10", Arch.X86, False),
        ("_v100_X64", "w11", Arch.ARM64, False),
        ("_v63_X64", "w10", Arch.AMD64, False),
        ("7X64", "w7", Arch.AMD64, True),
        ("7X86", "w7", Arch.AMD64, False),
        ("Server2008R2X64", "2k8R2", Arch.AMD64, True),
        ("_v63", "w8.1", Arch.X86, True),
        ("_v63_Server_X64", "2k12R2", Arch.AMD64, True),
    ],
)
def test_names_of_systems(system: str, windows: str, arch: Arch, is_it: bool) -> None:
    found = windows_of(windows)
    assert found is not None
    assert names_system(system, found, arch) is is_it


# --- media that are none ----------------------------------------------------------------------


def test_a_medium_that_is_none_is_one_line(
    iso: Callable[..., Path], tmp_path: Path, trusting: Trust
) -> None:
    good = iso("cut.iso").read_bytes()
    (tmp_path / "text.iso").write_text("no ISO\n")
    (tmp_path / "empty.iso").touch()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.txt").touch()
    for name, said in (
        ("nowhere.iso", "there is no such file (give virtio-win's ISO or a folder)"),
        ("text.iso", "is no ISO, or is damaged: "),
        ("empty.iso", "is no ISO, or is damaged: "),
        ("none", "there is no driver on it (drivers lie in DRIVER/WINDOWS/ARCH"),
    ):
        with pytest.raises(MediumError) as failed:
            packages(open_medium(tmp_path / name), trusting)
        assert said in str(failed.value)
        assert "\n" not in str(failed.value)
    for share in (0.05, 0.3, 0.6, 0.99):
        (tmp_path / "cut.iso").write_bytes(good[: int(len(good) * share)])
        with pytest.raises(MediumError, match="cut off|damaged"):
            open_medium(tmp_path / "cut.iso")


@pytest.mark.parametrize("name", ["viostor.cat", "viostor.sys"])
def test_hostile_catalogs_and_executables_are_defects_and_no_crash(
    tmp_path: Path, authorities: Authorities, scratch: Path, trusting: Trust, name: str
) -> None:
    place = made.write_package(
        tmp_path, made.good("viostor", "w11", Arch.AMD64), authorities, scratch
    )
    data = (place / name).read_bytes()
    nested = b"\x30\x80" * 20_000
    changes = [b"", b"MZ", b"\x30\x84\xff\xff\xff\xff", nested, b"MZ" + b"\xff" * 200, data[:-100]]
    for changed in changes:
        (place / name).write_bytes(changed)
        assert found(tmp_path, trusting)
    for at in range(0, 600, 7):  # not every field is one that anybody reads
        (place / name).write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
        found(tmp_path, trusting)

"""libvirt's file of a saved domain is read, and given on under another name, byte for byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from lxml import etree

from virtproof.errors import GuestError
from virtproof.guest import saved
from virtproof.guest.domain_xml import Resources, domain_xml, restored_xml
from virtproof.spec import DataDisk, DiskBus, GuestSpec, NicModel

STREAM = bytes(range(256)) * 9001  # more than two chunks and no multiple of one
XML, COOKIE = "<domain><name>old</name></domain>", b"<cookie/>"


def write(path: Path, **other: object) -> Path:
    """A file as libvirt 9.0 writes it: XML, cookie and padding, then the stream."""
    text = XML.encode() + b"\0"
    data = text + COOKIE + b"\0" + bytes(500)
    words = {"version": 2, "length": len(data), "ran": 1, "compression": 0, "cookie": len(text)}
    words.update({name: value for name, value in other.items() if name in words})  # type: ignore[misc]
    magic = other.get("magic", b"LibvirtQemudSave")
    head = struct.pack("<16s5I56x", magic, *words.values())
    path.write_bytes(head + data + STREAM)
    return path


def test_a_saved_domain_is_read(tmp_path: Path) -> None:
    found = saved.read(write(tmp_path / "s"))
    assert (found.xml, found.cookie, found.ran) == (XML, COOKIE, 1)
    assert (tmp_path / "s").read_bytes()[found.stream_at :] == STREAM


def test_under_another_name_only_the_xml_differs(tmp_path: Path) -> None:
    old = saved.read(write(tmp_path / "s"))
    new = XML.replace("old", "a-much-longer-name-\N{LATIN SMALL LETTER E WITH ACUTE}")
    with saved.as_pipe(old, new, tmp_path / "pipe") as pipe:
        (tmp_path / "t").write_bytes(pipe.read_bytes())
    assert not (tmp_path / "pipe").exists()
    found = saved.read(tmp_path / "t")
    assert (found.xml, found.cookie, found.ran) == (new, COOKIE, 1)
    assert (tmp_path / "t").read_bytes()[found.stream_at :] == STREAM


def test_a_pipe_that_nobody_reads_ends(tmp_path: Path) -> None:
    with saved.as_pipe(saved.read(write(tmp_path / "s")), XML, tmp_path / "pipe"):
        pass
    assert not (tmp_path / "pipe").exists()


def test_a_reader_that_goes_away_ends_it_too(tmp_path: Path) -> None:
    old = saved.read(write(tmp_path / "s"))
    with saved.as_pipe(old, XML, tmp_path / "pipe") as pipe, pipe.open("rb") as reader:
        assert reader.read(16) == saved.MAGIC


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"magic": b"LibvirtQemudPart"}, "not understood|understood"),
        ({"version": 3}, "version 3"),
        ({"compression": 1}, "compression 1"),
        ({"length": 1 << 30}, "cut off"),
        ({"cookie": 1 << 20}, "cut off"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(GuestError, match=said):
        saved.read(write(tmp_path / "s", **wrong))


def test_a_stub_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(saved.MAGIC)
    with pytest.raises(GuestError, match="too short"):
        saved.read(tmp_path / "s")


SPEC = GuestSpec(
    image="debian-12",
    nic=NicModel.VIRTIO,
    data_disks=(DataDisk(DiskBus.VIRTIO, "one"), DataDisk(DiskBus.SATA, "two")),
)
FIRST = Resources("first", "u-1", "52:54:00:00:00:01", "net", "/r1", ("/a1", "/b1"), "/p1")
COPY = Resources("copy", "u-2", "52:54:00:00:00:02", "net", "/r2", ("/a2", "/b2"), "/p2")
ADDRESS = '<address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x0"/>'


def saved_of(spec: GuestSpec) -> str:
    """The domain of a guest as it is saved: libvirt has filled it in, its NIC is gone."""
    domain = etree.fromstring(domain_xml(spec, FIRST))
    devices = domain.find("devices")
    assert devices is not None
    for nic in devices.findall("interface"):
        devices.remove(nic)
    for disk in devices.findall("disk"):
        etree.SubElement(etree.SubElement(disk, "backingStore"), "source", file="/sealed")
    return etree.tostring(domain, encoding="unicode")


def test_a_copy_has_its_own_of_all_that_tells_guests_apart() -> None:
    domain_text, nic_text = restored_xml(saved_of(SPEC), SPEC, COPY, ADDRESS)
    for theirs in ("first", "u-1", ":01", "/r1", "/a1", "/b1", "/p1", "/sealed"):
        assert theirs not in domain_text.replace("52:54", "")
    domain, nic = etree.fromstring(domain_text), etree.fromstring(nic_text)
    assert domain.findtext("name") == "copy"
    assert domain.findtext("uuid") == domain.findtext("genid") == "u-2"
    sources = {disk.findtext("serial"): disk.find("source") for disk in domain.iter("disk")}
    found = {serial: source.get("file") for serial, source in sources.items() if source is not None}
    assert found == {"root": "/r2", "one": "/a2", "two": "/b2"}
    assert domain.xpath("string(devices/serial[@type='unix']/source/@path)") == "/p2"
    assert nic.xpath("string(mac/@address)") == COPY.mac
    assert nic.xpath("string(address/@slot)") == "0x03"
    assert domain.find("devices/interface") is None


def test_a_guest_without_a_nic_gets_none() -> None:
    spec = SPEC.but(nic=None)
    _, nic = restored_xml(saved_of(spec), spec, COPY)
    assert nic == ""

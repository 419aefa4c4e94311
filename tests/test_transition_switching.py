"""Switching on domains as libvirt prints them: what changes, what stays, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from virtproof.errors import UsageError
from virtproof.spec import DiskBus, NicModel
from virtproof.transition.domain_edit import parse, target_index, text
from virtproof.transition.switching import diff, stale_addresses, switch_disk, switch_nic

DOMAINS = Path(__file__).parent / "data" / "domain"
MAC = "52:54:00:00:00:01"
ROOTS = {"ide": "hda", "sata": "sda", "lsilogic": "sda", "virtio": "vda", "both-scsi": "sda"}
SWITCHES = [
    (name, root, bus)
    for name, root in ROOTS.items()
    for bus in DiskBus
    if (name, bus) != ("sata", DiskBus.IDE)  # q35
    and bus is not DiskBus.NVME
]


def domain(name: str) -> str:
    return (DOMAINS / f"{name}.xml").read_text()


def disk(xml: str, target: str) -> etree._Element:
    found = parse(xml).find(f"devices/disk/target[@dev='{target}']/..")
    assert found is not None, f"no disk {target}"
    return found


def address(element: etree._Element) -> dict[str, str] | None:
    found = element.find("address")
    return None if found is None else {str(k): str(v) for k, v in found.attrib.items()}


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    """libvirt's own schema of a domain."""
    path = Path("/usr/share/libvirt/schemas/domain.rng")
    if not path.exists():
        pytest.skip("libvirt's schemas are not installed")
    return etree.RelaxNG(etree.parse(str(path)))


@pytest.mark.parametrize(("name", "root", "bus"), SWITCHES, ids=str)
def test_only_the_root_disk_moves(name: str, root: str, bus: DiskBus) -> None:
    before = domain(name)
    after = switch_disk(before, root, bus)
    moved = disk(after, bus.target_prefix + root[2:])
    target = moved.find("target")
    assert target is not None
    assert target.get("bus") == bus.libvirt_bus
    old = disk(before, root)
    for kept in ("source", "serial", "boot"):
        was, now = old.find(kept), moved.find(kept)
        assert (was is None) == (now is None)
        if was is not None and now is not None:
            assert dict(was.attrib) == dict(now.attrib)
    driver = moved.find("driver")
    assert driver is not None
    assert driver.get("type") == "qcow2"
    others = [other for other in parse(before).findall("devices/disk") if same(other, old) is False]
    for other in others:
        name_of = other.find("target")
        assert name_of is not None
        assert same(disk(after, name_of.get("dev", "")), other)
    assert stale_addresses(after) == []


def same(one: etree._Element, other: etree._Element) -> bool:
    return (
        etree.tostring(one, method="c14n").split() == etree.tostring(other, method="c14n").split()
    )


@pytest.mark.parametrize(("name", "root", "bus"), SWITCHES, ids=str)
def test_libvirts_schema_takes_it(
    name: str, root: str, bus: DiskBus, schema: etree.RelaxNG
) -> None:
    switched = parse(switch_disk(domain(name), root, bus))
    assert schema.validate(switched), schema.error_log


def test_libvirts_schema_refuses_what_is_wrong(schema: etree.RelaxNG) -> None:
    assert schema.validate(parse(domain("ide")))
    assert not schema.validate(parse(domain("ide").replace("bus='ide'", "bus='warp'")))


def test_ide_to_virtio() -> None:
    after = switch_disk(domain("ide"), "hda", DiskBus.VIRTIO)
    assert diff(domain("ide"), after).count("\n-") == 2  # target, address
    assert address(disk(after, "vda")) is None
    first = parse(after).find("devices/disk/target")
    assert first is not None
    assert first.get("dev") == "vda"
    assert parse(after).find("os/boot[@dev='hd']") is not None


def test_a_left_over_address_is_found() -> None:
    left = switch_disk(domain("ide"), "hda", DiskBus.VIRTIO, drop_address=False)
    assert stale_addresses(left) == [
        "disk vda (bus virtio) has <address type='drive'>, which is for ide, sata and scsi"
    ]
    back = switch_disk(domain("virtio"), "vda", DiskBus.IDE, drop_address=False)
    assert stale_addresses(back) == [
        "disk hda (bus ide) has <address type='pci'>, which is for virtio"
    ]
    assert stale_addresses(domain("ide")) == []


def controllers(xml: str) -> dict[str, str]:
    found = parse(xml).findall("devices/controller[@type='scsi']")
    return {c.get("index", ""): c.get("model", "") for c in found}


def test_scsi_gets_its_controller() -> None:
    after = switch_disk(domain("ide"), "hda", DiskBus.VIRTIO_SCSI)
    assert controllers(after) == {"0": "virtio-scsi"}
    assert address(disk(after, "sda")) is None  # libvirt's own choice is controller 0


def test_a_second_scsi_controller_beside_another_model() -> None:
    after = switch_disk(domain("lsilogic"), "sda", DiskBus.VIRTIO_SCSI)
    assert controllers(after) == {"0": "lsilogic", "1": "virtio-scsi"}
    assert address(disk(after, "sda")) == {
        "type": "drive", "controller": "1", "bus": "0", "target": "0", "unit": "0",
    }  # fmt: skip
    assert switch_disk(after, "sda", DiskBus.VIRTIO_SCSI) == after
    again = switch_disk(after, "sda", DiskBus.SCSI)
    assert controllers(again) == {"0": "lsilogic", "1": "virtio-scsi"}
    assert address(disk(again, "sda")) is None


def test_a_controller_of_the_model_is_used_and_its_units_respected() -> None:
    after = switch_disk(domain("both-scsi"), "sda", DiskBus.VIRTIO_SCSI)
    assert controllers(after) == controllers(domain("both-scsi"))
    place = address(disk(after, "sda"))
    assert place is not None
    assert (place["controller"], place["unit"]) == ("1", "1")


def test_a_taken_unit_is_not_given_twice() -> None:
    taken = domain("virtio").replace("target='0' unit='1'/>", "target='0' unit='0'/>")
    after = switch_disk(taken, "vda", DiskBus.VIRTIO_SCSI)
    place = address(disk(after, "sda"))
    assert place is not None
    assert (place["controller"], place["unit"]) == ("0", "1")


def test_the_same_bus_changes_nothing() -> None:
    for name, root, bus in (("virtio", "vda", DiskBus.VIRTIO), ("ide", "hda", DiskBus.IDE)):
        assert diff(domain(name), switch_disk(domain(name), root, bus)) == ""


def test_virtio_options_do_not_go_along() -> None:
    before = domain("virtio").replace("<target dev='vda' bus='virtio'/>", (
        "<target dev='vda' bus='virtio'/><wwn>5000c50015ea71ac</wwn>"
    ))  # fmt: skip
    driver = disk(switch_disk(before, "vda", DiskBus.IDE), "hda").find("driver")
    assert driver is not None
    assert dict(driver.attrib) == {"name": "qemu", "type": "qcow2"}
    scsi = domain("ide").replace(
        "<target dev='hda' bus='ide'/>",
        "<target dev='hda' bus='ide' rotation_rate='1'/><wwn>5000c50015ea71ac</wwn>",
    )
    moved = disk(switch_disk(scsi, "hda", DiskBus.VIRTIO), "vda")
    assert moved.find("wwn") is None
    assert b"rotation_rate" not in etree.tostring(moved)


def test_a_disk_that_booted_first_still_does() -> None:
    """On virtio, libvirt would put the data disk vda before the root disk vdb."""
    before = (
        domain("ide")
        .replace("dev='hda'", "dev='vdX'", 1)
        .replace("dev='hdb' bus='ide'", "dev='vda' bus='virtio'")
        .replace("dev='vdX'", "dev='hdb'")
        .replace("    <boot dev='hd'/>", "    <boot dev='hd'/><boot dev='network'/>")
    )
    after = switch_disk(before, "hdb", DiskBus.VIRTIO)
    assert parse(after).findall("os/boot") == []
    boot = disk(after, "vdb").find("boot")
    assert boot is not None
    assert boot.get("order") == "1"
    nic = parse(after).find("devices/interface/boot")
    assert nic is not None
    assert nic.get("order") == "2"
    data = switch_disk(before, "vda", DiskBus.SATA)
    assert parse(data).find("os/boot[@dev='hd']") is not None


@pytest.mark.parametrize(
    ("name", "target", "bus", "says"),
    [
        ("ide", "hdz", DiskBus.VIRTIO, r"no disk 'hdz' \(it has hda, hdb, hdc\)"),
        ("q35-virtio", "vda", DiskBus.SATA, "vda cannot become sda on sata.* another disk sda"),
        ("sata", "sda", DiskBus.IDE, "q35 has no IDE controller"),
        ("ide", "hdc", DiskBus.VIRTIO, "cdrom hdc cannot be on virtio"),
        ("lsilogic", "sdb", DiskBus.SATA, "sdb is read-only, which sata cannot be"),
    ],
)
def test_what_cannot_be_is_refused(name: str, target: str, bus: DiskBus, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        switch_disk(domain(name), target, bus)


def test_ide_has_four_places() -> None:
    far = domain("virtio").replace("dev='vda'", "dev='vde'")
    with pytest.raises(UsageError, match="vde cannot become hde: IDE has places hda to hdd"):
        switch_disk(far, "vde", DiskBus.IDE)


def test_nvme_is_refused() -> None:
    with pytest.raises(UsageError, match="disk hda cannot be on nvme: libvirt 9 has no such bus"):
        switch_disk(domain("ide"), "hda", DiskBus.NVME)


def test_a_domain_without_usb_gets_a_controller_for_its_stick() -> None:
    xml = domain("ide")
    none = xml.replace("</devices>", "<controller type='usb' model='none'/></devices>", 1)
    models = [
        controller.get("model")
        for controller in parse(switch_disk(none, "hda", DiskBus.USB)).iterfind(
            "devices/controller[@type='usb']"
        )
    ]
    assert "qemu-xhci" in models
    assert "none" not in models


@pytest.mark.parametrize(("name", "number"), [("hda", 0), ("vdz", 25), ("vdaa", 26), ("sdba", 52)])
def test_target_numbers(name: str, number: int) -> None:
    assert target_index(name) == number
    with pytest.raises(UsageError, match="is no disk target"):
        target_index(name[:2])


@pytest.mark.parametrize("name", sorted(path.stem for path in DOMAINS.glob("*.xml")))
@pytest.mark.parametrize("model", list(NicModel), ids=str)
def test_a_nic_keeps_mac_and_place(name: str, model: NicModel) -> None:
    before = parse(domain(name)).find("devices/interface")
    after = parse(switch_nic(domain(name), MAC.upper(), model)).find("devices/interface")
    assert before is not None
    assert after is not None
    assert address(after) == address(before)
    kind, mac = after.find("model"), after.find("mac")
    assert kind is not None
    assert kind.get("type") == model.value
    assert mac is not None
    assert mac.get("address") == MAC
    if model is not NicModel.VIRTIO:
        assert after.find("driver") is None


def test_a_nic_is_found_in_either_case() -> None:
    xml = domain("ide").replace(MAC, "52:54:00:AB:cd:01")
    assert 'type="virtio"' in switch_nic(xml, "52:54:00:ab:CD:01", NicModel.VIRTIO)


def test_a_nic_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match=rf"no interface of MAC 00:.*it has {MAC}"):
        switch_nic(domain("ide"), "00:00:00:00:00:00", NicModel.VIRTIO)


def test_diff_sees_content_not_spelling() -> None:
    xml = domain("ide")
    assert diff(xml, text(parse(xml))) == ""
    assert diff(xml, xml.replace("'", '"')) == ""
    assert diff(xml, xml.replace("dev='hda' bus='ide'", "bus='ide' dev='hda'")) == ""
    changed = diff(xml, xml.replace("786432", "786433"))
    assert changed.startswith("--- before\n+++ after\n")
    assert "786433" in changed


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("", "cannot be parsed"),
        ("<domain>", "cannot be parsed"),
        ("<network/>", "root element is <network>"),
        ("<domain/>", "no <devices>"),
        ('<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><domain>&e;</domain>', "DOCTYPE"),
        ("<domain>\ud800</domain>", "cannot be parsed"),
    ],
)
def test_xml_that_is_no_domain_is_refused(xml: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        switch_disk(xml, "hda", DiskBus.VIRTIO)
    assert "\n" not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_what_is_not_ours_is_kept() -> None:
    namespaced = domain("ide").replace(
        "<domain type='qemu'>",
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<metadata><a:x xmlns:a='urn:a'>kept</a:x></metadata>"
        "<qemu:commandline><qemu:arg value='-snapshot'/></qemu:commandline>",
    )
    after = switch_disk(namespaced, "hda", DiskBus.VIRTIO)
    assert "-snapshot" in after
    assert "kept" in after

"""Domains of specs: as written down in data/golden, and taken by libvirt's schema and by libvirtd.

After a wanted change, ``VIRTPROOF_GOLDEN=write`` writes the files anew, to be read before they are
committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from virtproof.guest.connection import Connection
from virtproof.guest.domain import RefusedError
from virtproof.guest.domain_xml import (
    METADATA,
    Resources,
    data_disk,
    domain_xml,
    interface,
    text,
)
from virtproof.guest.qemu_xml import QEMU, Ring, with_ring
from virtproof.lab import PrivateLab
from virtproof.spec import (
    Accel,
    CacheMode,
    DataDisk,
    DiskBus,
    Firmware,
    GuestSpec,
    IoMode,
    Machine,
    NicModel,
    VirtioMode,
)
from virtproof.transition.switching import switch_nic

GOLDEN = Path(__file__).parent / "data" / "golden"
RNG = Path("/usr/share/libvirt/schemas/domain.rng")
UUID = "11111111-2222-4333-8444-555555555555"
MAC = "52:54:00:00:00:01"

SPECS = {
    "ide-rtl8139": GuestSpec("debian-12"),
    "sata-e1000-q35": GuestSpec(
        "debian-12", machine=Machine.Q35, disk=DiskBus.SATA, nic=NicModel.E1000
    ),
    "scsi-no-nic": GuestSpec("debian-12", disk=DiskBus.SCSI, nic=None),
    "virtio-virtio-kvm": GuestSpec(
        "debian-12", accel=Accel.KVM, disk=DiskBus.VIRTIO, nic=NicModel.VIRTIO, cpus=2
    ),
    "virtio-scsi-virtio": GuestSpec("debian-12", disk=DiskBus.VIRTIO_SCSI, nic=NicModel.VIRTIO),
    "uefi-virtio-kvm": GuestSpec(
        "debian-12",
        accel=Accel.KVM,
        machine=Machine.Q35,
        firmware=Firmware.UEFI,
        disk=DiskBus.VIRTIO,
        nic=NicModel.VIRTIO,
        memory_mib=1024,
    ),
    "nested-tcg": GuestSpec("debian-12-nested", disk=DiskBus.VIRTIO, nested=True),
    "nested-kvm": GuestSpec(
        "debian-12-nested", accel=Accel.KVM, disk=DiskBus.VIRTIO, nested=True, cpus=2
    ),
    "all-buses": GuestSpec(
        "debian-12",
        disk=DiskBus.SCSI,
        data_disks=(
            DataDisk(DiskBus.IDE, "ide1"),
            DataDisk(DiskBus.SATA, "sata1"),
            DataDisk(DiskBus.VIRTIO_SCSI, "vscsi1"),
            DataDisk(DiskBus.SCSI, "scsi1"),
            DataDisk(DiskBus.VIRTIO_SCSI, "vscsi2", readonly=True),
            DataDisk(DiskBus.VIRTIO, "blk1"),
            DataDisk(DiskBus.VIRTIO, "blk2", readonly=True),
        ),
    ),
    "usb-e1000e": GuestSpec("debian-12", disk=DiskBus.USB, nic=NicModel.E1000E),
    "nvme-vmxnet3": GuestSpec(
        "debian-12",
        disk=DiskBus.NVME,
        nic=NicModel.VMXNET3,
        data_disks=(
            DataDisk(DiskBus.NVME, "nvme1", cache=CacheMode.NONE),
            DataDisk(DiskBus.USB, "usb1"),
        ),
    ),
    "legacy-virtio-virtio": GuestSpec(
        "debian-12",
        disk=DiskBus.VIRTIO,
        nic=NicModel.VIRTIO,
        virtio=VirtioMode.LEGACY,
        data_disks=(DataDisk(DiskBus.VIRTIO_SCSI, "vscsi1"), DataDisk(DiskBus.IDE, "ide1")),
    ),
    "transitional-q35": GuestSpec(
        "debian-12",
        machine=Machine.Q35,
        disk=DiskBus.VIRTIO_SCSI,
        nic=NicModel.VIRTIO,
        virtio=VirtioMode.TRANSITIONAL,
        data_disks=(DataDisk(DiskBus.VIRTIO, "blk1"),),
    ),
    "modern-packed": GuestSpec(
        "debian-12",
        disk=DiskBus.VIRTIO,
        nic=NicModel.VIRTIO,
        virtio=VirtioMode.MODERN,
        packed=True,
        queues=2,
        nic_queues=2,
        cpus=2,
        data_disks=(DataDisk(DiskBus.VIRTIO_SCSI, "vscsi1", queues=2),),
    ),
    "tuned": GuestSpec(
        "debian-12",
        cpus=2,
        disk=DiskBus.VIRTIO_SCSI,
        nic=NicModel.VIRTIO,
        nic_queues=2,
        nic_bytes_per_s=5_000_000,
        data_disks=(
            DataDisk(DiskBus.VIRTIO, "blk1", 64, False, CacheMode.NONE, IoMode.NATIVE, True, 2),
            DataDisk(DiskBus.VIRTIO_SCSI, "vscsi1", cache=CacheMode.DIRECTSYNC, iothread=True),
            DataDisk(DiskBus.VIRTIO_SCSI, "vscsi2", queues=4),
            DataDisk(DiskBus.IDE, "ide1", bytes_per_s=50_000_000, cache=CacheMode.UNSAFE),
        ),
    ),
}


def resources(
    spec: GuestSpec, name: str = "virtproof-golden", directory: str = "/disks"
) -> Resources:
    data = tuple(f"{directory}/{disk.serial}.raw" for disk in spec.data_disks)
    return Resources(name, UUID, MAC, "virtproof", f"{directory}/root.qcow2", data)  # fmt: skip


def canonical(xml: str) -> str:
    """The same text for what is the same document: attributes sorted, no white space between."""
    parser = etree.XMLParser(remove_blank_text=True)
    root = etree.fromstring(xml, parser)
    return etree.tostring(root, method="c14n2").decode()


def all_specs() -> list[GuestSpec]:
    """Every bus with every NIC, accelerator, machine and kind of virtio that can be."""
    return [
        GuestSpec(
            "debian-12",
            accel,
            machine,
            firmware,
            bus,
            nic,
            nested=nested,
            virtio=mode,
            packed=packed,
        )
        for nested in (False, True)
        for accel in Accel
        for machine, firmware in (
            (Machine.PC, Firmware.BIOS),
            (Machine.Q35, Firmware.BIOS),
            (Machine.Q35, Firmware.UEFI),
        )
        for bus in DiskBus
        for nic in (None, *NicModel)
        if (machine, bus) != (Machine.Q35, DiskBus.IDE)
        if (firmware, bus) != (Firmware.UEFI, DiskBus.SCSI)
        for mode in (None, *VirtioMode)
        for packed in (False, True)
        if bus.is_virtio or nic is NicModel.VIRTIO or not (mode or packed)
        if not (packed and mode is VirtioMode.LEGACY)
    ]


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    """libvirt's own schema of a domain."""
    if not RNG.exists():
        pytest.skip("libvirt's schemas are not installed")
    return etree.RelaxNG(etree.parse(str(RNG)))


@pytest.mark.parametrize("name", SPECS)
def test_the_domain_is_the_one_written_down(name: str) -> None:
    made = domain_xml(SPECS[name], resources(SPECS[name]))
    path = GOLDEN / f"{name}.xml"
    if os.environ.get("VIRTPROOF_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert canonical(made) == canonical(path.read_text())


def test_no_file_is_written_down_that_nothing_compares() -> None:
    assert {path.stem for path in GOLDEN.glob("*.xml")} == set(SPECS)


def test_the_comparison_sees_one_attribute_and_no_white_space() -> None:
    assert canonical('<a b="1" c="2"><d/></a>') == canonical('<a c="2"\n b="1">\n <d></d></a>')
    assert canonical('<a b="1"/>') != canonical('<a b="2"/>')


def test_libvirts_schema_takes_every_combination(schema: etree.RelaxNG) -> None:
    specs = [*all_specs(), *SPECS.values()]
    assert len(specs) > 100
    for spec in specs:
        document = etree.fromstring(domain_xml(spec, resources(spec)))
        assert schema.validate(document), f"{spec.id}: {schema.error_log.last_error}"


def broken(change: Callable[[etree._Element], None]) -> str:
    root = etree.fromstring(
        domain_xml(SPECS["virtio-virtio-kvm"], resources(SPECS["virtio-virtio-kvm"]))
    )
    change(root)
    return etree.tostring(root, encoding="unicode")  # fmt: skip


def one(root: etree._Element, path: str) -> etree._Element:
    found = root.find(path)
    assert found is not None, path
    return found


BREAKAGES: dict[str, Callable[[etree._Element], None]] = {
    "an element unknown": lambda root: one(root, "devices").append(etree.Element("disc")),
    "a bus unknown": lambda root: one(root, "devices/disk/target").set("bus", "virtoi"),
    "no target": lambda root: one(root, "devices/disk").remove(one(root, "devices/disk/target")),
    "a bad MAC": lambda root: one(root, "devices/interface/mac").set("address", "52:54"),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_the_schema_refuses_a_broken_domain(schema: etree.RelaxNG, what: str) -> None:
    assert not schema.validate(etree.fromstring(broken(BREAKAGES[what])))


@pytest.mark.parametrize("name", SPECS)
def test_libvirtd_defines_it_and_keeps_bus_model_and_serial(
    living: tuple[PrivateLab, Connection], name: str
) -> None:
    _, connection = living
    spec = SPECS[name].but(accel=Accel.TCG)  # libvirt refuses KVM where there is none
    domain = connection.define(domain_xml(spec, resources(spec, f"virtproof-{name}")))
    try:
        kept = etree.fromstring(domain.xml(inactive=True))
        wanted = spec.buses
        serials = ["root", *(data.serial for data in spec.data_disks)]
        assert {
            one(disk, "serial").text: one(disk, "target").get("bus")
            for disk in kept.iterfind("devices/disk")
        } == {
            serial: bus.libvirt_bus
            for serial, bus in zip(serials, wanted, strict=True)
            if bus is not DiskBus.NVME
        }
        models = [model.get("type", "") for model in kept.iterfind("devices/interface/model")]
        plain = [model.removesuffix(spec.virtio.suffix if spec.virtio else "") for model in models]
        assert plain == ([spec.nic.value] if spec.nic else [])
        assert metadata(kept) == spec.id
        assert virtio_devices(kept) == sum(bus.is_virtio for bus in wanted) + (
            spec.nic is NicModel.VIRTIO
        )
    finally:
        domain.undefine()


def metadata(domain: etree._Element) -> str | None:
    return one(domain, f"metadata/{{{METADATA}}}guest").text


def virtio_devices(domain: etree._Element) -> int:
    """Disks and NICs on virtio, and whatever else libvirt put on virtio by itself."""
    scsi = {
        controller.get("index")
        for controller in domain.iterfind("devices/controller[@type='scsi']")
        if controller.get("model", "").startswith("virtio-")
    }
    behind = [
        address
        for address in domain.iterfind("devices/disk/address[@type='drive']")
        if address.get("controller") in scsi
        and address.getparent().find("target").get("bus") == "scsi"  # type: ignore[union-attr]
    ]
    plain = [
        *domain.iterfind("devices/disk/target[@bus='virtio']"),
        *(
            model
            for model in domain.iterfind("devices/interface/model")
            if model.get("type", "").startswith("virtio")
        ),
        *domain.iterfind("devices/controller[@type='virtio-serial']"),
        *domain.iterfind("devices/memballoon[@model='virtio']"),
        *domain.iterfind("devices/rng"),
        *domain.iterfind("devices/video/model[@type='virtio']"),
    ]
    return len(behind) + len(plain)


@pytest.mark.parametrize("what", BREAKAGES)
def test_libvirtd_refuses_a_broken_domain(living: tuple[PrivateLab, Connection], what: str) -> None:
    with pytest.raises(RefusedError, match="libvirt refuses the domain: "):
        living[1].define(broken(BREAKAGES[what]))


def test_a_guest_of_emulated_devices_holds_no_virtio_device_in_qemu(
    living: tuple[PrivateLab, Connection],
) -> None:
    """QEMU itself is asked: the command line that libvirt makes of the domain."""
    lab, connection = living
    assert "virtio" not in started(lab, connection, "ide-rtl8139")
    assert "virtio-scsi-pci" in started(lab, connection, "virtio-scsi-virtio")


def started(lab: PrivateLab, connection: Connection, name: str) -> str:
    """QEMU's command line of a domain that stood for a moment, its CPUs stopped."""
    spec = SPECS[name].but(memory_mib=128)
    root = lab.storage.blank(f"root-{name}", 1)
    data = tuple(lab.storage.blank(f"{disk.serial}-{name}", 1) for disk in spec.data_disks)
    unique = f"virtproof-run-{name}"
    made = Resources(unique, UUID, MAC, lab.network, root, data)
    xml = domain_xml(spec, made).replace('type="qcow2"', 'type="raw"').replace("qcow2", "raw")
    domain = connection.define(xml)
    try:
        domain.start()
        assert domain.state() == ("paused", "")
        log = lab.qemu_log(unique)
    finally:
        domain.destroy()
        domain.undefine()
        for path in (root, *data):
            lab.storage.remove(path)
    assert "-device" in log
    return "\n".join(line for line in log.splitlines() if line.startswith("-"))


@pytest.mark.parametrize("accel", Accel, ids=str)
def test_only_a_nested_guest_has_virtualisation_in_its_processor(accel: Accel) -> None:
    """Neither AMD's nor Intel's: host-passthrough would hand over whichever the host has."""

    def lacks(nested: bool) -> set[str | None]:
        spec = GuestSpec("debian-12", accel, nested=nested)
        root = etree.fromstring(domain_xml(spec, resources(spec)))
        return {f.get("name") for f in root.iterfind("cpu/feature[@policy='disable']")}

    assert "svm" in lacks(nested=False)
    assert accel is Accel.TCG or "vmx" in lacks(nested=False)
    assert not {"svm", "vmx", "npt"} & lacks(nested=True)


def test_qemu_is_started_with_virtualisation_for_a_nested_guest_alone(
    living: tuple[PrivateLab, Connection],
) -> None:
    """QEMU itself is asked, as what libvirt makes of a CPU model is libvirt's."""

    def cpu(name: str) -> str:
        (line,) = [text for text in started(*living, name).splitlines() if "-cpu " in text]
        return line

    nested, plain = cpu("nested-tcg"), cpu("scsi-no-nic")
    assert nested.split()[1].startswith("max,")
    assert "svm=off" not in nested
    assert "cx16=off" in nested
    assert "svm=off" in plain


MODES = [
    Ring(mode, packed)
    for mode in (None, *VirtioMode)
    for packed in (False, True)
    if not (packed and mode is VirtioMode.LEGACY)
]


@pytest.mark.parametrize("ring", MODES, ids=str)
@pytest.mark.parametrize("name", ["legacy-virtio-virtio", "modern-packed", "all-buses"])
def test_a_domains_virtio_devices_change_their_mode_and_nothing_else_does(
    name: str, ring: Ring
) -> None:
    spec = SPECS[name].but(virtio=ring.virtio, packed=ring.packed)
    made = etree.fromstring(domain_xml(SPECS[name], resources(SPECS[name])))
    changed = etree.fromstring(with_ring(etree.tostring(made, encoding="unicode"), ring))
    wanted = etree.fromstring(domain_xml(spec, resources(spec)))
    for root in (changed, wanted):
        one(root, "metadata").clear()
        for element in root.iter("disk", "interface", "controller"):
            element[:] = sorted(element, key=lambda child: str(child.tag))
        for driver in list(root.iter("driver")):
            if not driver.attrib:
                driver.getparent().remove(driver)  # type: ignore[union-attr]  # it is below a device
    assert canonical(etree.tostring(changed, encoding="unicode")) == canonical(
        etree.tostring(wanted, encoding="unicode")
    )


def test_a_nic_that_leaves_virtio_leaves_nothing_of_its_mode() -> None:
    """Or QEMU would refuse an RTL8139 for a property that only virtio's devices have."""
    xml = domain_xml(SPECS["legacy-virtio-virtio"], resources(SPECS["legacy-virtio-virtio"]))
    left = with_ring(switch_nic(xml, MAC, NicModel.RTL8139), Ring(VirtioMode.LEGACY))
    aliases = [d.get("alias") for d in etree.fromstring(left).iter(f"{{{QEMU}}}device")]
    assert aliases == ["ua-legacy-root", "ua-legacy-scsi0"]


def test_qemu_is_given_what_libvirt_has_no_name_for(
    living: tuple[PrivateLab, Connection],
) -> None:
    """QEMU itself is asked: it starts with each of them, and its command line says so."""
    legacy = started(*living, "legacy-virtio-virtio")
    assert legacy.count('"disable-modern":true') == 3
    assert '"driver":"nvme"' in started(*living, "nvme-vmxnet3").replace(" ", "")
    assert "virtio-scsi-pci-transitional" in started(*living, "transitional-q35")
    assert started(*living, "modern-packed").count('"packed":true') == 3


# --- single devices -------------------------------------------------------------------------


def test_the_control_channel_and_the_console_need_no_virtio() -> None:
    root = etree.fromstring(domain_xml(SPECS["ide-rtl8139"], resources(SPECS["ide-rtl8139"])))
    ports = [(p.get("type"), p.get("port")) for p in root.iterfind("devices/serial/target")]
    assert ports == [("isa-serial", "0"), ("isa-serial", "1")]
    assert one(root, "devices/memballoon").get("model") == "none"
    assert one(root, "os/bios").get("useserial") == "yes"


def test_two_specs_that_differ_in_the_nic_differ_in_nothing_else() -> None:
    spec = SPECS["ide-rtl8139"]
    old = domain_xml(spec, resources(spec))
    new = domain_xml(spec.but(nic=NicModel.VIRTIO), resources(spec))
    pairs = zip(old.splitlines(), new.splitlines(), strict=True)
    changed = [line.strip() for pair in pairs for line in pair if len({*pair}) > 1]
    assert spec.id in changed[0]
    assert changed[2:] == ['<model type="rtl8139"/>', '<model type="virtio"/>']


def test_only_the_root_disk_boots() -> None:
    root = etree.fromstring(domain_xml(SPECS["all-buses"], resources(SPECS["all-buses"])))
    booted = root.findall("devices/disk/boot/..")
    assert [one(disk, "serial").text for disk in booted] == ["root"]


def test_no_two_disks_share_a_name_or_a_place() -> None:
    root = etree.fromstring(domain_xml(SPECS["all-buses"], resources(SPECS["all-buses"])))
    names = [target.get("dev") for target in root.iterfind("devices/disk/target")]
    assert len(set(names)) == len(names) == 8
    places = [tuple(sorted(a.items())) for a in root.iterfind("devices/disk/address")]
    assert len(set(places)) == len(places) == 4
    controllers = {
        c.get("index"): c.get("model") for c in root.iterfind("devices/controller[@type='scsi']")
    }
    assert controllers == {"0": "lsilogic", "1": "virtio-scsi"}


def test_names_from_outside_cannot_break_out_of_their_place() -> None:
    nasty = '"/><disk type="file"/>&<!--'
    spec = GuestSpec(nasty)
    root = etree.fromstring(domain_xml(spec, Resources(nasty, UUID, MAC, nasty, nasty)))
    assert len(root.findall("devices/disk")) == 1
    assert one(root, "name").text == nasty
    assert one(root, "devices/disk/source").get("file") == nasty
    assert one(root, "devices/interface/source").get("network") == nasty
    assert metadata(root) == spec.id


def test_as_many_paths_as_data_disks_are_wanted() -> None:
    spec = SPECS["all-buses"]
    with pytest.raises(ValueError, match="shorter"):
        domain_xml(spec, Resources("n", UUID, MAC, "virtproof", "/root", ("/one",)))


def test_single_devices_are_what_a_domain_holds() -> None:
    spec = GuestSpec(
        "debian-12", data_disks=(DataDisk(DiskBus.VIRTIO_SCSI, "d", readonly=True),), nic=None
    )
    root = etree.fromstring(domain_xml(spec, resources(spec)))
    made = text(data_disk(spec.data_disks[0], "/disks/d.raw", "sda"))
    held = etree.tostring(root.findall("devices/disk")[1], encoding="unicode")
    assert canonical(made) == canonical(held)
    assert "<address" not in text(data_disk(DataDisk(DiskBus.VIRTIO, "d"), "/d", "vdb"))


def test_an_interface_has_an_mtu_only_where_one_is_given() -> None:
    plain = interface(NicModel.VIRTIO, MAC, "virtproof")
    assert plain.find("mtu") is None
    assert one(plain, "rom").get("enabled") == "no"
    assert one(interface(NicModel.VIRTIO, MAC, "virtproof", 9000), "mtu").get("size") == "9000"

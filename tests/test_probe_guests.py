"""Probes on recorded answers of real guests: what is on virtio says so, the rest does not."""

from __future__ import annotations

import pytest

from test_probe_replay import RECORDINGS, ReplayRunner
from virtproof.errors import CommandError
from virtproof.probe.block import BlockProbe
from virtproof.probe.initramfs import InitramfsProbe
from virtproof.probe.kernel import KernelProbe, normal
from virtproof.probe.net import NetProbe
from virtproof.probe.pci import PciProbe
from virtproof.probe.virtio import Transport, VirtioProbe, feature_bits, has_virtio_capability


def recording(guest: str, topic: str) -> str:
    return (RECORDINGS / guest / f"{topic}.txt").read_text()


def test_a_virtio_guest_is_on_virtio() -> None:
    runner = ReplayRunner("virtio")
    block, net = BlockProbe(runner), NetProbe(runner)
    root = block.root_disk
    assert (root.name, root.driver, root.bus, root.serial) == (
        "vda", "virtio_blk", "virtio", "ROOT1",
    )  # fmt: skip
    assert block.disk_by_serial("DATA1").driver == "virtio_scsi"
    assert block.disk_by_serial("RO2").read_only
    assert not root.read_only
    nic = net.by_mac("52:54:00:00:00:01".upper())
    assert (nic.driver, nic.virtio, nic.carrier) == ("virtio_net", True, True)
    assert "/virtio" in nic.statistics_path
    assert nic.counters["tx_bytes"] > 0
    assert net.nic_facts == f"{nic.pci_address} 1af4:1000 virtio_net"
    assert {device.driver for device in PciProbe(runner).virtio} == {"virtio-pci"}
    assert KernelProbe(runner).loaded("virtio-net")
    assert InitramfsProbe(runner).holds("virtio_blk")
    assert InitramfsProbe(runner).holds("virtio_pci")


def test_an_ide_guest_is_not_on_virtio() -> None:
    runner = ReplayRunner("ide")
    assert VirtioProbe(runner).devices == ()
    assert PciProbe(runner).virtio == ()
    assert not any(nic.virtio for nic in NetProbe(runner).nics)
    assert not any("virtio" in f"{disk.driver}{disk.bus}" for disk in BlockProbe(runner).disks)
    assert not any(KernelProbe(runner).loaded(m) for m in ("virtio_pci", "virtio_net"))
    assert KernelProbe(runner).supports("virtio_net") == "module"
    assert not InitramfsProbe(runner).holds("virtio_blk")


def test_virtio_devices_of_every_transport() -> None:
    devices = {device.name: device for device in VirtioProbe(ReplayRunner("virtio")).devices}
    old, new = devices["virtio2"], devices["virtio1"]
    assert (old.transport, new.transport) == (Transport.LEGACY, Transport.MODERN)
    assert "FEATURES_OK" not in old.status
    assert "FEATURES_OK" in new.status
    assert 32 not in old.features
    assert 32 in new.features
    assert [device.name for device in VirtioProbe(ReplayRunner("virtio")).of_type("net")] == [
        "virtio3"
    ]


@pytest.mark.parametrize("length", [64, 128])
def test_feature_bits_of_any_length(length: int) -> None:
    text = "1" + "0" * (length - 2) + "1"
    assert feature_bits(text) == {0, length - 1}
    with pytest.raises(CommandError, match="string of 0 and 1"):
        feature_bits(text + "2")


def test_a_capability_list_that_is_a_ring_ends() -> None:
    config = bytearray(256)
    config[0x06], config[0x34], config[0x40], config[0x41] = 0x10, 0x40, 0x05, 0x40
    assert not has_virtio_capability(bytes(config))
    config[0x41], config[0x50] = 0x50, 0x09
    assert has_virtio_capability(bytes(config))


def test_a_driverless_nic_is_told() -> None:
    text = recording("virtio", "net").replace("driver\tvirtio_net\n", "")
    net = NetProbe(ReplayRunner("virtio", net=text))
    assert net.nic_facts.endswith("1af4:1000 -")
    with pytest.raises(CommandError, match="no network device of MAC 52:54:00:00:00:09"):
        net.by_mac("52:54:00:00:00:09")


def test_counters_are_read_anew_and_disks_are_kept() -> None:
    runner = ReplayRunner("ide")
    net, block = NetProbe(runner), BlockProbe(runner)
    for _ in range(2):
        assert net.nics
        assert block.disks
    assert runner.asked.count("# virtproof probe: net") == 2
    assert runner.asked.count("# virtproof probe: block") == 1
    block.refresh()
    assert block.disks
    assert runner.asked.count("# virtproof probe: block") == 2


def test_a_mac_is_found_in_either_case() -> None:
    text = recording("ide", "net").replace("52:54:00:00:00:01", "52:54:00:AB:cd:01")
    assert NetProbe(ReplayRunner("ide", net=text)).by_mac("52:54:00:ab:CD:01").name == "ens3"


def test_a_route_through_a_gateway_is_not_the_default() -> None:
    text = recording("ide", "net").replace(
        "@ ip routes\n", "@ ip routes\nroute\tens3 000A0A0A 0900000A\n"
    )
    assert NetProbe(ReplayRunner("ide", net=text)).gateway == "10.0.2.2"


def test_gateway_is_none_without_a_default_route() -> None:
    text = "\n".join(
        line for line in recording("ide", "net").split("\n") if " 00000000 " not in line
    )
    assert NetProbe(ReplayRunner("ide", net=text)).gateway is None


def test_root_on_two_disks_or_none_is_told() -> None:
    text = recording("ide", "block")
    both = text.replace("disk\tsdc\n", "disk\tsdc\ndisk\tsda\n")
    with pytest.raises(CommandError, match=r"is on sda, sdc, expected one disk"):
        BlockProbe(ReplayRunner("ide", block=both)).root_disk  # noqa: B018
    none = text.replace("disk\tsdc\n", "")
    with pytest.raises(CommandError, match=r"is on no disk"):
        BlockProbe(ReplayRunner("ide", block=none)).root_disk  # noqa: B018


def test_a_missing_serial_lists_the_others() -> None:
    with pytest.raises(CommandError, match=r"sdb=DATA1"):
        BlockProbe(ReplayRunner("ide")).disk_by_serial("DATA2")


def test_a_serial_falls_back_on_udev() -> None:
    text = recording("ide", "block")
    page = next(line for line in text.split("\n") if line.startswith("vpd80\t"))
    changed = text.replace(page, "udev_serial\tFROMUDEV")
    assert BlockProbe(ReplayRunner("ide", block=changed)).disk_by_serial("FROMUDEV")


def test_the_initramfs_names_its_maker() -> None:
    dracut = InitramfsProbe(ReplayRunner("dracut"))
    assert dracut.tool == "dracut"
    assert dracut.holds("virtio_blk")
    assert InitramfsProbe(ReplayRunner("virtio")).tool == "initramfs-tools"


def test_a_built_in_driver_counts_as_held() -> None:
    text = recording("ide", "initramfs")
    built_in = text.removesuffix(".\n") + "file\tvirtio_blk.ko\n.\n"
    assert InitramfsProbe(ReplayRunner("ide", initramfs=built_in)).holds("virtio-blk")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("status\t0", "status\t1", "lsinitramfs of /boot/initrd.img-.* exited with 1"),
        ("lister\tlsinitramfs", "lister\t", "nothing that lists"),
        ("path\t/boot/initrd.img-6.1.0-56-amd64", "path\t", "no initramfs of kernel"),
    ],
)
def test_an_initramfs_that_cannot_be_listed_holds_nothing_silently(
    old: str, new: str, says: str
) -> None:
    text = recording("ide", "initramfs")
    assert old in text
    with pytest.raises(CommandError, match=says):
        InitramfsProbe(ReplayRunner("ide", initramfs=text.replace(old, new))).holds("virtio_blk")


@pytest.mark.parametrize(
    "name", ["virtio-blk", "virtio_blk.ko", "virtio_blk.ko.xz", "a/b/virtio_blk.ko.zst"]
)
def test_module_names_are_normalised(name: str) -> None:
    assert normal(name) == "virtio_blk"

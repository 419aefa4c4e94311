"""What a kernel's initramfs holds, and which tool made it. Source: the tools' own listings."""

from __future__ import annotations

from virtproof.errors import CommandError
from virtproof.guest.shell import Runner
from virtproof.probe.facts import Facts, Record
from virtproof.probe.kernel import normal

# Only lines that name a module or tell the maker apart come back. An image that is one compressed
# archive is read by its decompressor and cpio; the tools' own listers see behind a microcode archive
# too, but are shell scripts that cost half a minute under emulation.
_SCRIPT = r"""
release=$1; [ -n "$release" ] || release=$(uname -r)
id=; [ ! -r /etc/machine-id ] || read -r id </etc/machine-id
image=
for f in "/boot/initrd.img-$release" "/boot/initramfs-$release.img" "/boot/initrd-$release" \
  "/boot/initrd-$release.img" "/boot/$id/$release/initrd" "/boot/efi/$id/$release/initrd" \
  /boot/initramfs-linux.img "/boot/initramfs-${release##*-}"
do [ -r "$f" ] && { image=$f; break; }; done
lister=; unpack=
case $([ -z "$image" ] || od -An -tx1 -N4 "$image" | tr -d ' \n') in
  1f8b*) unpack=zcat;; fd377a58) unpack=xzcat;; 28b52ffd) unpack=zstdcat;;
  02214c18|04224d18) unpack=lz4cat;;
esac
[ -z "$unpack" ] || ! command -v "$unpack" >/dev/null || ! command -v cpio >/dev/null || lister=cpio
[ -n "$lister" ] || for t in lsinitramfs lsinitrd lsinitcpio cpio; do
  command -v "$t" >/dev/null && { lister=$t; break; }
done
list() {
  case $lister in
    cpio) "${unpack:-cat}" <"$image" | cpio -t;; '') return 127;; *) "$lister" "$image";;
  esac
}
rec image "$release"
say path "$image"; say lister "$lister"
for t in mkinitcpio mkinitfs mkinitramfs dracut mkinitrd; do
  command -v "$t" >/dev/null && say installed "$t"
done
[ -z "$image" ] || { names=$(list 2>/dev/null); say status $?; }
printf '%s\n' "$names" | sed -n -e 's/ -> .*//' -e 's/^.*[ ]//' -e 's|^[./]*||' \
  -e '/\.ko$/s/^/entry	/p' -e '/\.ko\.[a-z0-9]*$/s/^/entry	/p' \
  -e '/lib\/dracut\/hooks$/s/^/entry	/p' -e '/^scripts\/init-top$/s/^/entry	/p' \
  -e '/^etc\/mkinitfs/s/^/entry	/p' -e '/^buildconfig$/s/^/entry	/p'
d=/lib/modules/$release
rec builtin modules
[ ! -r "$d/modules.builtin" ] || sed -e 's|.*/||' -e 's/^/file	/' "$d/modules.builtin"
"""

# A path inside the image that only one maker puts there.
_MAKERS = {
    "usr/lib/dracut/hooks": "dracut",
    "lib/dracut/hooks": "dracut",
    "scripts/init-top": "initramfs-tools",
    "buildconfig": "mkinitcpio",
    "etc/mkinitfs": "mkinitfs",
}
_PROGRAMS = {
    "mkinitcpio": "mkinitcpio",
    "mkinitfs": "mkinitfs",
    "mkinitramfs": "initramfs-tools",
    "dracut": "dracut",
    "mkinitrd": "mkinitrd",
}


class InitramfsProbe:
    """The initramfs of a kernel, the running one where ``release`` is empty.

    One command, which takes some seconds under emulation; kept until ``refresh``.
    """

    def __init__(self, runner: Runner, release: str = "") -> None:
        self._facts = Facts(runner, "initramfs", _SCRIPT, release, timeout_s=180)

    def refresh(self) -> None:
        self._facts.refresh()

    def _image(self) -> Record:
        image = self._facts.one("image")
        if not image.text("path"):
            raise CommandError(f"the guest has no initramfs of kernel {image.name} in /boot")
        lister = image.text("lister")
        if not lister:
            raise CommandError(
                f"the guest has nothing that lists {image.text('path')}",
                hint="it needs lsinitramfs, lsinitrd, lsinitcpio or cpio",
            )
        if status := image.number("status"):
            raise CommandError(
                f"in the guest, {lister} of {image.text('path')} exited with {status}"
            )
        return image

    @property
    def path(self) -> str:
        """The image's path in the guest.

        >>> initramfs.path
        '/boot/initrd.img-6.1.0-56-amd64'
        """
        return self._image().text("path")

    @property
    def tool(self) -> str:
        """initramfs-tools, dracut, mkinitcpio, mkinitfs or mkinitrd.

        It is the image's maker by what is inside, else the first tool installed.

        >>> initramfs.tool
        'initramfs-tools'
        """
        image = self._image()
        for entry in image.all("entry"):
            for path, maker in _MAKERS.items():
                if entry == path or (maker == "mkinitfs" and entry.startswith(path)):
                    return maker
        for program in image.all("installed"):
            return _PROGRAMS[program]
        raise CommandError(f"nothing tells which tool made {image.text('path')}")

    @property
    def modules(self) -> frozenset[str]:
        """Names of the modules in the image, as lsmod would show them.

        >>> sorted(initramfs.modules & {"ata_piix", "sym53c8xx", "virtio_blk"})
        ['ata_piix', 'sym53c8xx']
        """
        entries = self._image().all("entry")
        return frozenset(normal(entry) for entry in entries if entry not in _MAKERS)

    @property
    def builtin(self) -> frozenset[str]:
        """Names of the drivers that this kernel has built in, so that no image need hold them."""
        return frozenset(normal(name) for name in self._facts.one("builtin").all("file"))

    def holds(self, module: str) -> bool:
        """Whether the driver is there at boot: in the image, or built in.

        >>> initramfs.holds("ata_piix"), initramfs.holds("unix"), initramfs.holds("virtio_blk")
        (True, True, False)
        """
        return normal(module) in self.modules | self.builtin

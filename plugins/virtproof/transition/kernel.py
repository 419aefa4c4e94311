"""Making a kernel that was put into a guest the one that boots: initramfs, boot loader's menu, default."""

from __future__ import annotations

from virtproof.errors import GuestError
from virtproof.guest.shell import Runner

PLACE = "/var/tmp/virtproof-kernel"
STEPS_S = 240.0  # on KVM; the runner scales it

# For a kernel that came as files. Package managers' hooks (kernel-install) are not asked: they differ.
_PUT = r"""
set -e
place=$1; release=$2
[ -d "$place" ] || exit 0
mkdir -p "/lib/modules/$release"
cp -a "$place/modules/." "/lib/modules/$release/"
cp "$place/vmlinuz" "/boot/vmlinuz-$release"
# initramfs-tools asks it what the kernel can unpack. Nobody gave one: then the boot to come is the proof.
if [ -e "$place/config" ]; then cp "$place/config" "/boot/config-$release"
else printf 'CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n' >"/boot/config-$release"; fi
depmod "$release"
[ ! -e "$place/initrd" ] || cp "$place/initrd" "/boot/initrd.img-$release"
rm -rf "$place"
"""
# The distribution's own tool, so that what is claimed of an initramfs holds of this one too.
_INITRAMFS = r"""
set -e
release=$1
for f in "/boot/initrd.img-$release" "/boot/initramfs-$release.img" "/boot/initrd-$release"
do [ ! -s "$f" ] || exit 0; done
if [ -e /etc/debian_version ]; then image=/boot/initrd.img-$release
else image=/boot/initramfs-$release.img; fi
if command -v dracut >/dev/null; then dracut --quiet --force "$image" "$release"
elif command -v update-initramfs >/dev/null; then update-initramfs -c -k "$release"
elif command -v mkinitcpio >/dev/null; then mkinitcpio -k "$release" -g "$image"
else echo "no tool to make an initramfs with" >&2; exit 1; fi
"""
# A host-only initramfs is of the system that runs, and so made anew by the kernel that it is for.
_OF_ITS_OWN = r"""
set -e
release=$1
! command -v dracut >/dev/null || dracut --quiet --force "$(ls /boot/init*"$release"* | head -n 1)" "$release"
sync
"""
_MENU = r"""
set -e
release=$1
if command -v grubby >/dev/null; then
  grubby --info="/boot/vmlinuz-$release" >/dev/null 2>&1 || grubby --add-kernel="/boot/vmlinuz-$release" \
    --copy-default --title="$release" --initrd="$(ls /boot/initr*"$release"*)"
  grubby --set-default="/boot/vmlinuz-$release"
  exit
fi
for menu in /boot/grub/grub.cfg /boot/grub2/grub.cfg; do [ ! -e "$menu" ] || break; done
make() {
  if command -v grub-mkconfig >/dev/null; then grub-mkconfig -o "$menu" 2>/dev/null
  elif command -v grub2-mkconfig >/dev/null; then grub2-mkconfig -o "$menu" 2>/dev/null
  else echo "no GRUB whose menu could be made: $menu" >&2; exit 1; fi
}
grep -q "vmlinuz-$release " "$menu" || make
first=$(sed -n 's/^[[:space:]]*linux[a-z0-9]*[[:space:]]*\([^ ]*\).*/\1/p' "$menu" | head -n 1)
[ "${first##*/}" != "vmlinuz-$release" ] || exit 0
# Not the newest: named by the ids of its entry and of the submenu that has it.
entry=$(sed -n "s/.*'\(gnulinux-$release-advanced-[^']*\)'.*/\1/p" "$menu" | head -n 1)
above=$(sed -n "s/.*'\(gnulinux-advanced-[^']*\)'.*/\1/p" "$menu" | head -n 1)
[ -n "$entry" ] || { echo "$menu has no entry of $release" >&2; exit 1; }
sed -i '/^GRUB_DEFAULT=/d' /etc/default/grub
printf 'GRUB_DEFAULT="%s"\n' "${above:+$above>}$entry" >>/etc/default/grub
make
"""


def place_tree(runner: Runner) -> str:
    """Where the files of a kernel are to be handed in; empty before."""
    runner.run("rm -rf %s", PLACE)
    return PLACE


def finish(runner: Runner, release: str) -> None:
    """Put in place what was handed in, and make that kernel the boot loader's default.

    GuestError that says which step failed, with what its tool said.
    """
    _step(runner, "putting its files in place", _PUT, PLACE, release)
    _step(runner, "making its initramfs", _INITRAMFS, release)
    _step(runner, "writing the boot loader's menu", _MENU, release)


def settle(runner: Runner, release: str) -> None:
    """What is to be done once more by the new kernel itself, which runs now; GuestError as of ``finish``."""
    _step(runner, "making its initramfs anew", _OF_ITS_OWN, release)


def _step(runner: Runner, doing: str, script: str, *arguments: str) -> None:
    words = " ".join("%s" for _ in arguments)
    done = runner.run(
        f"sh -c %s sh {words} && sync", script, *arguments, check=False, timeout_s=STEPS_S
    )
    if done.status != 0:
        lines = (done.stderr.strip() or f"status {done.status}").splitlines()
        # Debian's tools say what was wrong before they say that they failed.
        telling = next((line for line in lines if line.startswith("E: ")), lines[-1])
        raise GuestError(f"{doing}: {telling[:200]}", detail=done.stderr)

"""Give a guest's initramfs the virtio drivers, so that its root disk may move to virtio.

One class an initramfs tool. Each writes the tool's own configuration, so that the images of later
kernels hold the drivers too, and has the tool make the image anew. Twice is the same as once.
"""

from __future__ import annotations

import re
import shlex
from typing import Protocol

from virtproof.errors import CommandError, UsageError
from virtproof.guest.shell import CommandResult, Runner
from virtproof.probe.facts import clean

DEFAULT_MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi")
REGENERATE_S = 600.0  # before the runner's scaling; a hundred times what bare metal needs
CONFIGURE_S = 60.0


class Preparer(Protocol):
    """An initramfs tool that can be told to hold modules."""

    @property
    def name(self) -> str:
        """The tool's name, as InitramfsProbe.tool gives it."""
        ...

    def detect(self, runner: Runner) -> bool:
        """Whether this tool makes the guest's images."""
        ...

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        """Configure ``modules`` for good and make the image of kernel ``release`` anew."""
        ...


class InitramfsTools:
    """Debian's and Ubuntu's update-initramfs: a line a module in /etc/initramfs-tools/modules."""

    name = "initramfs-tools"

    def detect(self, runner: Runner) -> bool:
        # dracut on Debian brings an update-initramfs of its own, but no mkinitramfs
        return _has(runner, "mkinitramfs", "update-initramfs")

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        _configure(
            self.name,
            runner,
            r"""file=/etc/initramfs-tools/modules
            [ -z "$(tail -c 1 "$file" 2>/dev/null)" ] || echo >>"$file"
            for m in %s; do
              grep -qx "$m" "$file" 2>/dev/null || printf '%%s\n' "$m" >>"$file" || exit
            done""",
            modules,
        )
        _regenerate(self.name, runner, "update-initramfs -u -k %s", release)


class Dracut:
    """dracut (Fedora, openSUSE, RHEL): ``add_drivers`` in a file of /etc/dracut.conf.d.

    Where Debian's name of the image exists, that image is made, else dracut's default.
    """

    name = "dracut"

    def detect(self, runner: Runner) -> bool:
        return _has(runner, "dracut")

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        line = f'add_drivers+=" {" ".join(_valid(modules))} "\n'
        _configure(self.name, runner, "mkdir -p /etc/dracut.conf.d", ())
        runner.put("/etc/dracut.conf.d/90-virtproof.conf", line.encode())
        _regenerate(
            self.name,
            runner,
            'set -- %s; image=/boot/initrd.img-$1; [ -e "$image" ] || image=; '
            'dracut --force ${image:+"$image"} --kver "$1"',
            release,
        )


class Mkinitrd:
    """mkinitrd of Fedora before 12 and RHEL 5. Unverified: tested against a fake tree only.

    ``alias scsi_hostadapter`` in /etc/modprobe.conf makes later kernels' images hold the modules;
    ``--with`` puts them into this one, as the libvirt wiki's page has it.
    """

    name = "mkinitrd"

    def detect(self, runner: Runner) -> bool:
        return _has(runner, "mkinitrd")

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        _configure(
            self.name,
            runner,
            r"""file=/etc/modprobe.conf; n=90
            for m in %s; do
              grep -q "^alias scsi_hostadapter[0-9]* $m\$" "$file" 2>/dev/null ||
                printf 'alias scsi_hostadapter%%s %%s\n' "$n" "$m" >>"$file" || exit
              n=$((n + 1))
            done""",
            modules,
        )
        options = " ".join(f"--with={module}" for module in _valid(modules))
        _regenerate(
            self.name, runner, f"set -- %s; mkinitrd {options} -f /boot/initrd-$1.img $1", release
        )


class Mkinitcpio:
    """Arch's mkinitcpio: a last line of /etc/mkinitcpio.conf, which is bash, adds to ``MODULES``.

    Unverified: tested against a fake tree only. Every preset's image is made anew: they are named
    after presets, not after kernel releases.
    """

    name = "mkinitcpio"

    def detect(self, runner: Runner) -> bool:
        return _has(runner, "mkinitcpio")

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        _configure(
            self.name,
            runner,
            r"""file=/etc/mkinitcpio.conf; line="MODULES+=($(echo %s))"
            grep -qxF "$line" "$file" 2>/dev/null || printf '%%s\n' "$line" >>"$file" """,
            modules,
        )
        _regenerate(self.name, runner, ": %s; mkinitcpio -P", release)


class Mkinitfs:
    """Alpine's mkinitfs: a feature of its own, which lists the modules' files.

    Unverified: tested against a fake tree only. A driver that is built in has no
    file and needs none.
    """

    name = "mkinitfs"

    def detect(self, runner: Runner) -> bool:
        return _has(runner, "mkinitfs")

    def prepare(self, runner: Runner, modules: tuple[str, ...], release: str) -> None:
        _configure(
            self.name,
            runner,
            r"""dir=/etc/mkinitfs; mkdir -p "$dir/features.d" || exit
            for m in %s; do
              n=$(printf '%%s' "$m" | sed 's/[-_]/[-_]/g')
              for d in /lib/modules/*; do
                (cd "$d" 2>/dev/null && find kernel -name "$n.ko*") | sed 's/\.ko.*/.ko*/'
              done
            done | sort -u >"$dir/features.d/virtproof.modules"
            grep -q '^features=.*virtproof' "$dir/mkinitfs.conf" 2>/dev/null ||
              printf 'features="$features virtproof"\n' >>"$dir/mkinitfs.conf" """,
            modules,
        )
        _regenerate(self.name, runner, "mkinitfs %s", release)


# In this order: beside the real tool a guest may have a wrapper that is called mkinitrd.
PREPARERS: tuple[Preparer, ...] = (
    InitramfsTools(),
    Mkinitcpio(),
    Mkinitfs(),
    Dracut(),
    Mkinitrd(),
)


def preparer_for(runner: Runner) -> Preparer:
    """The guest's initramfs tool; CommandError that names those known where it has none."""
    for preparer in PREPARERS:
        if preparer.detect(runner):
            return preparer
    known = ", ".join(preparer.name for preparer in PREPARERS)
    raise CommandError("the guest has no initramfs tool that is known here", hint=f"known: {known}")


def _has(runner: Runner, *programs: str) -> bool:
    tests = " && ".join(f"command -v {shlex.quote(program)} >/dev/null" for program in programs)
    return runner.run(f"PATH=$PATH:/usr/sbin:/sbin; {tests}", check=False).status == 0


def _valid(modules: tuple[str, ...]) -> tuple[str, ...]:
    for module in modules:
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", module) is None:
            raise UsageError(f"{module!r} is no module name", hint="as virtio_blk")
    return modules


def _configure(tool: str, runner: Runner, script: str, modules: tuple[str, ...]) -> None:
    """Run ``script``; its ``%s`` takes the modules, checked to be plain words."""
    names = " ".join(_valid(modules))
    command = script % names if modules else script
    result = runner.run(command, check=False, timeout_s=CONFIGURE_S)
    _checked(tool, "could not be configured", result)


def _regenerate(tool: str, runner: Runner, command: str, release: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9._+~-]+", release) is None:
        raise UsageError(f"{release!r} is no kernel release", hint="as 6.1.0-56-amd64")
    command = f"PATH=$PATH:/usr/sbin:/sbin; {command}"
    result = runner.run(command, release, check=False, timeout_s=REGENERATE_S)
    _checked(tool, f"could not make the initramfs of {release}", result)


def _checked(tool: str, what: str, result: CommandResult) -> None:
    if result.status == 0:
        return
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    last = clean(said[-1], 200) if said else "it said nothing"
    raise CommandError(
        f"{tool} {what}, exit status {result.status}: {last}",
        detail=f"stdout:\n{result.stdout}\nstderr:\n{result.stderr}",
    )

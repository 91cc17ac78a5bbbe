"""README and guides run as they stand, and match the program.

Each ``sh`` block is typed into a shell at a terminal, in the order of the pages, in one home. The two set-up blocks
install things: they run in ``.ci/run``. The line of the ``crontab`` block runs as cron would run it.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from popug_cli.cli.help.surface import parse
from tests.generate import picture, readme
from tests.generate.readme import CONTRIBUTING, OPERATING, README, Block
from tests.support.terminal import type_into_shell

ROOT = README.parent
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (README, OPERATING, CONTRIBUTING)}
TEXT = PAGES[README.name]
BLOCKS = [block for text in PAGES.values() for block in readme.blocks(text)]
every_page = pytest.mark.parametrize("page", [README, OPERATING, CONTRIBUTING], ids=lambda page: str(page.name))
SET_UP = {"set-up: play", "set-up: test"}
PASSWORD = "seven cages under nine moons"


def where(block: Block) -> str:
    return next(f"{name}:{block.line}" for name, text in PAGES.items() if block in readme.blocks(text))


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user's shell, with the program under test first on the path."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return passed | {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(folder / "bin"), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "120",
    }


@pytest.fixture
def someone(tmp_path: Path) -> Path:
    """The home directory of a user who has the program on the path, and nothing else."""
    program = tmp_path / "bin" / "popug"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popug_cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


def test_every_command_block_runs_as_it_stands(someone: Path) -> None:
    to_run = [block for block in BLOCKS if block.language == "sh" and block.note not in SET_UP and can_run(block)]
    assert len(to_run) >= 5
    port = str(free_port())
    for block in to_run:
        text = block.text.replace("8020", port)  # which a machine may lack
        code, shown = type_into_shell(text, PASSWORD, folder=someone, environment=environment(someone))
        assert code == 0, f"{where(block)} ended with {code}:\n{shown}"
        assert "Traceback" not in shown, shown
    run_as_cron(someone)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_run(block: Block) -> bool:
    """Return whether the requirement of a block is present; report it if it is missing."""
    needed = block.note.removeprefix("needs: ") if block.note.startswith("needs: ") else None
    if needed is None or shutil.which(needed):
        return True
    warnings.warn(f"{where(block)} was not run: there is no {needed}", stacklevel=2)
    return False


def run_as_cron(someone: Path) -> None:
    (block,) = (block for block in BLOCKS if block.language == "crontab")
    *schedule, line = block.text.strip().split(maxsplit=5)
    assert schedule == ["5", "0", "*", "*", "*"]
    assert "%" not in line, "cron would end the command there"
    path = re.search(r"\S+/popug(?= )", line)
    assert path, "cron has no PATH of one's own: the line names the program in full"
    line = line.replace(path[0], str(someone / "bin" / "popug"))
    clean = environment(someone) | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", line], env=clean, cwd=someone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_set_up_commands_have_one_line_each() -> None:
    marked = [block for block in BLOCKS if block.note in SET_UP]
    assert {block.note for block in marked} == SET_UP
    assert all(block.text.count("\n") == 1 for block in marked)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.note in SET_UP], ids=lambda block: block.note)
def test_ci_runs_the_set_up_commands(block: Block) -> None:
    name = block.note.partition(": ")[2]
    assert f"from_readme {name}\n" in (ROOT / ".ci/run").read_text()


def test_every_block_is_in_a_checked_language() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "crontab", "text"}


@pytest.mark.parametrize("name", readme.GENERATED)
def test_table_matches_the_program(name: str) -> None:
    page, make = readme.GENERATED[name]
    told = "Run `python -m tests.generate` and look at what has changed."
    assert f"<!-- {name} -->\n{make()}\n<!-- /{name} -->" in PAGES[page.name], told


def test_picture_shows_the_session_of_its_script() -> None:
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
        words = re.match(r"[a-z -]+", named)[0].split()  # type: ignore[index]
        assert " ".join(words[:2]) in known or words[0] in known - groups, f"there is no `popug {named}`"


def test_every_command_has_a_permitted_role() -> None:
    said = readme.permissions() + readme.without_token()
    assert [words for words, _ in readme.program() if f"`{words}`" not in said] == []


@every_page
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page.name]):
        assert (page.parent / target).exists(), target


def test_module_map_matches_the_packages() -> None:
    mapped = re.findall(r"^\| `popug_cli/([a-z_.]+)/?`", TEXT, flags=re.MULTILINE)
    there = {path.name for path in (ROOT / "popug_cli").iterdir()} - {"__init__.py", "__pycache__", "py.typed"}
    assert sorted(mapped) == sorted(there)


def test_every_command_has_help_and_so_has_everything_it_takes() -> None:
    for words, command in readme.program():
        assert command.help, f"popug {words} has no help"
        assert command.help.strip().endswith("."), f"the help of popug {words} is no sentence"
        for parameter in command.params:
            assert parameter.help, f"popug {words}: {parameter.name} has no help"

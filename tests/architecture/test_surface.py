"""Help and completion match the commands."""

import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer

from popug_cli.cli import commands
from popug_cli.cli.commands.start import man
from popug_cli.cli.help.surface import FILE, surface
from popug_cli.cli.program import COMMANDS
from tests.generate.surface import GUIDE, document

RENEW = "Run `python -m tests.generate`."


def test_surface_matches_the_commands() -> None:
    assert Path(FILE).read_text(encoding="utf-8") == document(), RENEW


def test_every_file_of_commands_defines_the_words_that_name_it() -> None:
    """`program.COMMANDS` says which file to import for a word; a word that is missing there cannot be typed."""
    folder = Path(commands.__file__).parent
    named = {file: {word for word, name in COMMANDS.items() if name == file} for file in COMMANDS.values()}
    defined: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        file = ".".join(path.relative_to(folder).with_suffix("").parts)
        if register := getattr(import_module(f"{commands.__name__}.{file}"), "register", None):
            program = typer.Typer()
            register(program)
            defined[file] = {*typer.main.get_group(program).commands}
    assert defined == named


def test_every_command_has_two_examples_of_its_own() -> None:
    for words, command in surface().commands.items():
        assert len(command.examples) >= 2, f"give `popug {words}` two examples in {GUIDE.name}"
        assert [line for line, _ in command.examples if not f"{line} ".startswith(f"popug {words} ")] == []


def test_every_guide_is_of_an_existing_command() -> None:
    assert sorted(tomllib.loads(GUIDE.read_text(encoding="utf-8")).keys() - surface().commands.keys()) == []


def test_manual_page_is_made_of_the_surface() -> None:
    assert man.PAGE.read_text(encoding="utf-8") == man.roff(), RENEW


@pytest.mark.parametrize(
    "checker",
    [["groff", "-man", "-ww", "-z", "-Tutf8"], ["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-l"]],
    ids=["groff", "mandoc", "man"],
)
def test_manual_page_passes_the_linter(checker: list[str]) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    done = subprocess.run([*checker, str(man.PAGE)], capture_output=True, text=True, check=False)
    complaints = [line for line in (done.stderr + done.stdout * (checker[0] == "mandoc")).splitlines() if line]
    assert [line for line in complaints if "date" not in line] == []


def test_every_command_and_every_option_is_in_the_manual() -> None:
    page = man.PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    for words, command in surface().commands.items():
        assert f".B popug {words}" in page
        assert [each.names for each in command.takes if each.is_option and each.names[0] not in page] == []

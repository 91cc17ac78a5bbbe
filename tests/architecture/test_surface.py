"""What help and completion know is what the commands are."""

import tomllib

from popug_cli.cli.surface import FILE, surface
from tests.architecture.surface import GUIDE, document

RENEW = "Run `python -m tests.architecture.readme --write`."


def test_the_surface_says_what_the_commands_say() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), RENEW


def test_every_command_has_two_examples_of_its_own() -> None:
    for words, command in surface().commands.items():
        assert len(command.examples) >= 2, f"give `popug {words}` two examples in {GUIDE.name}"
        assert [line for line, _ in command.examples if not f"{line} ".startswith(f"popug {words} ")] == []


def test_no_guide_is_of_a_command_that_is_not_there() -> None:
    assert sorted(tomllib.loads(GUIDE.read_text(encoding="utf-8")).keys() - surface().commands.keys()) == []

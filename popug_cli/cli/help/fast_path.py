"""Answers that need no command to be loaded: the version, help and shell completion."""

import os
import sys

COMPLETE_VARIABLE = "_POPUG_COMPLETE"
COMPLETION_OPTIONS = ("--show-completion", "--install-completion")
FORMAT_OPTIONS = ("--json", "--plain")


def try_answer(arguments: list[str]) -> int | None:
    """Answer the command line here if possible and return its exit code, else return None."""
    if COMPLETE_VARIABLE in os.environ:
        from popug_cli.cli.help.shell_completion import answer

        sys.stdout.write(answer(os.environ))
        return 0
    if arguments == ["--version"]:
        from popug_cli.cli.version import version_line

        sys.stdout.write(f"{version_line()}\n")
        return 0
    words = [word for word in arguments if word not in FORMAT_OPTIONS]  # a script has one format
    if words and words[0].partition("=")[0] in COMPLETION_OPTIONS:
        return _answer_completion_option(words)
    if _asks_for_help(arguments):
        from popug_cli.cli.help.surface import parse

        show_help(parse(arguments).words, plain="--plain" in arguments)
        return 0
    return None


def show_help(words: str, *, plain: bool = False) -> None:
    """Print the help of the words after ``popug``."""
    from popug_cli.cli.help.help import blocks
    from popug_cli.cli.output.printer import Printer

    printer = Printer()
    printer.plain = plain or printer.plain
    printer.blocks(blocks(words))


def _answer_completion_option(arguments: list[str]) -> int | None:
    from popug_cli.cli.help import shell_scripts

    option, _, value = arguments[0].partition("=")
    arguments_after = [value] if value else arguments[1:]
    if len(arguments_after) > 1:
        return None
    shell = arguments_after[0] if arguments_after else None
    text = shell_scripts.script(shell) if option == COMPLETION_OPTIONS[0] else f"{shell_scripts.install(shell)}\n"
    sys.stdout.write(text)
    return 0


def _asks_for_help(arguments: list[str]) -> bool:
    if not {"--help", "-h"} & set(arguments):
        return False
    from popug_cli.cli.help.surface import parse

    return bool({"--help", "-h"} & parse(arguments).options.keys())

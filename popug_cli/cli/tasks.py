"""Commands: tasks."""

import typer


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""

"""The log of a command that runs until it is stopped, or that another program starts: ``serve`` and ``scheduler``."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from popug_cli.cli.context import CommandContext
from popug_cli.kernel import log
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import load_settings


@contextmanager
def log_to_stderr(context: CommandContext) -> Iterator[None]:
    """Write the log during the block. The error that ends the block is a record of a JSON log, and ends the command.

    A text log leaves it to the caller, as that of any command. Raise ``invalid_setting`` for an unknown format.
    """
    settings = load_settings(context.home.config)
    log.configure(settings, as_json=context.as_json)
    try:
        yield
    except PopugError as error:
        if settings.text("log.format") != "json":
            raise
        log.log_error(error)
        raise typer.Exit(error.exit_status) from error

"""The log of ``serve`` and ``scheduler``, which run until they are stopped, or which another program starts."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from popug_cli.cli.context import CommandContext
from popug_cli.kernel import log
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings, load_settings


@contextmanager
def log_to_stderr(context: CommandContext, settings: Settings | None = None) -> Iterator[None]:
    """Write the log to standard error during the block. A JSON log also receives the error that ends the block.

    The settings are those of the home by default. After an error in a JSON log, the command exits. With a text log, the
    error is raised, and reported like that of any command. Raise ``invalid_setting`` for an unknown format.
    """
    settings = settings or load_settings(context.home.config)
    log.configure(settings, as_json=context.as_json)
    try:
        yield
    except PopugError as error:
        if settings.text("log.format") != "json":
            raise
        log.log_error(error)
        raise typer.Exit(error.exit_status) from error

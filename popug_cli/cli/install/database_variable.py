"""The variable that names the database: cron and systemd do not inherit it."""

import os
from collections.abc import Iterator

from popug_cli.kernel.settings import DATABASE_URL, SETTINGS


def hints() -> Iterator[str]:
    """Yield what the operator has to do if a variable of this shell names the database."""
    variable = SETTINGS[DATABASE_URL].variable
    if os.environ.get(variable):
        yield (
            f"{variable} is set in this shell only: write the URL to config.toml with"
            " `popug config set database.url URL`."
        )

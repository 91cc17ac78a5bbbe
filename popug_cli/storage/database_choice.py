"""Decide whether a company is in the file of its home or on PostgreSQL, from the settings."""

import os
from contextlib import suppress

from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import DATABASE_URL, REPLICA_URL, Settings
from popug_cli.kernel.text import has_password
from popug_cli.platform.files import exposure_of, read_regular_file

CONFIG_FILE = "config.toml"
URLS = (DATABASE_URL, REPLICA_URL)
SCHEME_OF_ALL = b"postgres"


def chosen_url(home: Home, settings: Settings) -> str:
    """Return the URL of the company's database, or an empty text if it is the file in the home.

    A file or variable that may name a database but cannot be read never leads to the file in the home: that file may be
    what was left when the company moved. Raise ``invalid_setting``, or ``insecure_file`` if other users can read a
    password in ``config.toml``.
    """
    source = settings.sources[DATABASE_URL]
    problems = () if home.root.is_file() else settings.problems  # the error is then about the home
    for problem in problems:
        key = problem.details.get("key")
        if key in URLS or (key is None and source in {"default", CONFIG_FILE} and _may_name_database(home)):
            raise problem
    for key in URLS:
        if settings.sources[key] == CONFIG_FILE and has_password(settings.text(key)):
            _require_private(home)
    return settings.text(DATABASE_URL)


def _may_name_database(home: Home) -> bool:
    """Return whether a settings file that is not valid is needed to find the company."""
    if not home.database.exists():
        return True
    with suppress(OSError):
        return SCHEME_OF_ALL in read_regular_file(home.config)[0]
    return False


def _require_private(home: Home) -> None:
    if exposure := exposure_of(home.config.stat(), os.geteuid()):
        raise NotAuthenticated(
            "insecure_file",
            f"{exposure} {home.config}, which has the password of the database.",
            hint=f"Run `chmod 600 {home.config}`, and change the password if it may have been read.",
            details={"path": str(home.config)},
        )

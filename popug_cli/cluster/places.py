"""The places of a cluster: its brokers and topics, and the home and the database of each service."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import BROKERS, CLUSTER_HOMES, CLUSTER_PREFIX, DATABASE_URL, Settings

DEFAULT_FOLDER = "services"  # of the homes, in the operator's home
PREFIX = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class Places(NamedTuple):
    """Where the parts of one company's cluster are.

    ``homes`` has a home for each service, with its settings and its socket. ``database`` is the URL of a PostgreSQL
    server, without the name of a database; if it is empty, the tables of a service are in the file of its home.
    ``brokers`` are addresses of Kafka, joined by commas. ``prefix`` begins the names of topics and databases.
    """

    homes: Path
    database: str
    brokers: str
    prefix: str

    def home_of(self, service: str) -> Home:
        """Return the home of a service."""
        return Home(self.homes / service)

    def database_of(self, service: str) -> str:
        """Return the URL of a service's database, or an empty text if it is the file in the home."""
        return with_database(self.database, f"{self.prefix}_{service}") if self.database else ""

    def topic_of(self, service: str) -> str:
        """Return the name of a service's topic."""
        return f"{self.prefix}.{service}"


def places_from(settings: Settings, default_homes: Path) -> Places:
    """Return the places that the settings name.

    Raise ``invalid_url`` for a URL that names one database, or ``invalid_setting`` for a prefix that is not valid.
    """
    database = settings.text(DATABASE_URL).strip()
    if database and urlsplit(database).path.strip("/"):
        raise InvalidInput(
            "invalid_url",
            "A cluster has a database for each service, so its URL must not name one.",
            hint="Write it as postgresql://USER@HOST:PORT, in POPUG_DATABASE or with --database.",
        )
    prefix = settings.text(CLUSTER_PREFIX).strip()
    if not PREFIX.fullmatch(prefix):
        raise InvalidInput(
            "invalid_setting",
            f"{prefix!r} is not a valid prefix for the names of topics and databases.",
            hint="Use at most 40 of the characters a-z, 0-9, _ and -, beginning with a letter.",
            details={"key": CLUSTER_PREFIX},
        )
    homes = settings.text(CLUSTER_HOMES).strip()
    return Places(
        homes=Path(homes).expanduser() if homes else default_homes,
        database=database,
        brokers=settings.text(BROKERS).strip(),
        prefix=prefix,
    )


def with_database(url: str, name: str) -> str:
    """Return the URL of a PostgreSQL server with the name of a database; keep its parameters."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))

"""The part of `popug serve --module` that finds the service and connects it with the others."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.cli.context import CommandContext
from popug_cli.cluster.places import DEFAULT_FOLDER, Places, places_from
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import BROKERS, CLUSTER_HOMES, DATABASE_URL, SETTINGS, load_settings, read_settings
from popug_cli.messages.services import SERVICES

if TYPE_CHECKING:
    from popug_cli.app.hosting.served_company import ServedCompany


def choose(key: str, value: str | None) -> None:
    """Let an option of the command line override a setting, in this process."""
    if value is not None:
        os.environ[SETTINGS[key].variable] = value


def homes_of(context: CommandContext, homes: Path | None) -> Path:
    """Return the directory with the home of each service: the option, the setting, else one in the operator's home."""
    choose(CLUSTER_HOMES, str(homes.absolute()) if homes else None)
    return places_from(read_settings(context.home.config), context.home.root / DEFAULT_FOLDER).homes


def find_service(context: CommandContext, module: str, homes: Path | None, brokers: str | None) -> tuple[Home, Places]:
    """Return the home of a service and the places of its cluster, and let this process use the service's database.

    Raise ``usage`` for an unknown module or if no brokers are named, ``not_initialised``, ``invalid_url``, or
    ``invalid_setting``.
    """
    if module not in SERVICES:
        raise InvalidInput("usage", f"There is no service {module!r}.", hint=f"The services are {', '.join(SERVICES)}.")
    choose(BROKERS, brokers)
    home = Home(homes_of(context, homes) / module)
    settings = read_settings(home.config)
    settings.require_valid()
    places = places_from(settings, home.root.parent)._replace(homes=home.root.parent)
    if not places.brokers:
        raise InvalidInput(
            "usage",
            "A service of a cluster needs the addresses of Kafka.",
            hint="Give --brokers HOST:PORT,HOST:PORT or set POPUG_BROKERS.",
        )
    if not places.database and not home.database.exists():
        raise NotFound(
            "not_initialised",
            f"There is no service {module} in {home.root} yet.",
            hint="Make a cluster with `popug cluster init --from HOME`, or name the directory with --homes.",
        )
    if places.database:
        os.environ[SETTINGS[DATABASE_URL].variable] = places.database_of(module)
    return home, places


def join(company: "ServedCompany", module: str, places: Places) -> AbstractContextManager[object]:
    """Return the context in which a served company is connected with the other services of its cluster.

    Raise ``invalid_setting`` or ``insecure_file`` for the settings of the brokers.
    """
    from popug_cli.cluster.kafka import require_driver
    from popug_cli.cluster.service import joined

    require_driver()
    from popug_cli.cluster.kafka.connection import connection_from

    connection_from(load_settings(company.home.config), places.brokers)
    return joined(company, module, places)

"""Commands for the operator of a cluster."""

import os
from pathlib import Path
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Hint
from popug_cli.cluster.places import Places, places_from
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import (
    BROKERS,
    CLUSTER_HOMES,
    CLUSTER_PREFIX,
    DATABASE_URL,
    SETTINGS,
    Settings,
    read_settings,
)
from popug_cli.kernel.text import counted, has_password
from popug_cli.messages.cluster import ClusterCreated

DEFAULT_FOLDER = "services"

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="The PostgreSQL server that has a database for each service."),
]
HomesOption = Annotated[
    Path | None, typer.Option("--homes", metavar="DIR", help="The directory that has the home of each service.")
]
PrefixOption = Annotated[
    str | None, typer.Option("--prefix", metavar="NAME", help="The first part of the names of topics and databases.")
]
BrokersOption = Annotated[
    str | None, typer.Option("--brokers", metavar="HOST:PORT,…", help="The Kafka brokers, joined by commas.")
]

group = typer.Typer(help="Make a cluster of a company, check it, back it up and restore it.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(group, name="cluster")


@command(group, "init")
def init(
    context: CommandContext,
    source: Annotated[Path, typer.Option("--from", metavar="HOME", help="The home whose company becomes a cluster.")],
    brokers: BrokersOption = None,
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", metavar="URL", help="The gateway's address, which the old home names.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Leave events undelivered that still wait for hooks.")] = False,
) -> None:
    """Make five services of the company in a home; afterwards the home answers no command any more."""
    from popug_cli.app.local_backend import LocalBackend
    from popug_cli.cluster import initialise

    home = Home(Path(os.path.abspath(source.expanduser())))
    initialise.require_file(home)
    settings, places = find_places(context, home, brokers=brokers, database=database, homes=homes, prefix=prefix)
    company = LocalBackend(home, warn=context.printer.warn, progress=context.screen.progress, from_file=True)
    options = initialise.Options(gateway=gateway_address(gateway), abandon_hooks=yes)
    try:
        answer = initialise.initialise(company, places, options, lambda: prepare_topics(settings, places))
    finally:
        company.close()
    context.screen.show(answer, lambda: _created_lines(answer, settings))


@command(group, "status")
def status(
    context: CommandContext,
    brokers: BrokersOption = None,
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Show every part of a cluster on one screen: services, streams, brokers, databases; exit 7 if a log changed."""
    from popug_cli.cli.commands.operations.cluster_report import report_blocks
    from popug_cli.cluster.status import cluster_status

    settings, places = find_places(context, brokers=brokers, database=database, homes=homes, prefix=prefix)
    report = cluster_status(settings, places)
    context.screen.show(report, lambda: report_blocks(report))
    if not report.is_intact:
        raise typer.Exit(IntegrityViolation.exit_status)


def find_places(
    context: CommandContext,
    home: Home | None = None,
    *,
    brokers: str | None = None,
    database: str | None = None,
    homes: Path | None = None,
    prefix: str | None = None,
) -> tuple[Settings, Places]:
    """Return the settings and the places that the options name, else the settings of ``home`` or the operator's home.

    Raise ``usage``, ``invalid_setting`` or ``invalid_url``.
    """
    if database is not None and has_password(database) and not context.as_json:
        context.printer.warn(
            "Other users of this machine can see the password of --database in the list of processes. Set"
            " POPUG_DATABASE instead, or write the password to ~/.pgpass."
        )
    chosen = {
        BROKERS: brokers,
        DATABASE_URL: database,
        CLUSTER_HOMES: None if homes is None else os.path.abspath(homes.expanduser()),
        CLUSTER_PREFIX: prefix,
    }
    for key, value in chosen.items():
        if value is not None and not value.strip():
            raise InvalidInput("usage", f"The option for {key} is empty.", hint="Give it a value, or leave it out.")
        if value is not None:
            os.environ[SETTINGS[key].variable] = value
    settings = read_settings((home or context.home).config)
    settings.require_valid()
    return settings, places_from(settings, context.home.root / DEFAULT_FOLDER)


def gateway_address(url: str | None) -> str:
    """Return the address of a gateway without white space, or an empty text; raise ``invalid_server``."""
    if url is None:
        return ""
    from popug_cli.client.address import parse

    parse(url.strip())
    return url.strip()


def prepare_topics(settings: Settings, places: Places) -> None:
    """Create the topics that are missing, and check all; raise ``usage`` if no brokers are named."""
    from importlib import import_module

    from popug_cli.messages.services import SERVICES

    if not places.brokers:
        raise InvalidInput(
            "usage",
            "A cluster needs the addresses of Kafka.",
            hint="Give --brokers HOST:PORT,HOST:PORT or set POPUG_BROKERS.",
        )
    import_module("popug_cli.cluster.kafka").require_driver()
    topics = import_module("popug_cli.cluster.kafka.topics")
    connection = import_module("popug_cli.cluster.kafka.connection").connection_from(settings, places.brokers)
    topics.ensure_topics(connection, [places.topic_of(service) for service in SERVICES])


def _created_lines(answer: ClusterCreated, settings: Settings) -> list[str | Hint]:
    begun = (
        f"The company of {answer.source} had been sealed already; the cluster {answer.cluster} is complete now."
        if answer.resumed
        else f"The company of {answer.source} is the cluster {answer.cluster} now."
    )
    return [
        begun,
        f"Each service begins with {counted(answer.events, 'event')}; the head of the hash chain is {answer.head}.",
        *(f"{place.service}: {place.database}, topic {place.topic}" for place in answer.services),
        Hint(
            "All users must log in again. Start each service with `popug serve --module NAME`, then the gateway with"
            " `popug serve --gateway`."
        ),
    ]

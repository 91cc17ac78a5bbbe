"""Commands for the operator of a cluster."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.cluster.places import DEFAULT_FOLDER, Places, places_from
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput, Unavailable
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
from popug_cli.messages.cluster import ClusterCheck, ClusterCreated, ClusterHealth, ClusterRestored

if TYPE_CHECKING:
    from popug_cli.cluster.opening import Services

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

group = typer.Typer(help="Turn a company into a cluster, check it, back it up and restore it.", no_args_is_help=True)


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
        str | None,
        typer.Option("--gateway", metavar="URL", help="The gateway's address, which the old home then reports."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not deliver the events that still wait for hooks.")] = False,
) -> None:
    """Turn the company in a home into five services; afterwards the home answers no command any more."""
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


@command(group, "doctor")
def doctor(
    context: CommandContext,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A backup; by default the cluster itself.")
    ] = None,
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 7 also if anything needs attention.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only what is wrong or needs attention.")] = False,
) -> None:
    """Check each service and all against each other, or those in a backup; exit 7 if anything is wrong."""
    from popug_cli.cluster import doctor as checks

    if directory is None:
        with _open_services(context, database, homes, prefix) as services:
            health = checks.examine(services)
    else:
        health = checks.examine_backup(directory.expanduser(), context.printer.warn, context.screen.progress)
    context.screen.show(health, lambda: _health_blocks(health, is_quiet=quiet))
    if not health.ok or (strict and health.attention):
        raise typer.Exit(IntegrityViolation.exit_status)


@command(group, "republish")
def republish(
    context: CommandContext,
    service: Annotated[str, typer.Argument(metavar="NAME", help="The service whose events are sent again.")],
    first: Annotated[int, typer.Option("--from", metavar="N", help="The position of the first event in its log.")],
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Let a service send its events again, because its topic has lost some; receivers drop those that they have."""
    from popug_cli.cluster.opening import service_backend
    from popug_cli.cluster.republish import republish as send_again

    _require_known(service)
    _, places = find_places(context, database=database, homes=homes, prefix=prefix)
    with closing(service_backend(places, service, context.printer.warn)) as backend:
        answer = send_again(backend, service, first)
    context.screen.show(
        answer,
        lambda: [f"{service} sends {counted(answer.events, 'event')} again, from position {first} of its log on."],
    )


@command(group, "backup")
def backup(
    context: CommandContext,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Copy all databases and settings, but no keys, as they were at one time, and check them; commands go on."""
    from popug_cli.cluster.backup import back_up

    with _open_services(context, database, homes, prefix) as services:
        answer = back_up(services, directory, context.screen.progress)
    context.screen.show(
        answer, lambda: [f"Wrote the backup {answer.path} ({answer.bytes:,} bytes) and checked all five services."]
    )


@command(group, "restore")
def restore(
    context: CommandContext,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A directory that `popug cluster backup` wrote.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Use the databases, which PostgreSQL has recovered to one time.")
    ] = False,
    brokers: BrokersOption = None,
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Restore all services into empty databases or homes; all tokens are void then, and queued mail is held."""
    from popug_cli.cluster import restore as restoring

    if (directory is None) != in_place:
        raise InvalidInput("usage", "Give either DIR or --in-place.", hint="Run `popug cluster restore --help`.")
    settings, places = find_places(context, brokers=brokers, database=database, homes=homes, prefix=prefix)
    if directory is None:
        answer = restoring.restore_in_place(places)
    else:
        answer = restoring.restore(
            places,
            directory,
            lambda: prepare_topics(settings, places),
            context.printer.warn,
            context.screen.progress,
        )
    context.screen.show(answer, lambda: _restored_lines(answer))


@contextmanager
def _open_services(
    context: CommandContext, database: str | None, homes: Path | None, prefix: str | None
) -> Iterator["Services"]:
    from popug_cli.cluster.opening import open_services

    _, places = find_places(context, database=database, homes=homes, prefix=prefix)
    with open_services(places, context.printer.warn, context.screen.progress) as services:
        yield services


def _require_known(service: str) -> None:
    """Raise ``usage`` for a name that no service has."""
    from popug_cli.messages.services import SERVICES

    if service not in SERVICES:
        raise InvalidInput(
            "usage", f"There is no service {service!r}.", hint=f"The services are {', '.join(SERVICES)}."
        )


@command(group, "status")
def status(
    context: CommandContext,
    brokers: BrokersOption = None,
    database: DatabaseOption = None,
    homes: HomesOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Show every part of a cluster on one screen; exit 7 if events are lost or changed, 8 if a part is missing."""
    from popug_cli.cli.commands.operations.cluster_report import report_blocks
    from popug_cli.cluster.status import cluster_status

    settings, places = find_places(context, brokers=brokers, database=database, homes=homes, prefix=prefix)
    report = cluster_status(settings, places)
    context.screen.show(report, lambda: report_blocks(report))
    if not report.is_intact:
        raise typer.Exit(IntegrityViolation.exit_status)
    if not report.is_complete:
        raise typer.Exit(Unavailable.exit_status)


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
    from popug_cli.cluster.kafka import require_driver
    from popug_cli.messages.services import SERVICES

    if not places.brokers:
        raise InvalidInput(
            "usage",
            "A cluster needs the addresses of Kafka.",
            hint="Give --brokers HOST:PORT,HOST:PORT or set POPUG_BROKERS.",
        )
    require_driver()
    from popug_cli.cluster.kafka import topics
    from popug_cli.cluster.kafka.connection import connection_from

    connection = connection_from(settings, places.brokers)
    names = [places.topic_of(service) for service in SERVICES]
    topics.create_topics(connection, names)
    topics.check_topics(connection, names)


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


def _health_blocks(health: ClusterHealth, *, is_quiet: bool) -> Iterator[Block]:
    findings = [check for check in health.checks if not check.ok or check.attention]
    if not is_quiet:
        rows = [[_state(check), check.service or "all", check.name, check.detail] for check in health.checks]
        yield Table([Column(""), Column("service"), Column("check"), Column("detail", shrinks=True)], rows)
    for check in findings:
        yield f"{_state(check)} {check.service or 'all'}: {check.name}: {check.detail}"
    if not is_quiet:
        failed_count = sum(not check.ok for check in health.checks)
        total = counted(len(health.checks), "check")
        yield f"{failed_count} of {total} failed." if failed_count else f"All {total} passed."


def _state(check: ClusterCheck) -> str:
    return "WRONG" if not check.ok else "ATTENTION" if check.attention else "ok"


def _restored_lines(answer: ClusterRestored) -> list[str | Hint]:
    return [
        f"Restored {answer.source}; the logs of all services have new ids.",
        *(f"{place.service}: {place.database}, topic {place.topic}" for place in answer.services),
        f"{counted(answer.held_mails, 'mail is', 'mails are')} held: see `popug mail list`, then"
        " `popug mail send --yes`.",
        Hint(
            "Start each service with `popug serve --module NAME`, then the gateway. All users must log in again, and"
            " machine tokens must be issued again."
        ),
    ]

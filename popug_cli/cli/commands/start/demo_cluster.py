"""`popug demo --brokers`: the sample day on five services in processes of their own, linked by Kafka.

All that it makes has a name that begins with ``popug-demo-``, and is removed at the end, also after Ctrl-C or an error.
"""

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from popug_cli.cli.commands.start.demo import PASSWORD, found_company, new_folder
from popug_cli.cli.commands.start.demo_day import play_afternoon, play_evening, play_morning, register_people
from popug_cli.cli.commands.start.demo_stage import ADMIN, Stage
from popug_cli.cli.context import CommandContext
from popug_cli.cli.output.blocks import Heading
from popug_cli.cluster.local_processes import GATEWAY, LocalProcesses
from popug_cli.cluster.places import Places, places_from
from popug_cli.cluster.targets import targets_of
from popug_cli.kernel.errors import InvalidInput, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import (
    BROKERS,
    CLUSTER_HOMES,
    CLUSTER_PREFIX,
    DATABASE_URL,
    SETTINGS,
    Settings,
    load_settings,
)
from popug_cli.kernel.text import counted, has_password
from popug_cli.messages.identity import LogIn
from popug_cli.messages.services import SERVICES
from popug_cli.messages.topics import REPLICATION_FACTOR

PREFIX = "popug-demo-"
OPERATOR = "operator"
KAFKA_SETTINGS = tuple(key for key in SETTINGS if key.startswith("kafka."))


def play_on_cluster(context: CommandContext, brokers: str | None, database: str | None) -> None:
    """Play the day on services that ``brokers`` link; their tables are on the server ``database`` if it is given.

    Raise ``usage``, ``server_unavailable`` or ``brokers_unavailable`` (a package is missing, too), ``invalid_setting``,
    ``invalid_url``, ``service_unavailable``, or the errors of `cluster init`.
    """
    _require_options(context, brokers, database)
    _require_packages()
    settings = _user_settings(context)
    connection = _reachable(settings, brokers or "")
    with ExitStack() as stack:
        folder = new_folder()
        stack.callback(rmtree, folder, ignore_errors=True)
        variables = _variables(settings, folder, brokers or "", database or "")
        stack.enter_context(_only_variables(variables))
        places = places_from(load_settings(folder / "config.toml"), folder)
        targets_of(places).states()  # raises the error of a server that cannot be used, before anything is made
        stack.callback(_remove, context, places, connection)
        processes = stack.enter_context(LocalProcesses(folder, variables | {"POPUG_HOME": str(folder)}))
        stack.callback(_ignore_interrupts)
        _play(context, folder, places, processes)


def _play(context: CommandContext, folder: Path, places: Places, processes: LocalProcesses) -> None:
    from popug_cli.app import LocalBackend
    from popug_cli.client.discovery import connect_to_url

    home = Home(folder / "company")
    company = LocalBackend(home, warn=context.printer.warn, from_file=True)
    stage = Stage(folder, context, company)
    try:
        stage.announce("A company is founded in a home, and becomes a cluster: five services with a log of their own")
        found_company(company)
    finally:
        company.close()
    stage.run(OPERATOR, f"cluster init --from {home.root}", must_succeed=True)
    processes.start()
    stage.announce("Each service and the gateway run in a process of their own")
    _show_processes(context, places, processes)
    stage.backend = backend = connect_to_url(processes.url, context.printer.warn, context.screen.progress)
    try:
        stage.tokens[ADMIN] = backend.perform(LogIn(username=ADMIN, password=PASSWORD)).token
        register_people(stage)
        play_morning(stage)
        lost = play_afternoon(stage)
        play_evening(stage)
        if lost:
            stage.announce("The task of the lost race, traced across the services: two fees, and one reward")
        stage.run(ADMIN, f"events trace {lost or 1}")
        stage.announce("The operator sees every part of the cluster on one screen")
        stage.run(OPERATOR, "cluster status")
    finally:
        backend.close()
    _end(stage, places)


def _require_options(context: CommandContext, brokers: str | None, database: str | None) -> None:
    if brokers is None:
        hint = "Add --brokers HOST:PORT,HOST:PORT, or leave --database out."
        raise InvalidInput("usage", "--database is for the demo on five services, which needs Kafka.", hint=hint)
    for option, value in (("--brokers", brokers), ("--database", database)):
        if value is not None and not value.strip():
            raise InvalidInput("usage", f"{option} is empty.", hint="Give it a value, or leave it out.")
    if context.options.home is not None:
        raise InvalidInput(
            "usage",
            "The demo on five services keeps nothing, so it has no home.",
            hint="Leave --home out. `popug demo --home DIR` without --brokers keeps a company.",
        )
    if database is not None and has_password(database) and not context.as_json:
        context.printer.warn(
            "Other users of this machine can see the password of --database in the list of processes. Write it to"
            " ~/.pgpass instead."
        )


def _require_packages() -> None:
    """Raise ``server_unavailable`` or ``brokers_unavailable`` if a package is not installed."""
    from popug_cli.cluster.kafka import require_driver

    require_driver()
    try:
        from popug_cli.server import run  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise Unavailable(
            "server_unavailable",
            f"The services need a package that is not installed ({error.name}).",
            hint="Install popug with its extras: pip install 'popug[server,cluster]'.",
        ) from error


def _user_settings(context: CommandContext) -> Settings:
    """Return the settings of the user's home and environment, from which the login at the brokers is taken."""
    try:
        return load_settings(context.home.config)
    except InvalidInput:  # this account has no home directory
        return load_settings(Path(os.devnull))


def _reachable(settings: Settings, brokers: str) -> Any:
    """Return the connection to brokers that answer; raise ``brokers_unavailable`` or ``invalid_setting``."""
    from popug_cli.cluster.kafka.brokers import read_state
    from popug_cli.cluster.kafka.connection import connection_from

    connection = connection_from(settings, brokers)
    try:
        state = read_state(connection, [])
    except PopugError as error:
        error.hint = f"Give --brokers the addresses of brokers that run. {error.hint}"
        raise
    up = sum(broker.is_up for broker in state.brokers)
    if up < REPLICATION_FACTOR:
        raise Unavailable(
            "brokers_unavailable",
            f"The topics of a cluster need {REPLICATION_FACTOR} Kafka brokers, and only"
            f" {counted(up, 'broker')} of {brokers} can be reached.",
            hint="Start the others, or play the day in one process: `popug demo`.",
        )
    return connection


def _variables(settings: Settings, folder: Path, brokers: str, database: str) -> dict[str, str]:
    """Return the environment variables of the demo's cluster. Secrets are in files, or in these variables."""
    chosen = {
        BROKERS: brokers,
        CLUSTER_PREFIX: PREFIX + secrets.token_hex(4),
        CLUSTER_HOMES: str(folder / "services"),
        **({DATABASE_URL: database} if database else {}),
        **{key: settings.text(key) for key in KAFKA_SETTINGS if settings.text(key)},
    }
    return {SETTINGS[key].variable: value for key, value in chosen.items()}


@contextmanager
def _only_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Let the commands of the demo see these settings, and none of the user's, in the block."""
    before = {name: value for name, value in os.environ.items() if name.startswith("POPUG_")}
    try:
        for name in before:
            del os.environ[name]
        os.environ.update(variables)
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C and other signals that end the process, while the demo removes what it has made."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _remove(context: CommandContext, places: Places, connection: Any) -> None:
    """Remove topics and databases. Warn if that is not possible, and name what is left."""
    from popug_cli.cluster.kafka.topics import delete_topics

    topics = [places.topic_of(service) for service in SERVICES]
    _try(context, f"the topics {places.prefix}.*", lambda: delete_topics(connection, topics))
    if places.database:
        _try(context, f"the databases {places.prefix}_*", targets_of(places).drop)


def _try(context: CommandContext, what: str, remove: Callable[[], None]) -> None:
    try:
        remove()
    except PopugError as error:
        context.printer.warn(f"The demo could not remove {what}: {error.message}")


def _show_processes(context: CommandContext, places: Places, processes: LocalProcesses) -> None:
    if not context.as_json:
        for name, pid in processes.pids.items():
            what = f"the gateway at {processes.url}" if name == GATEWAY else f"publishes to {places.topic_of(name)}"
            context.printer.line(f"{name:<10} process {pid}, {what}")


def _end(stage: Stage, places: Places) -> None:
    """Say that the demo is over; with ``--json``, print all recorded answers."""
    stage.context.screen.show(
        {"prefix": places.prefix, "brokers": places.brokers, "screens": stage.screens},
        lambda: [
            "",
            Heading("That was one day on five services. Their processes, topics and tables are removed now."),
            "Make a cluster of your own company with: popug cluster init",
        ],
    )

"""The one place that wires the parts of a company together; importing it has no side effects."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Runtime
from popug_cli.identity import published_keys
from popug_cli.kernel import home_owner
from popug_cli.kernel.calendar import company_calendar, load_zone
from popug_cli.kernel.clock import Clock, SystemClock, to_rfc3339
from popug_cli.kernel.errors import NotFound, PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.randomness import RandomDraws, RandomSource, SystemRandomSource, uuid7
from popug_cli.kernel.settings import REPLICA_URL, read_settings
from popug_cli.storage import cluster_state, migrate, temporary_home
from popug_cli.storage.database_choice import chosen_url
from popug_cli.storage.mounts import require_lock_support
from popug_cli.storage.port import Database
from popug_cli.storage.read_only import ReadError, open_read_only
from popug_cli.storage.sqlite import SqliteDatabase

# In this order one pass processes most events: billing publishes prices for tasks, and payouts for mail.
CONSUMING_MODULES: tuple[str, ...] = ("billing", "tasks", "analytics", "mail")
READ_TIMEOUT_SECONDS = 5.0
SELECT_HOME = (
    "SELECT home_id, time_zone, (SELECT service FROM bus_relay) AS service,"
    " (SELECT log_id FROM bus_relay) AS service_log_id FROM storage_home"
)


def open_runtime(
    home: Home,
    *,
    clock: Clock | None = None,
    randomness: RandomSource | None = None,
    progress: Progress = no_progress,
    threads: int = 1,
    while_waiting: Callable[[], None] = lambda: None,
    accept_invalid_settings: bool = False,
    from_file: bool = False,
    database_url: str = "",
    accept_restoring: bool = False,
    warn: Callable[[str], None] = lambda sentence: None,
) -> Runtime:
    """Open the company in ``home`` and return its wired parts; ``warn`` receives a sentence for each leftover.

    With ``from_file``, the database is the file in the home, and with ``database_url`` that one, whatever the settings
    say; then this home's keys are not published there. ``accept_restoring`` accepts an unfinished `cluster restore`,
    and ``accept_invalid_settings`` uses defaults. Raise ``not_initialised``, ``foreign_owner``, ``unknown_time_zone``,
    ``moved``, ``loading``, or an error of the files, schema or settings.
    """
    home_owner.check_owner(home.root)
    for sentence in temporary_home.clear(home):
        warn(sentence)
    settings = read_settings(home.config)
    url = database_url or ("" if from_file else chosen_url(home, settings))
    if not accept_invalid_settings and (url or home.database.exists()):
        settings.require_valid()
    database = _open_database(home, url, threads, while_waiting)
    row = _read_home(database, home, url, accept_restoring=accept_restoring)
    if url and (replica_url := settings.text(REPLICA_URL)):
        database.replica = _open_replica(replica_url, row["home_id"], threads, while_waiting)
    randomness = randomness or SystemRandomSource()
    runtime = Runtime(
        database=database,
        home=home,
        home_id=row["home_id"],
        calendar=company_calendar(row["time_zone"]),
        settings=settings,
        clock=clock or SystemClock(),
        randomness=randomness,
        draws=RandomDraws(randomness),
        progress=progress,
        service=row["service"] or "",
        service_log_id=row["service_log_id"] or "",
    )
    if database.is_shared and not database_url and runtime.service in published_keys.SIGNING_SERVICES:
        published_keys.ensure_own_key(runtime)
    return runtime


def _read_home(database: Database, home: Home, url: str, *, accept_restoring: bool) -> dict[str, Any]:
    """Return the row of the home and of the service; raise ``not_initialised``, ``moved`` or ``loading``."""
    try:
        with database.transaction(writes=False) as connection:
            row = connection.record(SELECT_HOME)
            state = cluster_state.load(connection)
        if row is None:
            raise empty_database(url) if url else not_initialised(home)
        cluster_state.require_usable(state, database.address or home.root, accept_restoring=accept_restoring)
    except PopugError:
        database.close()
        raise
    return row


def require_not_moved(home: Home) -> None:
    """Raise ``moved`` if the company of a home is a cluster now. Other faults of the database are not reported.

    The file is not read if the company is, or may be, on a server.
    """
    try:
        if chosen_url(home, read_settings(home.config)):
            return
    except PopugError:
        return
    with suppress(ReadError):
        if home.database.is_file():
            with open_read_only(home.database, READ_TIMEOUT_SECONDS, leaves_no_files=True) as database:
                row = database.execute(cluster_state.SELECT_STATE).fetchone()
            cluster_state.require_usable(cluster_state.ClusterState(*row) if row else None, home.root)


def found_company(
    home: Home,
    time_zone: str,
    *,
    clock: Clock | None = None,
    randomness: RandomSource | None = None,
    from_file: bool = False,
) -> None:
    """Create the home and its database; leave an existing company unchanged. For ``from_file`` see ``open_runtime``."""
    clock, randomness = clock or SystemClock(), randomness or SystemRandomSource()
    load_zone(time_zone)
    home_owner.check_place(home.root)
    database = _create_database(home, "" if from_file else chosen_url(home, read_settings(home.config)))
    now = clock.now()
    with database.transaction(writes=True) as connection:
        connection.execute(
            "INSERT INTO storage_home (id, home_id, time_zone, founded_at) VALUES (1, :home_id, :zone, :now)"
            " ON CONFLICT (id) DO NOTHING",
            home_id=uuid7(now, randomness),
            zone=time_zone,
            now=to_rfc3339(now),
        )
    database.close()


def _open_database(home: Home, url: str, threads: int, while_waiting: Callable[[], None]) -> Database:
    """Open the company's database: that of the URL, or without one the file in the home, migrated if it is older."""
    if url:
        from popug_cli.storage.postgres import require_driver

        require_driver()
        from popug_cli.storage.postgres.driver import PostgresDatabase

        shared_database = PostgresDatabase(url, threads=threads, while_waiting=while_waiting)
        if not shared_database.is_created():
            raise empty_database(url)
        home.make()
        return shared_database
    if not home.database.exists():
        raise not_initialised(home)
    require_lock_support(home.root, home.database)
    migrate.migrate_if_older(home)
    return SqliteDatabase(home.database, threads=threads, while_waiting=while_waiting)


def _open_replica(url: str, home_id: str, threads: int, while_waiting: Callable[[], None]) -> Database:
    """Return the replica at a URL, not connected yet; raise ``invalid_url``."""
    from popug_cli.storage.postgres.replica import ReplicaDatabase

    return ReplicaDatabase(url, home_id, threads=threads, while_waiting=while_waiting)


def _create_database(home: Home, url: str) -> Database:
    """Create the home, and the tables of its database if they are missing; return the database."""
    if url:
        from popug_cli.storage.postgres import require_driver

        require_driver()
        from popug_cli.storage.postgres import schema
        from popug_cli.storage.postgres.driver import PostgresDatabase

        schema.migrate(url)
        home.make()
        return PostgresDatabase(url)
    require_lock_support(home.root, home.database)
    migrate.create(home)
    return SqliteDatabase(home.database)


def empty_database(url: str) -> NotFound:
    """Return the error for a PostgreSQL database that has no company."""
    from popug_cli.storage.postgres.url import address_of

    return NotFound(
        "not_initialised",
        f"There is no company in {address_of(url)} yet.",
        hint="Create one with `popug init --admin NAME --email ADDRESS`, or copy one with `popug database copy`.",
    )


def not_initialised(home: Home) -> NotFound:
    """Return the error for a home that has no company."""
    if home.root.is_file():
        return NotFound(
            "not_initialised",
            f"{home.root} is a file; a home must be a directory.",
            hint="Name the directory with --home DIR or POPUG_HOME.",
            details={"home": str(home.root)},
        )
    return NotFound(
        "not_initialised",
        f"There is no company in {home.root} yet.",
        hint="Create one with `popug init --admin NAME --email ADDRESS`, or try `popug demo`.",
        details={"home": str(home.root)},
    )


def consumers(service: str = "") -> tuple[Consumer, ...]:
    """Return the subscriptions that a database's consumers have: those of the service that it belongs to.

    Without a service, they are those of all modules, in the order of ``CONSUMING_MODULES``. Each service but identity
    also has the consumer ``tokens``, before its own: a void token is refused as early as possible.
    """
    if not service:
        return tuple(consumer_of(module) for module in CONSUMING_MODULES)
    from popug_cli.messages.services import SERVICES

    modules = SERVICES[service].consumers
    return tuple(consumer_of(module) for module in (modules if service == "identity" else ("identity", *modules)))


def consumer_of(module: str) -> Consumer:
    """Return the subscription of one module."""
    consumer = import_module(f"popug_cli.{module}.consumers").CONSUMER
    assert isinstance(consumer, Consumer)
    return consumer

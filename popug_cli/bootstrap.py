"""The one place that wires a company together; importing it does nothing."""

from collections.abc import Callable
from importlib import import_module

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Runtime
from popug_cli.kernel.calendar import Calendar, load_zone
from popug_cli.kernel.clock import Clock, SystemClock, to_rfc3339
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.randomness import RandomDraws, RandomSource, SystemRandomSource, uuid7
from popug_cli.kernel.settings import load_settings
from popug_cli.storage import migrate
from popug_cli.storage.errors import corrupt
from popug_cli.storage.mounts import require_lock_support
from popug_cli.storage.sqlite import open_database

# In this order one pass processes most events: billing publishes prices for tasks, and payouts for mail.
CONSUMING_MODULES = ("billing", "tasks", "analytics", "mail")


def open_runtime(
    home: Home,
    *,
    clock: Clock | None = None,
    randomness: RandomSource | None = None,
    progress: Progress = no_progress,
    threads: int = 1,
    while_waiting: Callable[[], None] = lambda: None,
) -> Runtime:
    """Open the company in ``home`` and return its wired parts.

    Raise ``not_initialised`` if there is none, or an error of the file system, the schema version or the settings.
    """
    if not home.database.exists():
        raise not_initialised(home)
    require_lock_support(home.root, home.database)
    migrate.migrate_if_older(home)
    database = open_database(home.database, threads=threads, while_waiting=while_waiting)
    with database.transaction(writes=False) as connection:
        row = connection.record("SELECT home_id, time_zone FROM storage_home")
    if row is None:
        raise not_initialised(home)
    randomness = randomness or SystemRandomSource()
    return Runtime(
        database=database,
        home=home,
        home_id=row["home_id"],
        calendar=_calendar(row["time_zone"], home),
        settings=load_settings(home.config),
        clock=clock or SystemClock(),
        randomness=randomness,
        draws=RandomDraws(randomness),
        progress=progress,
    )


def _calendar(time_zone: str, home: Home) -> Calendar:
    try:
        return Calendar(time_zone)
    except InvalidInput as error:
        raise corrupt(home.database, error.message) from error


def found_company(
    home: Home, time_zone: str, *, clock: Clock | None = None, randomness: RandomSource | None = None
) -> None:
    """Create the home and its database, or leave a company that exists as it is."""
    clock, randomness = clock or SystemClock(), randomness or SystemRandomSource()
    load_zone(time_zone)
    require_lock_support(home.root, home.database)
    migrate.create(home)
    now = clock.now()
    database = open_database(home.database)
    with database.transaction(writes=True) as connection:
        connection.execute(
            "INSERT INTO storage_home (id, home_id, time_zone, founded_at) VALUES (1, :home_id, :zone, :now)"
            " ON CONFLICT (id) DO NOTHING",
            home_id=uuid7(now, randomness),
            zone=time_zone,
            now=to_rfc3339(now),
        )
    database.close()


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


def consumers() -> tuple[Consumer, ...]:
    """Return the subscriptions of all modules, in the order in which they best process a command's events."""
    return tuple(consumer_of(module) for module in CONSUMING_MODULES)


def consumer_of(module: str) -> Consumer:
    """Return the subscription of one module."""
    consumer = import_module(f"popug_cli.{module}.consumers").CONSUMER
    assert isinstance(consumer, Consumer)
    return consumer

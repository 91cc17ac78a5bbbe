"""Turn the company in a home into a cluster: fill five databases, seal the home, activate the databases.

The home's write lock is held from the snapshot to the seal, so no event is lost between the two. Until the seal, a
failure leaves the home as it was and the places empty; after a kill, the places are ``loading`` and the next attempt
fills them again. After the seal, the next attempt activates the databases.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from popug_cli import bootstrap
from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import are_current
from popug_cli.bus.log import Log
from popug_cli.cluster.places import Places
from popug_cli.cluster.service_homes import copy_home, keep_own_tables, make_service
from popug_cli.cluster.targets import Targets, now, same_cluster, targets_of
from popug_cli.identity import published_keys
from popug_cli.kernel import home_owner, serve_lock
from popug_cli.kernel.errors import Conflict, InvalidInput, PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.randomness import uuid7
from popug_cli.kernel.settings import DATABASE_URL, read_settings
from popug_cli.kernel.text import counted
from popug_cli.messages.cluster import ClusterCreated, ServicePlace
from popug_cli.messages.hooks import ListHooks
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.storage import cluster_state, migrate, temporary_home
from popug_cli.storage.cluster_state import LOADING, MOVED, ClusterState
from popug_cli.storage.errors import translate_errors
from popug_cli.storage.sqlite import SqliteDatabase

Step = Callable[[str], None]
"""Is called with the name of each step that is done; a test ends the process there."""


class Options(NamedTuple):
    """How a cluster is made: ``gateway`` is the address that the sealed home names, or empty.

    With ``abandon_hooks``, events that wait for hooks are not delivered any more.
    """

    gateway: str = ""
    abandon_hooks: bool = False


def initialise(
    company: LocalBackend,
    places: Places,
    options: Options,
    prepare_topics: Callable[[], None],
    after_step: Step = lambda name: None,
) -> ClusterCreated:
    """Turn the company in a home into a cluster, or finish what an earlier attempt has begun.

    ``company`` uses the file in its home. ``prepare_topics`` creates and checks the topics before anything is changed.
    Raise ``already_initialised``, ``moved``, ``server_unavailable``, ``hooks_pending``, ``databases_missing``, the
    errors of ``prepare_topics``, or those of the home and of the databases.
    """
    require_file(company.home)
    targets = targets_of(places)
    with _unserved(company):
        if (sealed := read_state(company.home)) is not None and sealed.state == MOVED:
            return _resume(company, places, targets, sealed, options)
        company.catch_up(completely=True)
        targets.require_free(company.runtime.home_id)
        prepare_topics()
        targets.prepare()
        for sentence in temporary_home.clear_homes(places.homes):
            company.warn(sentence)
        published_keys.ensure_own_key(company.runtime)
        after_step("prepared")
        created = _fill_and_seal(company, places, targets, options, after_step)
        company.close()
        targets.activate(created.cluster, options.gateway)
        after_step("activated")
    return created


def read_state(home: Home) -> ClusterState | None:
    """Return the state of the company in a home's migrated file, or None if it belongs to no cluster."""
    with closing(SqliteDatabase(home.database)) as database, database.transaction(writes=False) as connection:
        return cluster_state.load(connection)


@contextmanager
def _unserved(company: LocalBackend) -> Iterator[None]:
    """Keep servers from opening the home of a company during the block, and migrate its file.

    Raise ``not_initialised``, ``newer_database`` or ``server_unavailable``.
    """
    home = company.home
    home_owner.check_owner(home.root)
    if not home.database.exists():
        raise bootstrap.not_initialised(home)
    with translate_errors(home.database), serve_lock.hold_unserved(home, "move to a cluster"):
        migrate.migrate_if_older(home)
        yield


def describe(places: Places, targets: Targets) -> list[ServicePlace]:
    """Return the places of all services."""
    return [
        ServicePlace(
            service,
            str(places.home_of(service).root),
            targets.address(service) if places.database else str(places.home_of(service).database),
            places.topic_of(service),
        )
        for service in SERVICES
    ]


def require_file(home: Home) -> None:
    """Raise ``usage`` for a home whose company is on PostgreSQL."""
    if read_settings(home.config, {}).text(DATABASE_URL):
        raise InvalidInput(
            "usage",
            f"The company of {home.root} is on PostgreSQL, and a cluster is made of a company in the file of a home.",
            hint="First copy it into a home: `popug database copy --from URL --home NEW`, then `popug cluster init"
            " --from NEW`.",
        )


def _fill_and_seal(
    company: LocalBackend, places: Places, targets: Targets, options: Options, after_step: Step
) -> ClusterCreated:
    """Fill all places and seal the home, under its write lock; empty the places if that fails."""
    cluster_id = uuid7(company.now(), company.runtime.randomness)
    try:
        with _write_locked(company) as context:
            _check_hooks(company, options)
            _fill(company, context, places, targets, ClusterState(cluster_id, LOADING, options.gateway), after_step)
            cluster_state.store(context.connection, ClusterState(cluster_id, MOVED, options.gateway), now())
            events, head = context.position, context.log.head_hash() or ""
    except BaseException:
        if read_state(company.home) is None:
            empty_places(targets, cluster_id)
        raise
    after_step("sealed")
    return ClusterCreated(
        cluster=cluster_id,
        prefix=places.prefix,
        source=str(company.home.root),
        events=events,
        head=head,
        resumed=False,
        services=describe(places, targets),
    )


@contextmanager
def _write_locked(company: LocalBackend) -> Iterator[Context]:
    """Yield the context of a write transaction at whose beginning all consumers have caught up."""
    while True:
        company.catch_up(completely=True)
        with company.runtime.writing(OPERATOR) as context:
            if are_current(context, company.consumers):
                yield context
                return


def _fill(
    company: LocalBackend, context: Context, places: Places, targets: Targets, state: ClusterState, after_step: Step
) -> None:
    log_ids = {service: uuid7(context.now, context.randomness) for service in SERVICES}
    with ExitStack() as stack:
        staged = {
            service: stack.enter_context(temporary_home.temporary_home(places.homes / service)) for service in SERVICES
        }
        for service, home in staged.items():
            with translate_errors(home.database):
                copy_home(company.home, home, with_keys=service == "identity" and not places.database)
                _make(company, home, service, log_ids)
            after_step(f"staged {service}")
        for service, home in staged.items():
            targets.fill(service, home, state, company.progress)
            after_step(f"filled {service}")


def _make(company: LocalBackend, home: Home, service: str, log_ids: Mapping[str, str]) -> None:
    """Turn a copy of the company into the database of a service.

    Its consumers then catch up, so that the service knows all void tokens before it accepts one.
    """
    with closing(company.for_home(home)) as backend, backend.runtime.writing(OPERATOR) as context:
        make_service(context, service, log_ids)
        keep_own_tables(context.connection, service)
    with closing(company.for_home(home)) as backend:
        backend.catch_up(completely=True)


def _check_hooks(company: LocalBackend, options: Options) -> None:
    waiting = {hook.name: hook.waiting for hook in company.perform(ListHooks()).hooks if hook.waiting}
    if waiting and not options.abandon_hooks:
        listed = ", ".join(f"{counted(count, 'event')} for {name}" for name, count in sorted(waiting.items()))
        raise Conflict(
            "hooks_pending",
            f"Hooks do not exist on a cluster, and some have not received all events yet: {listed}.",
            hint="Let `popug scheduler --once` run them, or give --yes to leave these events undelivered.",
            details={"waiting": waiting},
        )


def empty_places(targets: Targets, cluster_id: str) -> None:
    """Empty the places after a failure, as far as that is possible; the next attempt empties the rest."""
    for service in SERVICES:
        try:
            targets.empty(service, cluster_id)
        except (PopugError, OSError):
            continue


def _resume(
    company: LocalBackend, places: Places, targets: Targets, sealed: ClusterState, options: Options
) -> ClusterCreated:
    """Activate the databases of a sealed home; raise ``moved`` if they are not those of its cluster."""
    states = targets.states()
    if same_cluster(states) != sealed.cluster_id:
        raise cluster_state.moved(sealed, company.home.root)
    with closing(SqliteDatabase(company.home.database)) as database:
        if options.gateway and options.gateway != sealed.gateway:
            with database.transaction(writes=True) as connection:
                cluster_state.store(connection, sealed._replace(gateway=options.gateway), now())
        with database.transaction(writes=False) as connection:
            log = Log(connection)
            events, head = log.last_position(), log.head_hash() or ""
    targets.activate(sealed.cluster_id, options.gateway or sealed.gateway)
    return ClusterCreated(
        cluster=sealed.cluster_id,
        prefix=places.prefix,
        source=str(company.home.root),
        events=events,
        head=head,
        resumed=True,
        services=describe(places, targets),
    )

"""Restore all services of a cluster: from a backup into empty places, or in place after a recovery by PostgreSQL.

Either begins a new life: all logs get new ids, so records of the old life are ignored wherever they still are. All
tokens and keys are void, and mail is held, because the old life may have sent it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from popug_cli import bootstrap
from popug_cli.bus import stream_store
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.service.restore import Received, begin_new_life, require_received
from popug_cli.cluster.doctor import copy_from_backup, examine, open_backup, require_sound
from popug_cli.cluster.initialise import Step, describe, empty_places
from popug_cli.cluster.opening import NAME_THE_PLACES
from popug_cli.cluster.places import Places
from popug_cli.cluster.targets import Targets, now, targets_of
from popug_cli.identity import keys, published_keys, token_copies, token_store
from popug_cli.kernel import serve_lock
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.errors import NotFound, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.randomness import SystemRandomSource, uuid7
from popug_cli.mail import outbox
from popug_cli.messages.cluster import ClusterRestored
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.storage import cluster_state, migrate, temporary_home
from popug_cli.storage.cluster_state import LOADING, RESTORING, ClusterState
from popug_cli.storage.errors import translate_errors

Runtimes = Mapping[str, Runtime]


def restore(
    places: Places,
    directory: Path,
    prepare_topics: Callable[[], None],
    warn: Callable[[str], None],
    progress: Progress,
    after_step: Step = lambda name: None,
) -> ClusterRestored:
    """Fill empty places with a checked backup, and let all services begin a new life.

    Raise ``not_a_backup``, ``integrity``, ``already_initialised``, the errors of ``prepare_topics``, or those of the
    databases; then all places are empty. After a kill, the same command fills them again.
    """
    directory = directory.expanduser().absolute()
    targets = targets_of(places)
    gateway = _check(directory, targets, warn, progress)
    prepare_topics()
    targets.prepare()
    for sentence in temporary_home.clear_homes(places.homes):
        warn(sentence)
    cluster_id = uuid7(SystemClock().now(), SystemRandomSource())
    try:
        with ExitStack() as stack:
            staged = {
                name: stack.enter_context(temporary_home.temporary_home(places.homes / name)) for name in SERVICES
            }
            held = _stage(directory, staged, is_shared=bool(places.database))
            for service, home in staged.items():
                targets.fill(service, home, ClusterState(cluster_id, LOADING, gateway), progress)
                after_step(f"filled {service}")
    except BaseException:
        empty_places(targets, cluster_id)
        raise
    targets.activate(cluster_id, gateway)
    return ClusterRestored(str(directory), cluster_id, held, describe(places, targets))


def restore_in_place(places: Places, after_step: Step = lambda name: None) -> ClusterRestored:
    """Let all services begin a new life on their databases, which were all recovered to one time.

    Raise ``not_initialised``, or ``received_unknown`` if a service has received an event that its publisher's log
    lacks; then nothing was changed. Raise ``server_unavailable`` or ``service_running`` if a service runs. If it
    started during the restore, the databases stay ``restoring`` until the command is run again.
    """
    targets = targets_of(places)
    gateway = _require_cluster(targets)
    cluster_id = uuid7(SystemClock().now(), SystemRandomSource())
    with ExitStack() as stack:
        for service in SERVICES if not places.database else ():
            stack.enter_context(_unserved(places.home_of(service)))
        runtimes = {service: stack.enter_context(_opened(places, service)) for service in SERVICES}
        received = received_of(runtimes)
        for service, runtime in runtimes.items():
            with runtime.reading(OPERATOR) as context:
                require_received(context, received[service])
        with _leading(runtimes):
            for runtime in runtimes.values():
                with runtime.writing(OPERATOR) as context:
                    cluster_state.store(context.connection, ClusterState(cluster_id, RESTORING, gateway), now())
        after_step("restoring")
        if received_of(runtimes) != received:
            raise _service_running("one service")
        held = begin_new_lives(runtimes, received, makes_key=not places.database, after_step=after_step)
    targets.activate(cluster_id, gateway)
    return ClusterRestored(str(places.homes), cluster_id, held, describe(places, targets))


def received_of(runtimes: Runtimes) -> dict[str, dict[str, Received]]:
    """Return, for each service, what each receiver of its log has accepted last."""
    received: dict[str, dict[str, Received]] = {service: {} for service in runtimes}
    for receiver, runtime in runtimes.items():
        with runtime.reading(OPERATOR) as context:
            for origin, (state, _) in stream_store.load_all(context.connection).items():
                received[origin][receiver] = Received(state.last, state.last_id)
    return received


def begin_new_lives(
    runtimes: Runtimes,
    received: Mapping[str, Mapping[str, Received]],
    *,
    makes_key: bool,
    after_step: Step = lambda name: None,
) -> int:
    """Give all logs new ids, make all keys and tokens void, and hold mail; return how many mails are held.

    With ``makes_key``, the home of identity gets a new key; else each process of identity makes one when it starts.
    """
    instant, randomness = SystemClock().now(), SystemRandomSource()
    log_ids = {service: uuid7(instant, randomness) for service in SERVICES}
    with runtimes["identity"].reading(OPERATOR) as context:
        void_keys = published_keys.published_key_ids(context)
    held = 0
    for service, runtime in runtimes.items():
        with runtime.writing(OPERATOR) as context:
            begin_new_life(context, log_ids, received[service])
            published_keys.make_void(context, void_keys)
            token_copies.forget_watermark(context)
            if service == "identity":
                _make_tokens_void(context, makes_key=makes_key)
            if service == "mail":
                outbox.hold_all(context)
                _, held = outbox.count_unsent(context)
        after_step(f"begun {service}")
    return held


def _make_tokens_void(context: Context, *, makes_key: bool) -> None:
    if makes_key:
        keys.make_signing_key(context.home, context.randomness, context.on_rollback)
        published_keys.publish(context)
    token_store.revoke_all_tokens(context, "restored")


def _check(directory: Path, targets: Targets, warn: Callable[[str], None], progress: Progress) -> str:
    """Check a backup and the places that receive it; return the address of the gateway, or an empty text."""
    with open_backup(directory, warn, progress) as services:
        runtime = services["identity"].runtime
        targets.require_free(runtime.home_id)
        require_sound(
            examine(services, is_backup=True),
            f"The backup in {directory} is not healthy, so nothing was restored",
            "Run `popug cluster doctor DIR` on it, and restore another backup.",
        )
        with runtime.reading(OPERATOR) as context:
            state = cluster_state.load(context.connection)
    return state.gateway if state else ""


def _stage(directory: Path, staged: Mapping[str, Home], *, is_shared: bool) -> int:
    """Copy the backup into homes, and let their services begin a new life; return how many mails are held."""
    with ExitStack() as stack:
        runtimes = {}
        for service, home in staged.items():
            with translate_errors(home.database):
                home.make()
                copy_from_backup(directory, service, home)
            runtime = bootstrap.open_runtime(home, from_file=True)
            stack.enter_context(closing(runtime.database))
            runtimes[service] = runtime
        return begin_new_lives(runtimes, received_of(runtimes), makes_key=not is_shared)


def _require_cluster(targets: Targets) -> str:
    """Return the address of the gateway of a cluster that was filled once.

    Raise ``not_initialised`` for an empty place, or ``loading`` for one that `cluster init` has not finished.
    """
    gateway = ""
    for service in SERVICES:
        found = targets.find(service)
        if found is None:
            raise NotFound(
                "not_initialised",
                f"{targets.address(service)} is empty, so there is nothing to restore in place.",
                hint=f"{NAME_THE_PLACES} `popug cluster restore DIR` restores a backup into empty places.",
            )
        cluster_state.require_usable(found.state, targets.address(service), accept_restoring=True)
        gateway = found.state.gateway if found.state else gateway
    return gateway


@contextmanager
def _opened(places: Places, service: str) -> Iterator[Runtime]:
    url = places.database_of(service)
    home = places.home_of(service)
    runtime = bootstrap.open_runtime(home, from_file=not url, database_url=url, accept_restoring=True)
    with closing(runtime.database):
        if runtime.service != service:
            raise stream_store.not_a_service(f"it should be that of {service}")
        yield runtime


@contextmanager
def _unserved(home: Home) -> Iterator[None]:
    with translate_errors(home.database), serve_lock.hold_unserved(home, "be restored"):
        migrate.migrate_if_older(home)
        yield


@contextmanager
def _leading(runtimes: Runtimes) -> Iterator[None]:
    """Hold the leader's lock of each service during the block; raise ``service_running`` if another process does."""
    with ExitStack() as stack:
        for service, runtime in runtimes.items():
            lock = runtime.database.leader_lock()
            stack.callback(lock.release)
            if not lock.try_acquire():
                raise _service_running(service)
        yield


def _service_running(service: str) -> Unavailable:
    return Unavailable(
        "service_running",
        f"A process of {service} is running, so the services cannot be restored.",
        hint="Stop all services and the gateway, then run this command again.",
    )

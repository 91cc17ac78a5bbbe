"""Snapshots of a replica, or of a service of a cluster, that show what the caller has seen, or a warning if not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from popug_cli.bus.context import Context, Newest, Runtime
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.positions import COMPANY, DATABASE, KnownPositions, Position, Positions, merge
from popug_cli.messages.base import Message
from popug_cli.messages.principal import ANONYMOUS, Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend
    from popug_cli.app.service_reads import ServiceReads

WAIT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.0005
LONGEST_PAUSE_SECONDS = 0.05
BEHIND = (
    "This answer may lack what you have seen or changed before (behind): the replica of the database has not reached"
    f" it after {WAIT_SECONDS:.0f} seconds. Ask again in a moment."
)


class StillBehindError(Exception):
    """A service does not cover yet what the caller has seen; nothing was done, and the caller tries again."""


class State(NamedTuple):
    """How far a database is: its last log position, and the number of its last write transaction."""

    position: int
    change_number: int

    def covers(self, other: "State") -> bool:
        """Return whether it has everything that ``other`` has."""
        return self.position >= other.position and self.change_number >= other.change_number


class Reads:
    """The snapshots that answer the queries of one backend, and the positions that its last answer shows.

    ``positions`` are those that the caller has seen. Without ``allows_replica``, queries read from the primary. With
    ``hands_off``, a message that has to wait for other services raises ``StillBehindError`` instead, unless it insists
    or has changed something; ``waited_seconds`` is the time that the caller has waited already.
    """

    def __init__(self, positions: KnownPositions) -> None:
        self.positions = positions
        self.shown: Positions = {}
        self.allows_replica = True
        self.hands_off = False
        self.waited_seconds = 0.0
        self._service: ServiceReads | None = None

    def begin(self) -> None:
        """Begin with a message: nothing is shown yet, and nothing was waited for."""
        self.shown, self._service = {}, None

    def uses_replica(self, runtime: Runtime) -> bool:
        """Return whether queries read from a replica."""
        return self.allows_replica and runtime.database.replica is not None

    @contextmanager
    def querying(self, backend: "LocalBackend", principal: Principal) -> Iterator[Context]:
        """Yield a context on a snapshot that shows all that the caller has seen, of the replica if there is one.

        Wait for the replica at most ``WAIT_SECONDS``; after that, warn and yield what it has. If it cannot be reached,
        the snapshot is one of the primary. A service of a cluster also waits until it covers what the caller has seen
        of the others.
        """
        enter_snapshot = partial(self._enter_snapshot, backend, principal)
        with ExitStack() as stack:
            if backend.runtime.service:
                context = self._service_of(backend).enter_covering(enter_snapshot, self.positions.read(), stack)
            else:
                context = enter_snapshot(stack)
            self.shown = merge(self.shown, positions_of(backend.runtime, context))
            yield context

    def wait_for(self, backend: "LocalBackend", message: Message[Any], principal: Principal) -> None:
        """In a service of a cluster, wait for what a message decides upon; raise ``behind`` if it insists on that."""
        if backend.runtime.service:

            def enter_snapshot(stack: ExitStack) -> Context:
                return stack.enter_context(backend.runtime.reading(principal))

            self._service_of(backend).wait_for(message, enter_snapshot, self.positions.read())

    def add_wait(self, backend: "LocalBackend", seconds: float) -> None:
        """Count, in a service of a cluster, seconds that the message has waited elsewhere for another service."""
        if backend.runtime.service:
            self._service_of(backend).add_wait(seconds)

    def show_newest(self, runtime: Runtime) -> None:
        """Make the newest positions of this process those of the answer, and those that later queries must show.

        For a service, they are read from its database; its position is that of its own last event.
        """
        self.hands_off = False
        newest = State(runtime.newest.position, runtime.newest.change_number)
        if runtime.service:
            with runtime.reading(ANONYMOUS) as context:
                self.shown = positions_of(runtime, context)
        else:
            self.shown = _positions_of_state(runtime, newest)
        self._keep(runtime)

    def finish(self, runtime: Runtime, *, is_command: bool) -> None:
        """Keep the positions of an answer: those of the snapshot that it shows, or the newest ones after a command."""
        if is_command or not self.shown:
            self.show_newest(runtime)
        self._keep(runtime)

    def _keep(self, runtime: Runtime) -> None:
        if runtime.service or self.uses_replica(runtime):
            self.positions.keep(self.shown)

    def _service_of(self, backend: "LocalBackend") -> "ServiceReads":
        if self._service is None:
            from popug_cli.app.service_reads import ServiceReads

            self._service = ServiceReads(backend)
        return self._service

    def _enter_snapshot(self, backend: "LocalBackend", principal: Principal, stack: ExitStack) -> Context:
        runtime = backend.runtime
        if self.uses_replica(runtime):
            return _enter_replica(runtime, principal, _wanted(runtime, self.positions.read()), backend.warn, stack)
        return stack.enter_context(runtime.reading(principal))


def positions_of(runtime: Runtime, context: Context) -> dict[str, Position]:
    """Return the positions that an answer from a snapshot carries, those of a service under its name."""
    shown = _positions_of_state(runtime, state_of(context))
    if runtime.service:
        from popug_cli.bus.service.coverage import own_position

        shown[runtime.service] = own_position(context, runtime.service)
    return shown


def _positions_of_state(runtime: Runtime, state: State) -> dict[str, Position]:
    log, database = _sources(runtime)
    shown = {log: Position(state.position, runtime.log_id)}
    if state.change_number:
        shown[database] = Position(state.change_number, runtime.log_id)
    return shown


def state_of(context: Context) -> State:
    """Return how far the snapshot of a context is."""
    return State(context.position, context.connection.change_number)


def _wanted(runtime: Runtime, seen: Positions) -> State:
    """Return the state that the caller has seen; positions of other logs do not count."""
    position, change = (seen.get(source) for source in _sources(runtime))
    return State(
        position.number if position and position.log_id == runtime.log_id else 0,
        change.number if change and change.log_id == runtime.log_id else 0,
    )


def _sources(runtime: Runtime) -> tuple[str, str]:
    """Return the names of the log and of the count of write transactions in positions."""
    return (runtime.service, f"{runtime.service}{DATABASE}") if runtime.service else (COMPANY, DATABASE)


def _enter_replica(
    runtime: Runtime, principal: Principal, wanted: State, warn: Callable[[str], None], stack: ExitStack
) -> Context:
    """Enter snapshots of the replica until one covers ``wanted`` or the time is over; return its context.

    No position beyond the primary's own is waited for: it comes from a log that was replaced since, as by a recovery to
    an earlier point in time.
    """
    assert runtime.database.replica is not None
    replica = replace(runtime, database=runtime.database.replica, newest=Newest())
    deadline, pause, is_limited = monotonic() + WAIT_SECONDS, FIRST_PAUSE_SECONDS, False
    while True:
        attempt = ExitStack()
        try:
            context = attempt.enter_context(replica.reading(principal))
        except Unavailable:
            return stack.enter_context(runtime.reading(principal))
        is_late, is_covered = monotonic() > deadline, state_of(context).covers(wanted)
        if is_covered or is_late:
            stack.enter_context(attempt)
            if not is_covered:
                warn(BEHIND)
            return context
        attempt.close()
        if not is_limited:
            wanted, is_limited = _limited(runtime, principal, wanted), True
            continue
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _limited(runtime: Runtime, principal: Principal, wanted: State) -> State:
    """Return the wanted state, but nothing beyond the primary's; unchanged if the primary cannot be reached."""
    try:
        with runtime.reading(principal) as context:
            primary = state_of(context)
    except Unavailable:
        return wanted
    return State(min(wanted.position, primary.position), min(wanted.change_number, primary.change_number))

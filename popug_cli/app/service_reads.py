"""Wait, in a service of a cluster, until it covers what the caller has seen of the other services."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from popug_cli.app.replica_reads import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, WAIT_SECONDS, StillBehindError
from popug_cli.bus.context import Context, digits_of
from popug_cli.bus.cursors import require_known_versions
from popug_cli.bus.service.coverage import MissingEvent, ReceivedLog, missing_events, received_logs, uncovered
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.positions import Position, Positions
from popug_cli.kernel.text import counted
from popug_cli.messages.base import Message, Query
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.internal.analytics import GetMostExpensiveTask
from popug_cli.messages.internal.mail import QueueSummaries, SendDue
from popug_cli.messages.mail import SendMail

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

INSIST_SECONDS = 30.0
# A close, the mail that it sends, and what its summaries ask analytics for.
INSISTING: tuple[type[Message[Any]], ...] = (CloseDay, SendMail, SendDue, QueueSummaries, GetMostExpensiveTask)
MAX_NAMED = 3
USERS_ORIGIN = "identity"  # all other commands decide upon its events: who may send them, and who can be assigned

EnterSnapshot = Callable[[ExitStack], Context]
Lacks = Callable[[Mapping[str, ReceivedLog]], Collection[str]]
"""Returns the origins of which the logs lack something that is waited for."""


class CoverageCheck(NamedTuple):
    """A snapshot, how far the service is there with each log, and the origins of which it still lacks something."""

    context: Context
    logs: Mapping[str, ReceivedLog]
    lacking: Collection[str]


class ServiceReads:
    """The waits of one message at a service; a message waits ``WAIT_SECONDS`` in all, and one that insists longer."""

    def __init__(self, backend: "LocalBackend") -> None:
        self._backend = backend
        self._service = backend.runtime.service
        self._waited_seconds = backend.reads.waited_seconds
        self._warned: set[str] = set()

    def enter_covering(self, enter_snapshot: EnterSnapshot, seen: Positions, stack: ExitStack) -> Context:
        """Enter the first snapshot that covers what the caller has ``seen``, or warn and enter the last one.

        Also warn of events among them that a consumer has set aside.
        """
        check = self._wait(enter_snapshot, self._lacks_some(seen), stack)
        if check.lacking:
            self._warn_once(_behind(self._service, check.lacking))
        if missing := missing_events(check.context, check.logs, seen):
            self._warn_once(_set_aside(missing))
        return check.context

    def add_wait(self, seconds: float) -> None:
        """Count a wait of the message elsewhere for what another service has published."""
        self._waited_seconds += seconds

    def wait_for(self, message: Message[Any], enter_snapshot: EnterSnapshot, seen: Positions) -> None:
        """Wait, before a transaction, until the service has what a command decides upon.

        A close and the sending of mail decide upon everything that the service covers: raise ``behind`` if that takes
        more than ``INSIST_SECONDS``, or if a consumer stops at an event that only a newer program knows. All others
        decide upon the users that the service has consumed, and no command waits for a third service; after
        ``WAIT_SECONDS`` it is performed in any case, with a warning.
        """
        is_preview = isinstance(message, CloseDay) and message.dry_run
        insists = isinstance(message, INSISTING) and not is_preview
        if isinstance(message, Query) and not insists:
            return  # ``enter_covering`` waits for its snapshot
        lacks = self._lacks_some(seen) if insists or is_preview else _lacks_consumed(USERS_ORIGIN, seen)
        with ExitStack() as stack:
            check = self._wait(enter_snapshot, lacks, stack, insists=insists)
        if check.lacking and insists:
            raise _refused(self._service, check.lacking)
        if check.lacking:
            self._warn_once(_behind(self._service, check.lacking))

    def _lacks_some(self, seen: Positions) -> Lacks:
        return lambda logs: uncovered(self._service, logs, seen)

    def _wait(
        self, enter_snapshot: EnterSnapshot, lacks: Lacks, stack: ExitStack, *, insists: bool = False
    ) -> CoverageCheck:
        """Return the first check that finds nothing lacking, else the last; its snapshot stays open in ``stack``."""
        began, pause, consumed_up_to = monotonic(), FIRST_PAUSE_SECONDS, -1
        deadline = began + (INSIST_SECONDS if insists else WAIT_SECONDS) - self._waited_seconds
        while True:
            with ExitStack() as attempt:
                context = enter_snapshot(attempt)
                if insists:
                    require_known_versions(context, self._backend.consumers)
                logs = received_logs(context, self._service, self._backend.consumers)
                lacking = lacks(logs)
                if not lacking or monotonic() >= deadline:
                    self._waited_seconds += monotonic() - began
                    stack.enter_context(attempt.pop_all())
                    return CoverageCheck(context, logs, lacking)
            if context.position > consumed_up_to:
                consumed_up_to = context.position
                self._backend.catch_up()
            elif self._backend.reads.hands_off and not insists:
                raise StillBehindError
            else:
                self._backend.while_waiting()
                sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._backend.warn(sentence)


def _lacks_consumed(origin: str, seen: Positions) -> Lacks:
    """Return what is lacking of one log alone, without its effects by other services."""
    position = seen.get(origin, Position(0, ""))

    def lacks(logs: Mapping[str, ReceivedLog]) -> Collection[str]:
        log = logs.get(origin)
        is_behind = log and position.log_id == digits_of(log.log_id) and position.number > log.consumed
        return [origin] if is_behind else []

    return lacks


def _behind(service: str, lacking: Collection[str]) -> str:
    return (
        f"This answer may lack what you have seen or changed before (behind): {service} has not caught up with"
        f" {_joined(lacking)} after {WAIT_SECONDS:.0f} seconds. Ask again in a moment."
    )


def _refused(service: str, lacking: Collection[str]) -> Unavailable:
    return Unavailable(
        "behind",
        f"{service} has not caught up with {_joined(lacking)} after {INSIST_SECONDS:.0f} seconds, so it may lack what"
        " you have seen or changed before.",
        hint="See `popug events status`, and try again in a moment.",
        details={"service": service, "lacking": sorted(lacking)},
    )


def _set_aside(missing: Sequence[MissingEvent]) -> str:
    named = ", ".join(f"{event.consumer}:{event.id}" for event in missing[:MAX_NAMED])
    more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
    events = counted(len(missing), "event that was set aside", "events that were set aside")
    return f"This answer lacks the effects of {events} ({named}{more}). See `popug events dead`."


def _joined(origins: Collection[str]) -> str:
    return " and ".join(sorted(origins))

"""The backend that performs messages in this process: authenticate, find the handler, run it, catch up, answer."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property, partial
from time import sleep
from typing import Any, TypeVar

from msgspec.structs import replace

from popug_cli import bootstrap
from popug_cli.app import handlers
from popug_cli.app.coordination import Coordinator, SingleThreaded
from popug_cli.app.handlers import MessageHandler
from popug_cli.bus.consumers import CatchUpResult, Consumer, catch_up, is_current, process_next_batch, skip_unrelated
from popug_cli.bus.context import Context, PasswordWork, Runtime
from popug_cli.identity.authorization import authenticate, authorize
from popug_cli.identity.rules import check_new_user
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import Clock
from popug_cli.kernel.errors import NotAuthenticated, PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.randomness import RandomSource
from popug_cli.messages.base import DECLARATIONS, Access, Declaration, Message, Query, Role
from popug_cli.messages.bus import EnvelopeDocument, ListEvents
from popug_cli.messages.identity import RegisterFirstAdmin
from popug_cli.messages.principal import ANONYMOUS, OPERATOR, Principal
from popug_cli.platform.signals import find_in_context
from popug_cli.storage.errors import ENVIRONMENT_CODES, PARTIAL_WORK_KEPT, partly_done

Answer = TypeVar("Answer")
Result = TypeVar("Result")
OnWrite = Callable[[Context, Any], None]
FOLLOW_POLL_SECONDS = 0.5
Authenticate = Callable[[str, Runtime], Principal]


def _ignore(context: Context, result: Any) -> None:
    """Default `on_write`: do nothing."""


class LocalBackend:
    """A company whose home is on this machine. ``warn`` receives the warnings of a message.

    ``while_waiting`` is called several times a second during a wait for the write lock; what it raises ends the wait.
    A backend that is given a ``runtime`` shares it with other threads, coordinated by ``coordinator``, and does not
    close it. ``on_write`` is called with the result of each write, inside its transaction.
    """

    def __init__(
        self,
        home: Home,
        *,
        warn: Callable[[str], None] = lambda sentence: None,
        progress: Progress = no_progress,
        while_waiting: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        randomness: RandomSource | None = None,
        runtime: Runtime | None = None,
        coordinator: Coordinator | None = None,
        authenticate: Authenticate = authenticate,
    ) -> None:
        self.home = home
        self.warn = warn
        self._shared = runtime
        self._coordinator = coordinator or SingleThreaded()
        self._authenticate_token = authenticate
        self.on_write: OnWrite = _ignore
        self._progress = progress
        self._while_waiting = while_waiting
        self._clock = clock
        self._randomness = randomness
        self._has_changed = False

    def create_company(self, time_zone: str, admin: RegisterFirstAdmin | None = None) -> None:
        """Make the home and its database where they are missing; raise first what would refuse the first admin."""
        if admin is not None:
            check_new_user(admin.username, admin.email, Role.ADMIN, admin.password)
        bootstrap.found_company(self.home, time_zone, clock=self._clock, randomness=self._randomness)

    @cached_property
    def runtime(self) -> Runtime:
        """Return the open company; the first use opens it."""
        runtime = self._shared or bootstrap.open_runtime(
            self.home,
            clock=self._clock,
            randomness=self._randomness,
            progress=self._progress,
            while_waiting=self._while_waiting,
        )
        return dataclasses.replace(runtime, on_change=self._record_change)

    @property
    def calendar(self) -> Calendar:
        """Return the calendar of the company's time zone."""
        return self.runtime.calendar

    def now(self) -> datetime:
        """Return the present instant by the company's clock, in UTC."""
        return self.runtime.clock.now()

    def for_home(self, home: Home) -> "LocalBackend":
        """Return a backend for another home, such as a copy of this one, with the same clock and random source."""
        return LocalBackend(
            home, warn=self.warn, progress=self._progress, clock=self._clock, randomness=self._randomness
        )

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        if (runtime := vars(self).pop("runtime", None)) is not None and self._shared is None:
            runtime.engine.dispose()

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return the subscription of every module: which events it consumes, and how."""
        return bootstrap.consumers()

    def perform(self, message: Message[Answer], token: str | None = None, *, actor: Principal = OPERATOR) -> Answer:
        """Perform a message for the holder of `token`, and return its answer; raise a ``PopugError`` for a refusal.

        ``actor`` is the principal of a message that needs no token because only the operator can send it.
        """
        return self.perform_as(self._authenticate(message, token, actor), message)

    def authorize(self, message: Message[Any], token: str | None, *, actor: Principal = OPERATOR) -> Principal:
        """Return the sender of a message that a snapshot shows to be allowed; raise errors of exit 4 and 5 otherwise.

        A server asks this before a command waits for the write lock, so that refused clients do not hold it up.
        """
        principal = self._authenticate(message, token, actor)
        self._check_on_snapshot(principal, message)
        return principal

    def follow(self, message: ListEvents, token: str | None = None) -> Iterator[list[EnvelopeDocument]]:
        """Yield the events that a message asks for, some at a time, and then new ones without an end."""
        while True:
            if events := self.perform(message, token).events:
                yield events
                message = replace(message, after=int(events[-1]["sequence"]))
            sleep(FOLLOW_POLL_SECONDS)

    def perform_as(self, principal: Principal, message: Message[Answer]) -> Answer:
        """Perform a message for an authenticated principal, and return its answer.

        If an environment error or an interrupt comes after a part was committed, the error says so (``in_doubt``).
        """
        self._has_changed = False
        try:
            return self._run(principal, message)
        except (Exception, KeyboardInterrupt) as error:
            if self._has_changed and find_in_context(error, KeyboardInterrupt):
                raise KeyboardInterrupt(PARTIAL_WORK_KEPT) from error
            if self._has_changed and isinstance(error, PopugError) and error.code in ENVIRONMENT_CODES:
                raise partly_done(error) from error
            raise

    def catch_up(self, *, include_not_due: bool = False) -> CatchUpResult:
        """Bring every consumer up to date, and return how that went; failures are warnings."""
        work = partial(catch_up, self.runtime, self.consumers, include_not_due=include_not_due)
        result = self._coordinator.catch_up(work, force=include_not_due)
        for consumer, failures in result.failures.items():
            self._warn_of_failures(consumer, failures)
        for error in result.errors:
            self.warn(f"What follows from this is not done yet: {error.message} {error.hint}")
        if not result.complete:
            self.warn("There is more to catch up with; the next command goes on with it.")
        return result

    def write(self, message: Message[Any], principal: Principal, work: Callable[[Context], Result]) -> Result:
        """Authorize a message and run its work in one write transaction, once its module has taken all earlier events.

        Every change that a message makes goes through here, so a token that was revoked a moment ago changes nothing.
        """
        with self._coordinator.command():
            return self._write(DECLARATIONS[type(message)], message, principal, work)

    def _write(
        self, declaration: Declaration, message: Message[Any], principal: Principal, work: Callable[[Context], Result]
    ) -> Result:
        is_consuming = declaration.module in bootstrap.CONSUMING_MODULES
        consumer = bootstrap.consumer_of(declaration.module) if is_consuming else None
        while True:
            with self.runtime.writing(principal) as context:
                if consumer is None or is_current(context, consumer):
                    authorize(principal, declaration, message, context)
                    result = work(context)
                    self.on_write(context, result)
                    skip_unrelated(context, self.consumers)
                    return result
            assert consumer is not None
            if failures := process_next_batch(self.runtime, consumer):
                self._warn_of_failures(consumer.name, failures)

    def _run(self, principal: Principal, message: Message[Answer]) -> Answer:
        handler = handlers.find(type(message))
        if handler.is_composed:
            self._check_on_snapshot(principal, message)
            answer: Answer = handler.function(self, message, principal)
            return answer
        if handler.declaration.is_command:
            return self._command(handler, message, principal)
        return self._query(handler, message, principal)

    def _command(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        """A handler may return a query to be answered next, or a refusal whose changes (a count) are kept."""
        password_work = self._prepare(handler, message, principal)

        def work(context: Context) -> Any:
            context.password_work = password_work
            return handler.function(message, context)

        answer: Any = self.write(message, principal, work)
        self.catch_up()
        if isinstance(answer, PopugError):
            raise answer
        if isinstance(answer, Query):
            answer = self._answer(handlers.find(type(answer)), answer, principal)
        final: Answer = answer
        return final

    def _query(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        with self.runtime.reading(principal) as context:
            authorize(principal, handler.declaration, message, context)
            if self._coordinator.is_caught_up(context.position):
                return handler.function(message, context)  # type: ignore[no-any-return]
        self.catch_up()
        return self._answer(handler, message, principal)

    def _answer(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        """Answer a query that was authorized, itself or as a part of its command."""
        with self.runtime.reading(principal) as context:
            return handler.function(message, context)  # type: ignore[no-any-return]

    def _prepare(self, handler: MessageHandler, message: Message[Any], principal: Principal) -> PasswordWork:
        """Do the slow work on a password before the transaction, so that no other command waits for it."""
        if handler.preparation is None:
            return PasswordWork()
        with self.runtime.reading(principal) as context:
            authorize(principal, handler.declaration, message, context)
            work = handler.preparation(message, context)
        return work()

    def _check_on_snapshot(self, principal: Principal, message: Message[Any]) -> None:
        declaration = DECLARATIONS[type(message)]
        if declaration.access is Access.TOKEN:
            with self.runtime.reading(principal) as context:
                authorize(principal, declaration, message, context)

    def _authenticate(self, message: Message[Any], token: str | None, actor: Principal) -> Principal:
        access = DECLARATIONS[type(message)].access
        if access is Access.PUBLIC:
            return ANONYMOUS
        if access is Access.OPERATOR:
            return actor
        if token is None:
            self.runtime  # noqa: B018 - an error about the home comes first
            raise NotAuthenticated("not_logged_in", "You are not logged in.", hint="Run `popug login NAME`.")
        return self._authenticate_token(token, self.runtime)

    def _record_change(self, principal: Principal) -> None:
        self._has_changed = self._has_changed or principal is not ANONYMOUS

    def _warn_of_failures(self, consumer: str, failures: int) -> None:
        events = "1 event; it" if failures == 1 else f"{failures} events; they"
        self.warn(f"{consumer} failed on {events} will be retried. See `popug events dead`.")

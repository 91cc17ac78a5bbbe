"""Performing messages in this process."""

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
from popug_cli.bus.consumers import CatchUpResult, Consumer, catch_up, is_current, process_next_batch, skip_unrelated
from popug_cli.bus.context import Context, PasswordWork, Runtime
from popug_cli.identity import authorization
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
OnWrite = Callable[[Context, Any], None]
FOLLOW_POLL_SECONDS = 0.5
Authenticate = Callable[[str, Runtime], Principal]
LISTENING_MODULES = frozenset({"tasks", "billing", "analytics", "mail"})


def _ignore(context: Context, result: Any) -> None:
    """Nobody wants to see what a write came to."""


class LocalBackend:
    """A company on this machine. ``warn`` is told what went wrong beside the answer.

    ``while_waiting`` is called several times a second of a wait for the write lock; what it raises ends the wait.

    One that is given a runtime shares it with others, in the order of ``coordinator``, and leaves it open. ``on_write``
    sees in each write's transaction what it came to.
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
        authenticate: Authenticate = authorization.authenticate,
    ) -> None:
        self.home = home
        self.warn = warn
        self._shared = runtime
        self._coordinator = coordinator or SingleThreaded()
        self._authenticate = authenticate
        self.on_write: OnWrite = _ignore
        self._progress = progress
        self._while_waiting = while_waiting
        self._clock = clock
        self._randomness = randomness
        self._has_changed = False

    def create_company(self, time_zone: str, admin: RegisterFirstAdmin | None = None) -> None:
        """Make the home and its database where they are missing, unless the admin to come would be refused."""
        if admin is not None:
            check_new_user(admin.username, admin.email, Role.ADMIN, admin.password)
        bootstrap.found_company(self.home, time_zone, clock=self._clock, randomness=self._randomness)

    @cached_property
    def runtime(self) -> Runtime:
        """The company, opened at the first use."""
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
        """The dates of the company's zone."""
        return self.runtime.calendar

    def now(self) -> datetime:
        """The present instant by the company's clock, in UTC."""
        return self.runtime.clock.now()

    def for_home(self, home: Home) -> "LocalBackend":
        """A way into another home, such as a copy of this one; with the same clock and chance."""
        return LocalBackend(
            home, warn=self.warn, progress=self._progress, clock=self._clock, randomness=self._randomness
        )

    def close(self) -> None:
        """Let go of the database; the next use opens it anew."""
        if (runtime := vars(self).pop("runtime", None)) is not None and self._shared is None:
            runtime.engine.dispose()

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Every module's ear."""
        return bootstrap.consumers()

    def perform(self, message: Message[Answer], token: str | None = None, *, actor: Principal = OPERATOR) -> Answer:
        """Do what the message asks for on behalf of the token's holder, and answer.

        ``actor`` is who is meant where the message is the operator's own. Raises a ``PopugError`` for every refusal.
        """
        return self.perform_as(self.authorize(message, token, actor=actor), message)

    def query(self, message: Query[Answer], token: str | None) -> Answer:
        """What ``perform`` answers to a query; on one snapshot, where nobody has to be waited for."""
        declaration = DECLARATIONS[type(message)]
        if declaration.access is Access.TOKEN and handlers.find_handler(type(message), declaration.name) is None:
            principal = self._principal(declaration, token, OPERATOR)
            with self.runtime.reading(principal) as context:
                authorization.authorize(principal, declaration, message, context)
                if self._coordinator.is_caught_up(context.position):
                    return bootstrap.handler_of(declaration)(message, context)  # type: ignore[no-any-return]
        return self.perform(message, token)

    def authorize(self, message: Message[Any], token: str | None, *, actor: Principal = OPERATOR) -> Principal:
        """Who sends the message, once they are found to be allowed to; raises errors of exit 4 and 5."""
        declaration = DECLARATIONS[type(message)]
        principal = self._principal(declaration, token, actor)
        if declaration.access is Access.TOKEN:
            with self.runtime.reading(principal) as context:
                authorization.authorize(principal, declaration, message, context)
        return principal

    def follow(self, message: ListEvents, token: str | None = None) -> Iterator[list[EnvelopeDocument]]:
        """The events that a message asks for, and then those that happen, without an end; some at a time."""
        while True:
            if events := self.perform(message, token).events:
                yield events
                message = replace(message, after=int(events[-1]["sequence"]))
            sleep(FOLLOW_POLL_SECONDS)

    def perform_as(self, principal: Principal, message: Message[Answer]) -> Answer:
        """Do what the message asks for on behalf of somebody who was let in.

        A fault of the place is ``in_doubt`` where a part was done already, and an interrupt says so; else nothing was
        changed.
        """
        self._has_changed = False
        try:
            return self._perform_as(principal, message)
        except (Exception, KeyboardInterrupt) as error:
            if self._has_changed and find_in_context(error, KeyboardInterrupt):
                raise KeyboardInterrupt(PARTIAL_WORK_KEPT) from error
            if self._has_changed and isinstance(error, PopugError) and error.code in ENVIRONMENT_CODES:
                raise partly_done(error) from error
            raise

    def _record_change(self, principal: Principal) -> None:
        self._has_changed = self._has_changed or principal is not ANONYMOUS

    def _perform_as(self, principal: Principal, message: Message[Answer]) -> Answer:
        declaration = DECLARATIONS[type(message)]
        composed_handler = handlers.find_handler(type(message), declaration.name)
        if composed_handler is not None:
            answer: Answer = composed_handler(self, message, principal)
            return answer
        if declaration.is_command:
            return self._command(declaration, message, principal)
        self.catch_up()
        return self._query(declaration, message, principal)

    def catch_up(self, *, include_not_due: bool = False) -> CatchUpResult:
        """Bring every consumer up to date; what goes wrong is a warning."""
        work = partial(catch_up, self.runtime, self.consumers, include_not_due=include_not_due)
        result = self._coordinator.catch_up(work, force=include_not_due)
        for consumer, failures in result.failures.items():
            self._warn_of_failures(consumer, failures)
        for fault in result.faults:
            self.warn(f"What follows from this is not done yet: {fault.message} {fault.hint}")
        if not result.complete:
            self.warn("There is more to catch up with; the next command goes on with it.")
        return result

    def write(self, module: str, principal: Principal, work: Callable[[Context], Answer]) -> Answer:
        """Do some work in one write transaction, once the module has taken in all that was said to it."""
        with self._coordinator.command():
            return self._write(module, principal, work)

    def _write(self, module: str, principal: Principal, work: Callable[[Context], Answer]) -> Answer:
        consumer = bootstrap.consumer_of(module) if module in LISTENING_MODULES else None
        while True:
            with self.runtime.writing(principal) as context:
                if consumer is None or is_current(context, consumer):
                    result = work(context)
                    self.on_write(context, result)
                    skip_unrelated(context, self.consumers)
                    return result
            assert consumer is not None
            if failures := process_next_batch(self.runtime, consumer):
                self._warn_of_failures(consumer.name, failures)

    def _warn_of_failures(self, consumer: str, failures: int) -> None:
        events = "1 event" if failures == 1 else f"{failures} events"
        self.warn(f"{events} could not be taken by {consumer}, and is kept for another try; see `popug events dead`.")

    def _command(self, declaration: Declaration, message: Message[Answer], principal: Principal) -> Answer:
        """A handler may return a query to be answered next, or a refusal whose changes (a count) are kept."""
        handler, prepared = bootstrap.handler_of(declaration), self._prepare(declaration, message, principal)

        def work(context: Context) -> Any:
            context.prepared = prepared
            if declaration.access is Access.TOKEN:
                authorization.authorize(principal, declaration, message, context)
            return handler(message, context)

        answer: Any = self.write(declaration.module, principal, work)
        self.catch_up()
        if isinstance(answer, PopugError):
            raise answer
        if isinstance(answer, Query):
            answer = self._query(DECLARATIONS[type(answer)], answer, principal)
        final: Answer = answer
        return final

    def _prepare(self, declaration: Declaration, message: Message[Any], principal: Principal) -> PasswordWork:
        """What takes long and can be done before the transaction."""
        preparation = bootstrap.preparation_of(declaration)
        if preparation is None:
            return {}
        with self.runtime.reading(principal) as context:
            if declaration.access is Access.TOKEN:
                authorization.authorize(principal, declaration, message, context)
            work = preparation(message, context)
        prepared: PasswordWork = work()
        return prepared

    def _query(self, declaration: Declaration, message: Message[Answer], principal: Principal) -> Answer:
        handler = bootstrap.handler_of(declaration)
        with self.runtime.reading(principal) as context:
            return handler(message, context)  # type: ignore[no-any-return]

    def _principal(self, declaration: Declaration, token: str | None, actor: Principal) -> Principal:
        if declaration.access is Access.PUBLIC:
            return ANONYMOUS
        if declaration.access is Access.OPERATOR:
            return actor
        if token is None:
            self.runtime  # noqa: B018 - a home that is not there is said first
            raise NotAuthenticated("not_logged_in", "You are not logged in.", hint="Run `popug login NAME`.")
        return self._authenticate(token, self.runtime)

"""The backend that performs messages in this process: authenticate, find the handler, run it, catch up, answer."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property, partial
from time import monotonic, sleep
from typing import Any, TypeVar

from msgspec.structs import replace

from popug_cli import bootstrap
from popug_cli.app import handlers
from popug_cli.app.asking import AskService, CompanySnapshot, no_other_service, require_service
from popug_cli.app.coordination import Coordinator, SingleThreaded
from popug_cli.app.handlers import MessageHandler
from popug_cli.app.replica_reads import Reads
from popug_cli.bus.catch_up import CatchUpProgress, CatchUpResult, catch_up
from popug_cli.bus.consumers import Consumer, try_next_batch
from popug_cli.bus.context import Context, PasswordWork, Runtime
from popug_cli.bus.cursors import are_current, is_current, skip_unrelated
from popug_cli.identity.policy import authenticate, authorize
from popug_cli.identity.rules import check_new_user
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import Clock
from popug_cli.kernel.errors import NotAuthenticated, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.positions import KnownPositions
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.randomness import RandomSource
from popug_cli.kernel.text import counted
from popug_cli.messages.base import DECLARATIONS, Access, Declaration, Message, Query, Role
from popug_cli.messages.bus import EnvelopeDocument, ListEvents
from popug_cli.messages.company import BackUp, CheckHealth, SetSetting, ShowSettings
from popug_cli.messages.identity import RegisterFirstAdmin
from popug_cli.messages.principal import ANONYMOUS, OPERATOR, Principal
from popug_cli.platform.signals import find_in_context
from popug_cli.storage import temporary_home
from popug_cli.storage.errors import ENVIRONMENT_CODES, PARTIAL_WORK_KEPT, TransactionLost, partly_done

Answer = TypeVar("Answer")
Result = TypeVar("Result")
OnWrite = Callable[[Context, Any], None]
FOLLOW_POLL_SECONDS = 0.5
RERUN_SECONDS = 30.0
YIELD_SECONDS = 0.01  # gives other threads the time to begin their commands
# These messages show or repair a broken company, so they use defaults in place of invalid settings.
WORK_WITH_INVALID_SETTINGS: tuple[type[Message[Any]], ...] = (ShowSettings, SetSetting, CheckHealth, BackUp)
WARN_OF_SETTINGS_THEMSELVES: tuple[type[Message[Any]], ...] = (ShowSettings, SetSetting)
OpenContext = Callable[[Principal], AbstractContextManager[Context]]
Authenticate = Callable[[str, Runtime], Principal]


class LocalBackend:
    """Performs messages on a home of this machine. ``warn`` receives the warnings of a message.

    ``while_waiting`` is called several times a second during a wait for the write lock; an error that it raises ends
    the wait. A backend that is given a ``runtime`` shares it with other threads, coordinated by ``coordinator``, and
    does not close it. For ``from_file`` and ``database_url`` see ``bootstrap.open_runtime``.
    ``before_write`` is called inside the transaction of each ``write``, before it changes anything, and ``on_write``
    with its result. ``positions`` are those that the caller has seen, which an answer must show. If the home is that of
    a service of a cluster, ``ask_service`` asks another service for its part of an answer.
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
        from_file: bool = False,
        database_url: str = "",
        positions: KnownPositions | None = None,
        ask_service: AskService = no_other_service,
    ) -> None:
        self.home = home
        self.warn = warn
        self.reads = Reads(positions or KnownPositions())
        self._shared_runtime = runtime
        self._coordinator = coordinator or SingleThreaded()
        self._authenticate_token = authenticate
        self.before_write: Callable[[Context], None] = lambda context: None
        self.on_write: OnWrite = lambda context, result: None
        self.progress = progress
        self.while_waiting = while_waiting
        self._clock = clock
        self._randomness = randomness
        self.ask_service = ask_service
        self._has_changed = False
        self._was_caught_up = False  # before the last write
        self._accepts_invalid_settings = False
        self._warns_of_settings = True
        self._from_file = from_file
        self._database_url = database_url
        self.is_file_checked = False  # whether the database file was just checked: the health checks then leave it out

    def create_company(self, time_zone: str, admin: RegisterFirstAdmin | None = None) -> None:
        """Create the home and its database if they are missing. First raise the error of an invalid ``admin``."""
        if admin is not None:
            check_new_user(admin.username, admin.email, Role.ADMIN, admin.password)
        for sentence in temporary_home.clear(self.home):
            self.warn(sentence)
        bootstrap.found_company(
            self.home, time_zone, clock=self._clock, randomness=self._randomness, from_file=self._from_file
        )

    @cached_property
    def runtime(self) -> Runtime:
        """Return the open company; the first use opens it, and warns of settings that are not valid or not known."""
        runtime = self._shared_runtime or bootstrap.open_runtime(
            self.home,
            clock=self._clock,
            randomness=self._randomness,
            progress=self.progress,
            while_waiting=self.while_waiting,
            accept_invalid_settings=self._accepts_invalid_settings,
            from_file=self._from_file,
            database_url=self._database_url,
            warn=self.warn,
        )
        if self._warns_of_settings and self._shared_runtime is None and runtime.settings.warning:
            self.warn(runtime.settings.warning)
        return dataclasses.replace(runtime, on_change=self._record_change)

    @property
    def calendar(self) -> Calendar:
        """Return the calendar of the company's time zone."""
        return self.runtime.calendar

    def now(self) -> datetime:
        """Return the present instant by the company's clock, in UTC."""
        return self.runtime.clock.now()

    def for_home(self, home: Home) -> "LocalBackend":
        """Return a backend for the file of another home, with this one's parts; it does not warn of settings there."""
        backend = LocalBackend(
            home,
            warn=self.warn,
            progress=self.progress,
            clock=self._clock,
            randomness=self._randomness,
            from_file=True,
        )
        backend._warns_of_settings = False
        return backend

    def close(self) -> None:
        """Close the database unless other threads share it; the next use opens it again."""
        if (runtime := vars(self).pop("runtime", None)) is not None and self._shared_runtime is None:
            runtime.database.close()

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return the subscription of every module that the database has: which events it consumes, and how."""
        return bootstrap.consumers(self.runtime.service)

    def perform(self, message: Message[Answer], token: str | None = None, *, actor: Principal = OPERATOR) -> Answer:
        """Perform a message for the holder of `token`, or for ``actor`` if only the operator can send it."""
        return self.perform_as(self.authenticate(message, token, actor), message)

    def authorize(self, message: Message[Any], token: str | None, *, actor: Principal = OPERATOR) -> Principal:
        """Return the sender of a message if it is allowed on a snapshot; else raise an error of exit status 4 or 5.

        A server calls this before a command waits for the write lock, so that refused clients do not hold it up.
        """
        principal = self.authenticate(message, token, actor)
        self._check_on_snapshot(principal, message)
        return principal

    def follow(self, message: ListEvents, token: str | None = None) -> Iterator[list[EnvelopeDocument]]:
        """Yield lists of the events that a message asks for, then lists of new events, without end."""
        while True:
            if events := self.perform(message, token).events:
                yield events
                message = replace(message, after=int(events[-1]["sequence"]))
            sleep(FOLLOW_POLL_SECONDS)

    def perform_as(self, principal: Principal, message: Message[Answer]) -> Answer:
        """Perform a message for an authenticated principal, and return its answer.

        It runs again if a database server ended it before anything was committed. If an environment error comes after a
        part was committed, raise ``in_doubt``. If an interrupt does, raise a ``KeyboardInterrupt`` that says so.
        """
        self._has_changed = False
        self.reads.begin()
        self._accepts_invalid_settings = isinstance(message, WORK_WITH_INVALID_SETTINGS)
        self._warns_of_settings = self._warns_of_settings and not isinstance(message, WARN_OF_SETTINGS_THEMSELVES)
        if "runtime" in vars(self) and not self._accepts_invalid_settings:
            self.runtime.settings.require_valid()
        try:
            answer = self.rerun(partial(self._run, principal, message))
            if "runtime" in vars(self):  # some of the operator's messages need no open company
                self.reads.finish(self.runtime, is_command=DECLARATIONS[type(message)].is_command)
            return answer
        except (Exception, KeyboardInterrupt) as error:
            if self._has_changed and find_in_context(error, KeyboardInterrupt):
                raise KeyboardInterrupt(PARTIAL_WORK_KEPT) from error
            if self._has_changed and isinstance(error, PopugError) and error.code in ENVIRONMENT_CODES:
                raise partly_done(error) from error
            raise

    def rerun(self, function: Callable[[], Result]) -> Result:
        """Call a function again if its transaction was lost; not after another transaction has changed something."""
        deadline, had_changed = monotonic() + RERUN_SECONDS, self._has_changed
        while True:
            try:
                return function()
            except TransactionLost:
                if self._has_changed != had_changed or monotonic() > deadline:
                    raise

    def querying(self, principal: Principal) -> AbstractContextManager[Context]:
        """Return a context manager for a query: a new enough snapshot, of a replica if there is one."""
        return self.reads.querying(self, principal)

    def catch_up(self, *, include_not_due: bool = False, completely: bool = False) -> CatchUpResult:
        """Run the consumers and return the result; warn of failures, environment errors and unfinished work.

        The work ends after ``bus.catch_up_seconds`` unless ``completely`` is true. Between such periods, other threads
        may begin commands.
        """
        with CatchUpProgress(self.runtime.progress) as progress:
            run_consumers = partial(catch_up, self.runtime, self.consumers, progress=progress)
            result = self.rerun(
                lambda: self._coordinator.catch_up(
                    partial(run_consumers, include_not_due=include_not_due), force=include_not_due
                )
            )
            while completely and not result.complete and not result.errors:
                sleep(YIELD_SECONDS)
                result.add(self.rerun(lambda: self._coordinator.catch_up(run_consumers, force=True)))
        for consumer, failures in result.failures.items():
            self._warn_of_failures(consumer, failures)
        for error in result.errors:
            self.warn(f"Some events are not processed yet: {error.message} {error.hint}")
        if not result.complete:
            self.warn("More events wait to be processed; the next command continues with them.")
        return result

    @contextmanager
    def asking(self, principal: Principal, *, is_command: bool = False) -> Iterator[CompanySnapshot]:
        """Yield an object that asks the modules on one snapshot; that of a command is never one of a replica."""
        with self.runtime.reading(principal) if is_command else self.querying(principal) as context:
            yield CompanySnapshot(context, self.ask_service)

    def write(self, message: Message[Any], principal: Principal, handle: Callable[[Context], Result]) -> Result:
        """Authorize a message and call ``handle`` in one write transaction; return its result.

        First the message's module processes all earlier events that it consumes. A command with a token makes its
        changes through this method, so a token that was revoked a moment ago changes nothing. The operator's commands
        and records of finished work (mails sent, summaries queued) may use ``Runtime.writing``.
        """
        declaration = DECLARATIONS[type(message)]
        self.reads.wait_for(self, message, principal)
        with self._coordinator.command():
            result = self.rerun(partial(self._write, declaration, message, principal, handle))
        self.reads.show_newest(self.runtime)
        return result

    def write_and_catch_up(
        self, message: Message[Any], principal: Principal, handle: Callable[[Context], Result]
    ) -> Result:
        """Call ``write``, run the consumers until all events that ``handle`` causes are processed, return its result.

        Of the events that earlier commands left, they process only a part.
        """
        result = self.write(message, principal, handle)
        self.catch_up(completely=self._was_caught_up)
        return result

    def _write(
        self, declaration: Declaration, message: Message[Any], principal: Principal, handle: Callable[[Context], Result]
    ) -> Result:
        require_service(declaration, self.runtime.service)
        consumer = next((consumer for consumer in self.consumers if consumer.name == declaration.module), None)
        while True:
            with self.runtime.writing(principal) as context:
                self._was_caught_up = are_current(context, self.consumers)
                if consumer is None or self._was_caught_up or is_current(context, consumer):
                    authorize(principal, declaration, message, context)
                    self.before_write(context)
                    result = handle(context)
                    self.on_write(context, result)
                    skip_unrelated(context, self.consumers)
                    return result
            assert consumer is not None
            if failures := try_next_batch(self.runtime, consumer):
                self._warn_of_failures(consumer.name, failures)

    def _run(self, principal: Principal, message: Message[Answer]) -> Answer:
        handler = handlers.find(type(message))
        if handlers.service_of(handler.declaration):  # the others may need no open company
            require_service(handler.declaration, self.runtime.service)
        if handler.takes_backend:
            if "runtime" not in vars(self):  # the operator's handlers may open no company
                bootstrap.require_not_moved(self.home)
            self._check_on_snapshot(principal, message)
            answer: Answer = handler.function(self, message, principal)
            return answer
        if handler.declaration.is_command:
            return self._command(handler, message, principal)
        return self._query(handler, message, principal)

    def _command(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        """Perform a command in one transaction, run the consumers, and return the answer.

        A handler may return a query, whose answer is then the command's. Or it returns an error, which is raised after
        the commit, so that its changes (such as a count of failed logins) are kept.
        """
        password_work = self._prepare(handler, message, principal)

        def handle(context: Context) -> Any:
            context.password_work = password_work
            return handler.function(message, context)

        result: Any = self.write_and_catch_up(message, principal, handle)
        if isinstance(result, PopugError):
            raise result
        if isinstance(result, Query):
            result = self._answer(handlers.find(type(result)), result, principal, self.runtime.reading)
        answer: Answer = result
        return answer

    def _query(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        if self.reads.uses_replica(self.runtime):
            return self._query_replica(handler, message, principal)
        with self.querying(principal) as context:
            authorize(principal, handler.declaration, message, context)
            if self._coordinator.is_caught_up(context.position):
                return handler.function(message, context)  # type: ignore[no-any-return]
        self.reads.shown = {}
        self.catch_up()
        return self._answer(handler, message, principal, self.querying)

    def _query_replica(self, handler: MessageHandler, message: Message[Answer], principal: Principal) -> Answer:
        """Answer a query on the replica. The primary authorizes it, since a revocation takes effect there first."""
        try:
            self._check_on_snapshot(principal, message)
            self.catch_up()
        except Unavailable as error:
            self.warn(f"{error.message} So this answer of a replica may be old.")
            with self.querying(principal) as context:
                authorize(principal, handler.declaration, message, context)
        return self._answer(handler, message, principal, self.querying)

    def _answer(
        self, handler: MessageHandler, message: Message[Answer], principal: Principal, read: OpenContext
    ) -> Answer:
        """Answer a query without authorization: either it or the command that returned it was authorized before.

        ``read`` opens a snapshot. The answer of a command never comes from a replica, which might not have its effect.
        """

        def answer() -> Answer:
            with read(principal) as context:
                return handler.function(message, context)  # type: ignore[no-any-return]

        return self.rerun(answer)

    def _prepare(self, handler: MessageHandler, message: Message[Any], principal: Principal) -> PasswordWork:
        """Do the slow work on a password before the transaction, so that no other command waits for it."""
        if handler.preparation is None:
            return PasswordWork()
        with self.runtime.reading(principal) as context:
            authorize(principal, handler.declaration, message, context)
            compute = handler.preparation(message, context)
        return compute()

    def _check_on_snapshot(self, principal: Principal, message: Message[Any]) -> None:
        declaration = DECLARATIONS[type(message)]
        if declaration.access is Access.TOKEN:
            with self.runtime.reading(principal) as context:
                authorize(principal, declaration, message, context)

    def authenticate(self, message: Message[Any], token: str | None, actor: Principal = OPERATOR) -> Principal:
        """Return the sender of a message, without reading the database; raise the errors of a token (exit 4)."""
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
        """Remember that this message changed something; consumers, which run as ANONYMOUS, do not count."""
        self._has_changed = self._has_changed or principal is not ANONYMOUS

    def _warn_of_failures(self, consumer: str, failures: int) -> None:
        events = counted(failures, "event")
        self.warn(f"{consumer} failed on {events}, which can be processed later. See `popug events dead`.")

"""A company that stays open and is shared by many threads; the server performs messages on it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

from popug_cli import bootstrap
from popug_cli.app.asked_by_services import perform_for_service
from popug_cli.app.asking import AskService, no_other_service
from popug_cli.app.hosting.idempotency import IdempotencyGuard, perform_idempotently
from popug_cli.app.hosting.thread_coordination import QueryCoordinator, ThreadCoordinator
from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus.context import Runtime
from popug_cli.bus.log import SELECT_LINK, SELECT_NEWEST_LINK
from popug_cli.identity import devices, users
from popug_cli.identity.published_keys import find_key
from popug_cli.identity.rules import lower_username
from popug_cli.identity.token_cache import VerifiedTokenCache
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.positions import Positions, merge
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.settings import load_settings
from popug_cli.messages.base import Message, Query
from popug_cli.messages.identity import LogIn, WhoAmI
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.platform.file_id import file_fingerprint
from popug_cli.storage.wal_check import watch_files

NO_POSITIONS: Positions = {}
OpenAsking = Callable[[str | None, LocalBackend], AskService]
"""Returns the function that asks the other services, for a backend that performs a message of a token's owner."""


@dataclass(frozen=True, slots=True)
class PerformResult:
    """An answer with its warnings, and the positions of the log that it shows.

    `is_replayed` if the same idempotency key received the answer before.
    """

    answer: Any
    warnings: list[str]
    is_replayed: bool = False
    positions: Positions = field(default_factory=dict)


class ServedCompany:
    """The company of a home, held open. Raise the errors of ``bootstrap.open_runtime``, which also uses ``warn``.

    In a service of a cluster, ``open_asking`` is set by what connects it with the other services, and ``is_leader`` by
    the election of a leader: it returns whether this process does the work that one process does for all.
    """

    def __init__(self, home: Home, *, threads: int, warn: Callable[[str], None] = lambda sentence: None) -> None:
        self.home = home
        self.is_leader: Callable[[], bool] = lambda: not self.runtime.service
        self.open_asking: OpenAsking = lambda token, backend: no_other_service
        self._coordinator = ThreadCoordinator()
        self._idempotency = IdempotencyGuard()
        self._verified_tokens = VerifiedTokenCache()
        self._settings_lock = Lock()
        self._config_fingerprint = file_fingerprint(home.config)
        self._runtime = replace(
            bootstrap.open_runtime(home, threads=threads, warn=warn), write_lock=self._coordinator.write_lock
        )
        self._files = watch_files(
            self._runtime.database, select_newest_link=SELECT_NEWEST_LINK, select_link=SELECT_LINK
        )

    @property
    def home_id(self) -> str:
        """Return the id of the company."""
        return self._runtime.home_id

    @property
    def runtime(self) -> Runtime:
        """Return the open company, for threads that do no user's work."""
        return self._runtime

    @property
    def time_zone(self) -> str:
        """Return the IANA name of the company's time zone."""
        return self._runtime.calendar.time_zone

    def perform(
        self,
        message: Message[Any],
        token: str | None,
        *,
        key: str | None = None,
        seen: Positions = NO_POSITIONS,
        waited_seconds: float | None = None,
    ) -> PerformResult:
        """Perform a message on behalf of the token's owner; raise a ``PopugError`` with positions for any failure.

        A query shows all up to the positions that the caller has ``seen``, or warns. A command with an idempotency key
        takes effect once, however often it is sent within 24 hours. With ``waited_seconds``, the time since the message
        was first sent, raise ``StillBehindError`` instead of a wait for other services.
        """
        return self._answered(message, token, seen, waited_seconds, partial(self._perform, key=key))

    def perform_part(
        self, message: Message[Any], token: str | None, *, seen: Positions, waited_seconds: float
    ) -> PerformResult:
        """Perform a part for another service of the cluster, on behalf of the token's owner; else as ``perform``."""
        return self._answered(message, token, seen, waited_seconds, self._perform_part)

    def _answered(
        self,
        message: Message[Any],
        token: str | None,
        seen: Positions,
        waited_seconds: float | None,
        perform: Callable[[LocalBackend, Message[Any], str | None], tuple[Any, bool]],
    ) -> PerformResult:
        warnings: list[str] = []
        backend = self.open_backend(warnings.append, is_command=not isinstance(message, Query), token=token)
        backend.reads.positions.keep(seen)  # the object that the clients of other services have
        if waited_seconds is not None:
            backend.reads.hands_off, backend.reads.waited_seconds = True, waited_seconds
        try:
            answer, is_replayed = perform(backend, message, token)
        except PopugError as error:
            error.positions = _shown(backend, seen)
            raise
        return PerformResult(answer, warnings, is_replayed, _shown(backend, seen))

    def _perform_part(self, backend: LocalBackend, message: Message[Any], token: str | None) -> tuple[Any, bool]:
        return perform_for_service(backend, backend.authenticate(message, token), message), False

    def _perform(
        self, backend: LocalBackend, message: Message[Any], token: str | None, *, key: str | None
    ) -> tuple[Any, bool]:
        """Return the answer, and whether the key received it before."""
        if isinstance(message, Query):
            return backend.perform(message, token), False
        principal = backend.authorize(message, token)
        if key is None:
            return backend.perform_as(principal, message), False
        return perform_idempotently(backend, self._idempotency, principal, message, key)

    def has_verified(self, token: str | None) -> bool:
        """Return whether the signature of a token was verified before and the token has not expired."""
        return token is not None and self._verified_tokens.is_verified(token, self._runtime)

    def verify(self, token: str | None) -> None:
        """Raise the error of a missing token, or of one whose signature or lifetime is not valid (exit status 4)."""
        self.open_backend(lambda sentence: None, is_command=False).authenticate(WhoAmI(), token)

    def user_of_known_device(self, message: LogIn) -> str | None:
        """Return the username in lower case, if the device that logs in has logged in as this user before."""
        runtime = self._fresh_runtime()
        device_id = devices.known_device(
            message.device_token, message.username, find_key(runtime), runtime.home_id, runtime.clock.now()
        )
        return None if device_id is None else lower_username(message.username)

    def username_of(self, message: LogIn) -> str | None:
        """Return the name of the user that logs in, or None if there is no such user."""
        with self._runtime.reading(ANONYMOUS) as context:
            user = users.find(context, message.username)
        return user.username if user else None

    def authenticate(self, token: str | None) -> None:
        """Raise the error of a token that is not valid (exit status 4) or is limited to a scope (exit status 5)."""
        self.open_backend(lambda sentence: None, is_command=False).authorize(WhoAmI(), token)

    def open_backend(
        self,
        warn: Callable[[str], None],
        *,
        is_command: bool = True,
        progress: Progress = no_progress,
        token: str | None = None,
    ) -> LocalBackend:
        """Return a backend for one thread; raise ``server_unavailable`` if the database files were replaced.

        Unless `is_command`, it leaves the consumers to other threads while these perform commands. ``token`` is that of
        the sender, on whose behalf other services are asked.
        """
        self.check()
        runtime = self._fresh_runtime()
        if progress is not no_progress:
            runtime = replace(runtime, progress=progress)
        coordinator = self._coordinator if is_command else QueryCoordinator(self._coordinator, self._last_position)
        backend = LocalBackend(
            self.home,
            warn=warn,
            runtime=runtime,
            coordinator=coordinator,
            authenticate=self._verified_tokens.authenticate,
        )
        backend.ask_service = self.open_asking(token, backend)
        return backend

    def follow(self, warn: Callable[[str], None]) -> bool:
        """Store buffered answers and run the consumers, for events of earlier processes and due retries.

        If another thread already runs the consumers, leave the work to it. Return whether no event waits.
        """
        if self._files is not None:
            self._files.remember_newest_link()
        self._idempotency.flush(self._runtime)
        self._coordinator.caught_up_to = -1
        return self.open_backend(warn, is_command=False).catch_up().complete

    def probe(self) -> dict[str, Any]:
        """Check by a read that the company can be used; raise the error otherwise, such as ``newer_database``.

        Return what ``/readyz`` says in addition: the name of a service. Its streams and its relay do not matter here.
        """
        self.check()
        with self._fresh_runtime().reading(ANONYMOUS) as context:
            context.connection.refuse_newer()
        return {"service": self._runtime.service} if self._runtime.service else {}

    def check(self) -> None:
        """Raise ``server_unavailable`` if the database files were replaced or truncated since they were opened."""
        if self._files is not None and not self._files.are_intact():
            raise Unavailable(
                "server_unavailable",
                f"The database of {self.home.root} was replaced while this server had it open, so the server stopped.",
                hint="Start `popug serve` again.",
            )

    def stop_reconnecting(self) -> None:
        """Let no thread wait any longer for a database that cannot be reached, because the server stops."""
        self._runtime.database.stop_reconnecting()

    def is_database_reachable(self) -> bool:
        """Return whether the database can be opened now; that takes up to two seconds."""
        return self._runtime.database.is_reachable()

    def close(self) -> None:
        """Store the buffered answers if the database can be reached, and close it."""
        with suppress(PopugError):
            self.check()
            if self._idempotency.has_unsaved and self.is_database_reachable():
                self._idempotency.flush(self._runtime)
        self._runtime.database.close()
        if self._files is not None:
            self._files.close()

    def _last_position(self) -> int:
        with self._runtime.reading(ANONYMOUS) as context:
            return context.position

    def _fresh_runtime(self) -> Runtime:
        """Return the runtime, after reloading the settings if their file has changed."""
        fingerprint = file_fingerprint(self.home.config)
        if fingerprint != self._config_fingerprint:
            with self._settings_lock:
                self._runtime = replace(self._runtime, settings=load_settings(self.home.config))
                self._config_fingerprint = fingerprint
        return self._runtime


def _shown(backend: LocalBackend, seen: Positions) -> Positions:
    """Return the positions that an answer shows: this company's own, and those of parts that other services gave."""
    known = backend.reads.positions.read()
    of_parts = {source: position for source, position in known.items() if position != seen.get(source)}
    return merge(of_parts, backend.reads.shown)

"""A company that stays open and is shared by many threads: what a server performs messages on."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from popug_cli import bootstrap
from popug_cli.app.local import Local
from popug_cli.app.once import Once, perform_once
from popug_cli.app.turns import Crew, Reader
from popug_cli.bus.runtime import Runtime
from popug_cli.identity.proofs import Proofs
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress, silent
from popug_cli.kernel.settings import load_settings
from popug_cli.messages.base import Message, Query
from popug_cli.messages.identity import WhoAmI
from popug_cli.messages.principal import NOBODY
from popug_cli.storage.engine import refuse_newer
from popug_cli.storage.wal_check import DatabaseFiles

Mark = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Performed:
    """An answer, and what was said beside it."""

    answer: Any
    warnings: list[str]
    is_replay: bool = False


class Resident:
    """The company of a home, held open. Raises ``not_initialised`` where there is none."""

    def __init__(self, home: Home, *, threads: int) -> None:
        self.home = home
        self._crew = Crew()
        self._once = Once()
        self._proofs = Proofs()
        self._refreshing = Lock()
        self._config = _mark(home)
        self._runtime = replace(bootstrap.open_runtime(home, threads=threads), turn=self._crew.transaction)
        self._files = DatabaseFiles(self._runtime.engine)

    @property
    def home_id(self) -> str:
        """The id of the company."""
        return self._runtime.home_id

    @property
    def time_zone(self) -> str:
        """The IANA name of the company's zone."""
        return self._runtime.calendar.time_zone

    def perform(self, message: Message[Any], token: str | None, *, key: str | None = None) -> Performed:
        """Do what a message asks for on behalf of the token's holder; raises a ``PopugError`` for every refusal.

        A command with a key takes effect once, however often it is sent in 24 hours.
        """
        warnings: list[str] = []
        is_command = not isinstance(message, Query)
        place = self.place(warnings.append, is_command=is_command)
        if isinstance(message, Query):
            return Performed(place.ask(message, token), warnings)
        principal = place.admit(message, token)
        if key is None:
            return Performed(place.perform_as(principal, message), warnings)
        answer, is_replay = perform_once(place, self._once, principal, message, key)
        return Performed(answer, warnings, is_replay)

    def identify(self, token: str | None) -> None:
        """Raise errors of exit 4 where a token is not good, whatever it is to be used for."""
        self.place(lambda sentence: None, is_command=False).admit(WhoAmI(), token)

    def place(self, warn: Callable[[str], None], *, is_command: bool = True, progress: Progress = silent) -> Local:
        """A way in for one thread; raises ``server_unavailable`` once the home is another's."""
        self.check()
        runtime = self._fresh_runtime()
        if progress is not silent:
            runtime = replace(runtime, progress=progress)
        turns = self._crew if is_command else Reader(self._crew, self._head)
        return Local(self.home, warn=warn, runtime=runtime, turns=turns, identify=self._proofs.identify)

    def follow(self, warn: Callable[[str], None]) -> None:
        """Let the consumers take what an earlier process left and what is to be retried now, unless somebody does."""
        self._once.write_down(self._runtime)
        self._crew.head = -1
        self.place(warn, is_command=False).catch_up()

    def probe(self) -> None:
        """Read something; raises what keeps this company from being worked with, such as ``newer_database``."""
        self.check()
        with self._fresh_runtime().reading(NOBODY) as context:
            refuse_newer(context.connection)

    def check(self) -> None:
        """Raise ``server_unavailable`` where the files of the database are not those that were opened, or were cut."""
        if not self._files.are_intact():
            raise Unavailable(
                "server_unavailable",
                f"The database of {self.home.root} was replaced while it was served; this server serves it no more.",
                hint="Start `popug serve` again.",
            )

    def close(self) -> None:
        """Let go of the database, with what is to be written down yet."""
        with suppress(PopugError):
            self.check()
            self._once.write_down(self._runtime)
        self._runtime.engine.dispose()

    def _head(self) -> int:
        with self._runtime.reading(NOBODY) as context:
            return context.position

    def _fresh_runtime(self) -> Runtime:
        """The runtime with the settings as they stand in the file now."""
        mark = _mark(self.home)
        if mark != self._config:
            with self._refreshing:
                self._runtime = replace(self._runtime, settings=load_settings(self.home.config))
                self._config = mark
        return self._runtime


def _mark(home: Home) -> Mark:
    return _stat(home.config)


def _stat(path: os.PathLike[str]) -> Mark:
    try:
        found = os.stat(path)  # noqa: PTH116 - on the way of every request
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""A company on a temporary home, driven in process, with a clock and randomness that the test controls."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.identity import AddUser, RegisterFirstAdmin
from popug_cli.messages.principal import OPERATOR, Principal

Answer = TypeVar("Answer")
PASSWORD = "correct horse battery"
CHEAP_HASHES = {"POPUG_IDENTITY_ARGON2_TIME_COST": "1", "POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192"}


@dataclass
class SetClock:
    """A clock that stands still until it is moved."""

    instant: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def advance(self, **duration: float) -> None:
        self.instant += timedelta(**duration)


@dataclass
class SeededChance:
    """Randomness that repeats for the same seed."""

    seed: int = 1
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def _lay_tables(home: Home) -> None:
    """Copy the empty tables into a new home, since the migrations take ten times as long as a copy."""
    from tests.support.billing_company import migrated

    if not home.root.exists():  # one that exists has settings, which may name another database
        home.make()
        home.database.touch(mode=0o600)
        home.database.write_bytes(migrated())


@contextmanager
def _cheap_hashes() -> Iterator[None]:
    """Let settings that are read from now on make password hashes ten times cheaper, unless the test sets them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CHEAP_HASHES.items():
            patch.setenv(name, os.environ.get(name, value))
        yield


@dataclass
class InProcess:
    """A company with an admin called ``boss``; ``act`` performs a message as a user, without a token."""

    root: Path
    time_zone: str = "Europe/Berlin"
    clock: SetClock = field(default_factory=SetClock)
    chance: SeededChance = field(default_factory=SeededChance)
    warnings: list[str] = field(default_factory=list)
    people: dict[str, Principal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backend = LocalBackend(
            Home(self.root), warn=self.warnings.append, clock=self.clock, randomness=self.chance
        )
        _lay_tables(self.backend.home)
        self.backend.create_company(self.time_zone)
        with _cheap_hashes():
            self.backend.runtime  # noqa: B018 - it reads the settings once, when it is opened
        admin = self.backend.perform(
            RegisterFirstAdmin(username="boss", email="boss@example.com", password=PASSWORD), actor=OPERATOR
        )
        self._remember(admin)

    def hire(self, username: str, role: str = "worker") -> Principal:
        added = self.act("boss", AddUser(username=username, email=f"{username}@example.com", role=role))
        return self._remember(added)

    def act(self, username: str, message: Message[Answer]) -> Answer:
        return self.backend.perform_as(self.people[username], message)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.backend.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def _remember(self, user: Any) -> Principal:
        principal = Principal(username=user.username, user_id=user.user_id, role=user.role)
        self.people[user.username] = principal
        return principal


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[PopugError]:
    """Return the errors in the log."""
    return [error for record in caplog.records if (error := getattr(record, "error", None))]

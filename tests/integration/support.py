"""A company on a temporary home, driven in process, with a clock and chance that the test decides."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from popug_cli.app import Local
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.identity import AddUser, RegisterFirstAdmin
from popug_cli.messages.principal import OPERATOR, Principal

Answer = TypeVar("Answer")
PASSWORD = "correct horse battery"


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
    """Chance that repeats itself for the same seed."""

    seed: int = 1
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@dataclass
class InProcess:
    """A company with an admin called ``boss``; ``act`` performs as somebody without a token."""

    root: Path
    time_zone: str = "Europe/Berlin"
    clock: SetClock = field(default_factory=SetClock)
    chance: SeededChance = field(default_factory=SeededChance)
    warnings: list[str] = field(default_factory=list)
    people: dict[str, Principal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place = Local(Home(self.root), warn=self.warnings.append, clock=self.clock, chance=self.chance)
        self.place.found(self.time_zone)
        admin = self.place.perform(
            RegisterFirstAdmin(username="boss", email="boss@example.com", password=PASSWORD), actor=OPERATOR
        )
        self._remember(admin)

    def hire(self, username: str, role: str = "worker") -> Principal:
        added = self.act("boss", AddUser(username=username, email=f"{username}@example.com", role=role))
        return self._remember(added)

    def act(self, username: str, message: Message[Answer]) -> Answer:
        return self.place.perform_as(self.people[username], message)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.place.runtime.reading(OPERATOR) as context:
            result = context.connection.exec_driver_sql(statement)
            return [dict(row) for row in result.mappings()]

    def _remember(self, user: Any) -> Principal:
        principal = Principal(username=user.username, user_id=user.user_id, role=user.role)
        self.people[user.username] = principal
        return principal

"""The clock and randomness of a company on the test disk: draws do not depend on earlier attempts."""

from datetime import datetime
from hashlib import blake2b
from typing import Any

from popug_cli import bootstrap
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.log import Log

SEED_BYTES = 16


class StandingClock:
    """A clock that shows one instant."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant


class PlacedChance:
    """Draws that depend on the command and the head of the log, never on attempts that were lost.

    A seed is the same throughout a command; ids are counted within a transaction.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._position = -1
        self._drawn = 0

    def bytes(self, count: int) -> bytes:
        key = self._name
        if count != SEED_BYTES:
            self._drawn += 1
            key += f"/{self._position}/{self._drawn}"
        return blake2b(key.encode(), digest_size=count).digest()

    def at(self, position: int) -> None:
        """Note the head of the log at the start of a transaction."""
        self._position, self._drawn = position, 0


def settle(instant: datetime, name: str) -> None:
    """Give code in this process that instant and the randomness of that name."""
    clock, chance = StandingClock(instant), PlacedChance(name)
    wired: Any = bootstrap
    wired.SystemClock, wired.SystemRandomSource = lambda: clock, lambda: chance


def install() -> None:
    """Make each transaction pass the head of the log to the randomness; call it once per process."""
    real = Runtime._context

    def context(self: Runtime, connection: Any, principal: Any, on_rollback: Any) -> Context:
        if isinstance(self.randomness, PlacedChance):
            self.randomness.at(Log(connection).last_position())
        return real(self, connection, principal, on_rollback)

    Runtime._context = context  # type: ignore[method-assign]

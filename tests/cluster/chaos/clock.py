"""A clock that all processes of a chaos run share: that of the machine, ahead by the seconds in a file.

With it, the runner lets days pass. PostgreSQL and Kafka keep the time of the machine. popug compares its process's
clock with that of the database (``time.time``, which is not shifted), and the stamps of records are shifted when they
are read.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

DAY_SECONDS = 86_400


class ShiftedClock:
    """The time of the machine, ahead by the seconds in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC) + self.shift()

    def shift(self) -> timedelta:
        """Return how far the clock is ahead."""
        return timedelta(seconds=float(self._path.read_text()))

    def set(self, seconds: float) -> None:
        """Let the clock be ahead by so many seconds, for all processes at once."""
        part = self._path.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(self._path)

    def advance(self, seconds: float = DAY_SECONDS) -> None:
        """Let time pass."""
        self.set(self.shift().total_seconds() + seconds)

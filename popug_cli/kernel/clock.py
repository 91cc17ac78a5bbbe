"""The clock as a port, and the one text format of instants in database and events."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The source of the current time."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)


def to_rfc3339(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC with microseconds, so that texts sort like instants."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_rfc3339(text: str) -> datetime:
    """Return the instant that ``to_rfc3339`` formatted; raise ``ValueError`` for an invalid text."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is beyond the calendar") from error

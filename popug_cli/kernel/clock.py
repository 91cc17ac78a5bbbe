"""The clock as a port, and the text format of instants in the database and in events."""

from datetime import UTC, date, datetime
from typing import Protocol

from popug_cli.kernel.stored_values import InvalidStoredValue


class Clock(Protocol):
    """The source of the current time."""

    def now(self) -> datetime:
        """Return the current instant, timezone-aware and in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the current instant, timezone-aware and in UTC."""
        return datetime.now(UTC)


def to_rfc3339(instant: datetime) -> str:
    """Return a timezone-aware instant as RFC 3339 in UTC with microseconds, so that texts sort like instants."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_rfc3339(text: str) -> datetime:
    """Return the instant of an ISO 8601 text, timezone-aware and in UTC.

    The texts of ``to_rfc3339`` are stored; other ISO 8601 texts are accepted as well, as ``datetime.fromisoformat``
    reads them. A text without an offset is taken as the machine's local time. Raise ``InvalidStoredValue`` for any
    other text, and for an instant that is in UTC before year 1 or after year 9999.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidStoredValue(f"{text!r} is not an instant") from error


def counts_for(business_date: date | None, today: date | None = None) -> str:
    """Return a note that money counts for another date than today; an empty text if it does not."""
    return "" if business_date in {None, today} else f" (counts for {business_date:%a %m-%d})"

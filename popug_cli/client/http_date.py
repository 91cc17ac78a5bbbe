"""Parse the ``Date`` field of an HTTP response."""

import re
from datetime import UTC, datetime, timedelta

CLOCK_TOLERANCE = timedelta(seconds=2)  # a Date field has whole seconds and is a little old on arrival
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)


def instant_of(field: str, *, later_seconds: float) -> datetime:
    """Return the instant `later_seconds` after a ``Date`` field (RFC 9110); raise ``ValueError`` for another text."""
    match = _DATE.fullmatch(field)
    if match is None or match[2] not in MONTHS:
        raise ValueError(field)
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    instant = datetime(year, MONTHS.index(match[2]) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    return instant + timedelta(seconds=later_seconds)

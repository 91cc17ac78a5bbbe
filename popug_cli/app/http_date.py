"""The time that an answer of HTTP tells."""

import re
from datetime import UTC, datetime, timedelta

AGREEMENT = timedelta(seconds=2)  # a date has no fractions, and took some time to come
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)


def instant_of(field: str, *, later_seconds: float) -> datetime:
    """The instant some seconds after the one of a field ``Date`` (RFC 9110); raises ``ValueError``."""
    found = _DATE.fullmatch(field)
    if found is None or found[2] not in MONTHS:
        raise ValueError(field)
    day, year, hour, minute, second = (int(found[place]) for place in (1, 3, 4, 5, 6))
    told = datetime(year, MONTHS.index(found[2]) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    return told + timedelta(seconds=later_seconds)

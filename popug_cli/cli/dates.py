"""Dates and times as people type them."""

import re
from datetime import UTC, date, datetime

from popug_cli.cli.face import Face
from popug_cli.kernel.errors import InvalidInput

RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
YEARS = range(2, 9999)


def parse_day(text: str, today: date) -> date:
    """An ISO date, ``today`` or ``yesterday``; raises ``invalid_date``."""
    if text == "today":
        return today
    if text == "yesterday":
        return date.fromordinal(max(1, today.toordinal() - 1))
    return parse_date(text)


def parse_date(text: str) -> date:
    """An ISO date; raises ``invalid_date``."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise InvalidInput(
            "invalid_date",
            f"{text!r} is no date.",
            hint="Write it as 2026-03-02, or say today or yesterday.",
            details={"date": text},
        )
    return day


def parse_time(text: str) -> datetime:
    """An instant in the way of RFC 3339; raises ``invalid_time``."""
    instant = _instant(text) if RFC_3339.fullmatch(text) else None
    if instant is None or instant.year not in YEARS:
        raise InvalidInput(
            "invalid_time",
            f"{text!r} is no instant.",
            hint="Write it as 2026-03-02T09:30:00Z or 2026-03-02T10:30:00+01:00.",
            details={"time": text},
        )
    return instant


def parse_day_or_time(text: str, today: date) -> tuple[date | None, datetime | None]:
    """A date or an instant, the other is None; raises ``invalid_date`` or ``invalid_time``."""
    return (None, parse_time(text)) if ":" in text else (parse_day(text, today), None)


def company_today(face: Face) -> date:
    """The present date in the company's zone."""
    now = face.place.now()
    return face.place.calendar.date_of(now)


def day_option(face: Face, text: str | None) -> date | None:
    """The value of an option that takes a date; None where it was not given."""
    return None if text is None else parse_day(text, company_today(face))


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None

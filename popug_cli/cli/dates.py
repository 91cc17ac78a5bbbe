"""Dates as people type them."""

from datetime import date, timedelta

from popug_cli.cli.face import Face
from popug_cli.kernel.errors import InvalidInput


def parse_day(text: str, today: date) -> date:
    """An ISO date, ``today`` or ``yesterday``; raises ``invalid_date``."""
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    if text in words:
        return words[text]
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


def company_today(face: Face) -> date:
    """The present date in the company's zone."""
    runtime = face.place.runtime
    today: date = runtime.calendar.date_of(runtime.clock.now())
    return today

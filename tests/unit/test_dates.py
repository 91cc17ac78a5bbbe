"""Dates and times, as users type them."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from popug_cli.cli.input.dates import parse_date, parse_day, parse_day_or_time, parse_time
from popug_cli.kernel.errors import InvalidInput

MONDAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("today", MONDAY),
        ("yesterday", date(2026, 3, 1)),
        ("2026-02-28", date(2026, 2, 28)),
        ("0001-01-01", date.min),
        ("9999-12-31", date.max),
    ],
)
def test_date_is_iso_or_a_word(text: str, found: date) -> None:
    assert parse_day(text, MONDAY) == found


@pytest.mark.parametrize(
    "text",
    ["", "2026-02-30", "20260302", "2026-W10-1", "2026-3-2", " 2026-03-02", "٢٠٢٦-٠٣-٠٢", "tomorrow", "10000-01-01"],
)
def test_other_text_is_not_a_date(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_date(text)
    assert caught.value.code == "invalid_date"


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T09:30:00Z",
        "2026-03-02t10:30:00.000+01:00",
        "2026-03-02 00:00:00-09:30",
        "2026-03-02T09:30:00.0000009z",
    ],
)
def test_instant_is_rfc_3339(text: str) -> None:
    assert parse_time(text) == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T09:30:00",
        "2026-03-02T09:30Z",
        "2026-03-02T24:30:00Z",
        "2026-03-02T09:30:00+25:00",
        "2026-03-02",
    ],
)
def test_other_text_is_not_an_instant(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_time(text)
    assert caught.value.code == "invalid_time"


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("0001-01-01T00:00:00+14:00", 2),
        ("0001-12-31T23:59:59Z", 2),
        ("9999-12-31T23:59:59-14:00", 9998),
        ("9999-12-31T23:59:59Z", 9998),
    ],
)
def test_instant_at_end_of_calendar_converts_to_any_zone(text: str, year: int) -> None:
    """Conversion to any zone stays within the calendar, so a query about the instant raises no error."""
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        assert parse_time(text).astimezone(ZoneInfo(zone)).year in {year, year - 1}


def test_date_and_instant_are_distinguished() -> None:
    assert parse_day_or_time("today", MONDAY) == (MONDAY, None)
    assert parse_day_or_time("2026-03-02T09:30:00Z", MONDAY) == (None, datetime(2026, 3, 2, 9, 30, tzinfo=UTC))

"""The company's calendar: the local date of an instant, the dates that its zone skipped, and which days may close."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.kernel.text import counted

NON_ZONE_NAMES = frozenset({"", "localtime", "posixrules", "Factory"})  # files in the zone data that are not zones
ONE_DAY = timedelta(days=1)
MAX_UNCONFIRMED_DAYS = 31


class Calendar:
    """Dates of one IANA time zone."""

    def __init__(self, time_zone: str) -> None:
        self.time_zone = time_zone
        self._zone = load_zone(time_zone)

    def local(self, instant: datetime) -> datetime:
        """Return the instant in the company's local time."""
        return instant.astimezone(self._zone)

    def date_of(self, instant: datetime) -> date:
        """Return the company's local date of an instant."""
        return self.local(instant).date()

    def first_instant_of(self, day: date, at: time) -> datetime:
        """Return the first instant, in UTC, at which the company's clocks show ``at`` on ``day``.

        If they skip that time (DST), return the instant at which they would have shown it without the skip.
        """
        return datetime.combine(day, at, self._zone).astimezone(UTC)

    def exists(self, day: date) -> bool:
        """Return whether the zone has this date (Pacific/Apia skipped 2011-12-30)."""
        noon = datetime.combine(day, time(12), self._zone)
        return noon.astimezone(UTC).astimezone(self._zone).date() == day

    def next_day(self, day: date) -> date:
        """Return the first later date that the zone has."""
        following = day + ONE_DAY
        return following if self.exists(following) else self.next_day(following)

    def previous_day(self, day: date) -> date:
        """Return the last earlier date that the zone has."""
        preceding = day - ONE_DAY
        return preceding if self.exists(preceding) else self.previous_day(preceding)

    def days(self, first: date, last: date) -> Iterator[date]:
        """Yield every date that the zone has from ``first`` to ``last``, both included."""
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(ordinal)
            if self.exists(day):
                yield day


def company_calendar(time_zone: str) -> Calendar:
    """Return the calendar of a company that exists; raise ``unknown_time_zone`` if this machine has no data for it."""
    try:
        return Calendar(time_zone)
    except InvalidInput as error:
        raise Unavailable(
            "unknown_time_zone",
            f"The company's time zone is {time_zone}, but this machine's time zone data does not contain it.",
            hint="Update tzdata: the package of your system, or `python3 -m pip install --upgrade tzdata` where popug"
            " is installed.",
            details={"time_zone": time_zone},
        ) from error


def load_zone(name: str) -> ZoneInfo:
    """Return the IANA zone of that name; raise ``invalid_time_zone`` for other names, such as ``localtime``."""
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        zone = None
    if zone is None or name in NON_ZONE_NAMES or name.startswith(("right/", "posix/")):
        raise InvalidInput(
            "invalid_time_zone",
            f"There is no time zone called {name!r}.",
            hint=f"{_suggest_zones(name)}Use an IANA name such as Europe/Berlin or America/New_York.",
            details={"time_zone": name},
        )
    return zone


def validate_close_date(day: date, today: date, first_day: date | None) -> None:
    """Reject a day in the future or before the company's first day.

    Raise ``future_date`` or ``before_first_day``.
    """
    if day > today:
        raise InvalidInput(
            "future_date",
            f"{day} is in the future; today is {today}.",
            hint="Close today with `popug close-day`.",
            details={"date": day.isoformat(), "today": today.isoformat()},
        )
    if first_day is None or day < first_day:
        reason = f"The company's first day is {first_day}" if first_day else "The company has no days yet"
        raise InvalidInput(
            "before_first_day",
            f"{day} cannot be closed. {reason}.",
            hint="Run `popug income` to see the company's days.",
            details={"date": day.isoformat(), "first_day": first_day.isoformat() if first_day else None},
        )


def nonexistent_day(day: date, time_zone: str) -> InvalidInput:
    """Return the error for a date that the time zone skipped, such as 2011-12-30 in Pacific/Apia."""
    return InvalidInput(
        "no_such_day",
        f"The date {day} does not exist in {time_zone}.",
        hint="Close the day before or the day after it.",
        details={"date": day.isoformat(), "time_zone": time_zone},
    )


def require_confirmation(days_count: int, *, confirmed: bool) -> None:
    """Raise ``needs_yes`` if too many days would be closed without confirmation, because the clock may be wrong."""
    if days_count > MAX_UNCONFIRMED_DAYS and not confirmed:
        raise InvalidInput(
            "needs_yes",
            f"This would close {counted(days_count, 'day')} at once, more than {MAX_UNCONFIRMED_DAYS}.",
            hint="Check the clock, then confirm with --yes.",
            details={"days": days_count},
        )


def _suggest_zones(name: str) -> str:
    """Return a sentence, followed by a space, with up to three zones whose last part is ``name``, or an empty text.

    Case does not matter.
    """
    typed = "/" + name.strip().replace(" ", "_").lower()
    known = available_timezones() - NON_ZONE_NAMES
    matches = sorted(zone_name for zone_name in known if f"/{zone_name.lower()}".endswith(typed))
    return f"Did you mean {' or '.join(matches[:3])}? " if matches and len(typed) > 1 else ""

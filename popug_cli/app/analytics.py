"""Analytics now, from its own read model; and as of an instant, from what the ledger had recorded by then."""

from datetime import datetime
from typing import TYPE_CHECKING

from popug_cli.analytics import queries, rules
from popug_cli.analytics.rules import Candidate
from popug_cli.billing.known import Rewarded, dearest_by_day, in_red_on, income_on
from popug_cli.bus.runtime import Context
from popug_cli.messages.analytics import Analytics, GetAnalytics
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local


def get_analytics(place: "Local", message: GetAnalytics, principal: Principal) -> Analytics:
    """The figures of a date, today by default: as they are, or as they were known at an instant."""
    place.catch_up()
    with place.runtime.reading(principal) as context:
        if message.as_of_time is None:
            return queries.get_analytics(message, context)
        return _known(message, message.as_of_time, context)


def _known(message: GetAnalytics, known_at: datetime, context: Context) -> Analytics:
    day = message.day or context.calendar.date_of(known_at)
    found = [_candidate(each) for each in dearest_by_day(*rules.periods_around(day), known_at, context)]
    return Analytics(
        business_date=day,
        income_cents=income_on(day, known_at, context),
        in_red_count=in_red_on(day, known_at, context),
        most_expensive=queries.most_expensive(day, found),
    )


def _candidate(found: Rewarded) -> Candidate:
    return Candidate(-found.reward_cents, found.completed_at, found.number, found.title, found.business_date)

"""Analytics: current figures from the read model, and figures as of an instant from the ledger."""

from datetime import datetime
from typing import TYPE_CHECKING

from popug_cli.analytics import queries, rules
from popug_cli.analytics.rules import MostExpensiveCandidate
from popug_cli.billing.as_of import HighestReward, highest_reward_by_day, in_red_as_of, income_as_of
from popug_cli.bus.context import Context
from popug_cli.messages.analytics import Analytics, GetAnalytics
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def get_analytics(backend: "LocalBackend", message: GetAnalytics, principal: Principal) -> Analytics:
    """Return the figures of a date (default: today), current or as they were known at `message.as_of_time`."""
    backend.catch_up()
    with backend.querying(principal) as context:
        if message.as_of_time is None:
            return queries.get_analytics(message, context)
        return _known_at(message, message.as_of_time, context)


def _known_at(message: GetAnalytics, as_of: datetime, context: Context) -> Analytics:
    day = message.day or context.calendar.date_of(as_of)
    candidates = [
        _candidate(rewarded) for rewarded in highest_reward_by_day(*rules.periods_around(day), as_of, context)
    ]
    return Analytics(
        business_date=day,
        income_cents=income_as_of(day, as_of, context),
        in_red_count=in_red_as_of(day, as_of, context),
        most_expensive=queries.most_expensive_tasks(day, candidates),
    )


def _candidate(rewarded: HighestReward) -> MostExpensiveCandidate:
    return MostExpensiveCandidate(
        -rewarded.reward_cents, rewarded.completed_at, rewarded.number, rewarded.title, rewarded.business_date
    )

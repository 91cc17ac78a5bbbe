"""Analytics: current figures from its read model, and figures as of an instant from billing's ledger."""

from typing import TYPE_CHECKING

from popug_cli.messages.analytics import Analytics, GetAnalytics
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def get_analytics(backend: "LocalBackend", message: GetAnalytics, principal: Principal) -> Analytics:
    """Return the figures of a date (default: today), current or as they were known at `message.as_of_time`."""
    backend.catch_up()
    with backend.asking(principal) as company:
        if message.as_of_time is None:
            return company.ask(message)
        from popug_cli.messages.internal.billing import GetAnalyticsAsOf

        return company.ask(GetAnalyticsAsOf(day=message.day, as_of_time=message.as_of_time))

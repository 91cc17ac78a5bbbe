"""Queue the summaries of closed days, composed from mail's records and analytics' most expensive task."""

from typing import TYPE_CHECKING

from popug_cli.analytics.queries import get_analytics
from popug_cli.mail import summary
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def queue_summaries(backend: "LocalBackend", principal: Principal) -> None:
    """Queue the summary of every closed day that has none yet, including days that a crash left out."""
    with backend.runtime.reading(principal) as context:
        if not summary.due_days(context):
            return
    with backend.runtime.writing(principal) as context:
        for figures in summary.due_days(context):
            analytics = get_analytics(GetAnalytics(day=figures.business_date), context)
            summary.enqueue(summary.Summary(figures, analytics.most_expensive.day), context)


def count_dry_run(backend: "LocalBackend", principal: Principal, days: int) -> int:
    """Return how many summaries the close of `days` days would queue."""
    if not backend.runtime.settings.flag("mail.summary"):
        return 0
    with backend.runtime.reading(principal) as context:
        return days * len(summary.recipients(context))

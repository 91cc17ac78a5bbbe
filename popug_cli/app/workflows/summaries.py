"""Telling management of closed days: mail knows which and to whom, analytics the dearest task."""

from typing import TYPE_CHECKING

from popug_cli.analytics.queries import get_analytics
from popug_cli.mail import summary
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def queue_summaries(backend: "LocalBackend", principal: Principal) -> None:
    """Queue the summary of every closed day that is still to be told; what a crash left out is told by the next."""
    with backend.runtime.reading(principal) as context:
        if not summary.due_days(context):
            return
    with backend.runtime.writing(principal) as context:
        for figures in summary.due_days(context):
            analytics = get_analytics(GetAnalytics(day=figures.business_date), context)
            summary.enqueue(summary.Summary(figures, analytics.most_expensive.day), context)


def count_dry_run(backend: "LocalBackend", principal: Principal, days: int) -> int:
    """How many summaries a close of so many days would queue."""
    if not backend.runtime.settings.flag("mail.summary"):
        return 0
    with backend.runtime.reading(principal) as context:
        return days * len(summary.recipients(context))

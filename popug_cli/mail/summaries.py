"""Queue the summaries of closed days, composed from mail's records and analytics' most expensive task."""

from popug_cli.bus.context import Context
from popug_cli.bus.workflow import WorkflowBackend
from popug_cli.mail import summary
from popug_cli.messages.base import Nothing
from popug_cli.messages.internal.analytics import GetMostExpensiveTask
from popug_cli.messages.internal.mail import CountSummaries, QueueSummaries, SummaryCount
from popug_cli.messages.principal import Principal


def queue_summaries(backend: WorkflowBackend, message: QueueSummaries, principal: Principal) -> Nothing:
    """Queue the summary of every closed day that has none yet, including days that a crash left out.

    Analytics is asked on a snapshot before the transaction that queues: a closed day does not change.
    """
    with backend.asking(principal, is_command=True) as company:
        top_tasks = {
            figures.business_date: company.ask(GetMostExpensiveTask(day=figures.business_date)).task
            for figures in summary.due_days(company.context)
        }
    if top_tasks:
        with backend.runtime.writing(principal) as context:
            for figures in summary.due_days(context):
                if figures.business_date in top_tasks:
                    summary.enqueue(summary.Summary(figures, top_tasks[figures.business_date]), context)
    return Nothing()


def count_summaries(message: CountSummaries, context: Context) -> SummaryCount:
    """Return how many summaries the close of some days would queue."""
    if not context.settings.flag("mail.summary"):
        return SummaryCount(0)
    return SummaryCount(message.days * len(summary.recipients(context)))

"""Explain a task: tasks knows its number, billing its price and its entries."""

from typing import TYPE_CHECKING

from popug_cli.messages.company import ExplainTask, Explanation
from popug_cli.messages.internal.billing import ExplainTaskEntries
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import GetTask

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def explain_task(backend: "LocalBackend", message: ExplainTask, principal: Principal) -> Explanation:
    """Explain how a task changed the balances that the principal may see; raise ``task_not_found``."""
    backend.catch_up()
    with backend.asking(principal) as company:
        task = company.ask(GetTask(number=message.number))
        return company.ask(ExplainTaskEntries(task_id=task.task_id))

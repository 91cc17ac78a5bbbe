"""A task with its history and its ledger entries."""

from typing import TYPE_CHECKING

from popug_cli.app.asking import ask_or_warn
from popug_cli.messages.billing import ListTaskEntries
from popug_cli.messages.company import ShowTask, TaskDetails
from popug_cli.messages.internal.tasks import ListTaskHistory
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import GetTask

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def show_task(backend: "LocalBackend", message: ShowTask, principal: Principal) -> TaskDetails:
    """Return a task, its history, and the entries that the principal may see; raise ``task_not_found``."""
    backend.catch_up()
    with backend.asking(principal) as company:
        task = company.ask(GetTask(number=message.number))
        history = company.ask(ListTaskHistory(task_id=task.task_id))
        asked = ListTaskEntries(task_id=task.task_id)
        entries = ask_or_warn(backend, company, asked, "The entries of the task are missing.")
        return TaskDetails(task, history.lines, entries.entries if entries else [])

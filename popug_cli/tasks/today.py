"""The parts of the caller's day that tasks knows besides the list of tasks."""

from popug_cli.bus.context import Context
from popug_cli.messages.internal.tasks import Assignability, CheckAssignability, FoundTasks, GetTasks
from popug_cli.tasks import people, queries


def get_tasks(message: GetTasks, context: Context) -> FoundTasks:
    """Return those of some tasks that exist, in no order."""
    return FoundTasks(queries.tasks_by_id([*message.task_ids], context))


def check_assignability(message: CheckAssignability, context: Context) -> Assignability:
    """Return whether any user is assignable now."""
    return Assignability(people.anybody_assignable(context))

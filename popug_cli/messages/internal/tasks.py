"""Internal messages of tasks."""

from collections.abc import Collection

import msgspec

from popug_cli.messages.base import EVERYONE, Id, Query, declare
from popug_cli.messages.tasks import HistoryLine, Task


class TaskHistory(msgspec.Struct, frozen=True):
    """The history of a task, oldest first."""

    lines: list[HistoryLine]


class FoundTasks(msgspec.Struct, frozen=True):
    """Those of the requested tasks that exist, in no order."""

    tasks: list[Task]


class Assignability(msgspec.Struct, frozen=True):
    """Whether a new task can be assigned to any user."""

    anybody: bool


@declare("task show", roles=EVERYONE, handler="tasks.history")
class ListTaskHistory(Query[TaskHistory], frozen=True, kw_only=True):
    """Return the history of a task."""

    task_id: Id


@declare("today", roles=EVERYONE, handler="tasks.today")
class GetTasks(Query[FoundTasks], frozen=True, kw_only=True):
    """Return those of some tasks that exist, in no order."""

    task_ids: Collection[Id]


@declare("today", roles=EVERYONE, handler="tasks.today")
class CheckAssignability(Query[Assignability], frozen=True):
    """Return whether any user is assignable now."""

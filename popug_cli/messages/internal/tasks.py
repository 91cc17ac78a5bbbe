"""Internal messages of tasks."""

from collections.abc import Collection
from datetime import date

import msgspec

from popug_cli.messages.base import ACCOUNTING, EVERYONE, Command, Id, Query, declare
from popug_cli.messages.identity import Scope
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


class EndedDay(msgspec.Struct, frozen=True):
    """The first ended day at or after the one asked for, and the id of its ``day_ended``.

    The id is None for a day that was closed before tasks recorded the end of days.
    """

    day: date
    event_id: str | None


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}), handler="tasks.end_day")
class EndDay(Command[EndedDay], frozen=True, kw_only=True):
    """End a day and all before it, as the first part of a close; a day that has ended already stays as it is.

    More than ``MAX_UNCONFIRMED_DAYS`` days at once are refused unless they are ``confirmed``.
    """

    day: date
    confirmed: bool = False


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

"""Messages of tasks: creating, drawing, shuffling, completing."""

from collections.abc import Collection
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from popug_cli.messages.base import (
    EVERYONE,
    SHUFFLERS,
    Command,
    Count,
    Event,
    Id,
    ImportResult,
    Instant,
    Limit,
    Query,
    declare,
    event,
)

TaskNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class TaskStatus(StrEnum):
    """The status of a task."""

    OPEN = "open"
    COMPLETED = "completed"


class StatusFilter(StrEnum):
    """The tasks that a list shows."""

    OPEN = "open"
    COMPLETED = "completed"
    ALL = "all"


class TaskSort(StrEnum):
    """The order of a list: by number, by reward from the highest, by age from the oldest."""

    NUMBER = "number"
    REWARD = "reward"
    AGE = "age"


class AssignmentReason(StrEnum):
    """The reason for an assignment."""

    CREATED = "created"
    SHUFFLED = "shuffled"
    ASSIGNEE_LEFT = "assignee_left"


class Task(msgspec.Struct, frozen=True):
    """A task; creator and assignee are usernames, a price is null until it is set."""

    task_id: str
    number: int
    title: str
    jira_id: str | None
    status: TaskStatus
    creator: str
    assignee: str
    fee_cents: int | None
    reward_cents: int | None
    created_at: datetime
    completed_at: datetime | None


class HistoryLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event in the history of a task; users are given by username."""

    at: datetime
    event: str
    actor: str
    event_id: str
    assignee: str | None = None
    previous_assignee: str | None = None
    reason: str | None = None
    shuffle_id: str | None = None
    fee_cents: int | None = None
    reward_cents: int | None = None


class ChangedTask(Task, frozen=True, omit_defaults=True):
    """A task after a command that moves money.

    ``counts_for`` is the business date of money that moves now; it is left out if that is today.
    """

    counts_for: date | None = None


class TaskPage(msgspec.Struct, frozen=True):
    """Some of the tasks that match; ``total`` and the sums of fees and rewards are those of all that match."""

    tasks: list[Task]
    total: int
    fees_cents: int = 0
    rewards_cents: int = 0


class TaskChunk(msgspec.Struct, frozen=True):
    """Consecutive tasks by number."""

    tasks: list[Task]


class Shuffle(msgspec.Struct, frozen=True):
    """The result of a shuffle."""

    shuffle_id: str
    task_count: int
    candidates_count: int


class WrongDraw(msgspec.Struct, frozen=True):
    """A task whose recorded assignee is not the one that the shuffle's draw gives."""

    number: int
    recorded: str
    expected: str


class ShuffleCheck(msgspec.Struct, frozen=True):
    """The result of repeating the draws of a shuffle."""

    shuffle_id: str
    checked: int
    different: list[WrongDraw]


class PersonFairness(msgspec.Struct, frozen=True):
    """The number of tasks that draws gave to a user, and its expected value if all draws are fair."""

    username: str
    assigned: int
    expected: float


class Fairness(msgspec.Struct, frozen=True):
    """The assignments of each user; ``p_value`` is the probability that fair draws are at least as uneven."""

    people: list[PersonFairness]
    p_value: float


class NewTask(msgspec.Struct, frozen=True):
    """One line of an import of tasks; other fields of an exported task are ignored."""

    title: str
    jira_id: str | None = None
    task_id: str | None = None


class TakenId(msgspec.Struct, frozen=True):
    """A line of an import that created no task, because its jira id or task id was imported with another title.

    ``number``, ``taken_title`` and ``creator`` are those of the task that has the id.
    """

    line: int
    id: str
    title: str
    number: int
    taken_title: str
    creator: str


class TaskImportResult(ImportResult, frozen=True):
    """The result of an import of tasks. ``taken`` holds the first of the lines with a taken id, which are skipped."""

    taken: tuple[TakenId, ...] = ()
    taken_count: int = 0


@declare("task add", roles=EVERYONE)
class AddTask(Command[ChangedTask], frozen=True, kw_only=True):
    """Create a task and assign it at random."""

    title: str
    jira_id: str | None = None


@declare("task complete", roles=EVERYONE)
class CompleteTask(Command[ChangedTask], frozen=True, kw_only=True):
    """Complete an open task that is assigned to the sender."""

    number: int


@declare("tasks shuffle", roles=SHUFFLERS)
class ShuffleTasks(Command[Shuffle], frozen=True):
    """Draw a new assignee for every open task."""


@declare("tasks import", roles=EVERYONE)
class ImportTasks(Command[TaskImportResult], frozen=True, kw_only=True):
    """Create many tasks at once, all or none; lines that were imported before are skipped, unless ``again``.

    ``lines`` has an item for each line of the file, None for a blank line.
    """

    lines: Collection[NewTask | None]
    again: bool = False


@declare("task show", roles=EVERYONE)
class GetTask(Query[Task], frozen=True, kw_only=True):
    """Return one task."""

    number: int


@declare("tasks list", roles=EVERYONE)
class ListTasks(Query[TaskPage], frozen=True, kw_only=True):
    """Return the tasks that pass every filter that is set; users are given by username.

    ``since`` (inclusive) and ``until`` (exclusive) concern the creation, or the completion if ``status`` is
    ``completed``.
    """

    status: StatusFilter = StatusFilter.OPEN
    assignee: str | None = None
    creator: str | None = None
    jira_id: str | None = None
    search: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    sort: TaskSort = TaskSort.NUMBER
    backwards: bool = False
    limit: Limit | None = None
    offset: Count = 0


@declare("tasks export", roles=EVERYONE)
class ExportTasks(Query[TaskChunk], frozen=True, kw_only=True):
    """Return the next tasks after a number."""

    after: Count = 0
    limit: Limit = 1000


@declare("tasks shuffle", roles=SHUFFLERS)
class GetShuffle(Query[Shuffle], frozen=True, kw_only=True):
    """Return the result of a shuffle."""

    shuffle_id: str


@declare("tasks verify", roles=EVERYONE)
class VerifyShuffle(Query[ShuffleCheck], frozen=True, kw_only=True):
    """Repeat the draws of a shuffle and compare them with the record."""

    shuffle_id: str


@declare("tasks fairness", roles=EVERYONE)
class GetFairness(Query[Fairness], frozen=True):
    """Return the fairness of all draws of assignees."""


class AssigneeDraw(msgspec.Struct, frozen=True):
    """The draw of an assignee; ``candidates_as_of`` is a position in the log."""

    seed: str
    algorithm: str
    candidates_as_of: int


@event("tasks", 1, subject_field="task_id")
class TaskCreatedV1(Event, frozen=True, kw_only=True):
    """A task was created; the jira id, if any, is in brackets in the title. Not written any more."""

    task_id: Id
    number: TaskNumber
    title: str
    creator_id: Id
    assignee_id: Id


@event("tasks", 2, subject_field="task_id")
class TaskCreated(Event, frozen=True, kw_only=True):
    """A task was created."""

    task_id: Id
    number: TaskNumber
    title: str
    creator_id: Id
    assignee_id: Id
    jira_id: str | None = None


@event("tasks", 1, subject_field="shuffle_id")
class ShuffleRequested(Event, frozen=True, kw_only=True):
    """A user requested a shuffle of all open tasks."""

    shuffle_id: Id
    requested_by: Id


@event("tasks", 1, subject_field="task_id")
class TaskAssigned(Event, frozen=True, kw_only=True):
    """A task was assigned; the assignee is charged the fee."""

    task_id: Id
    assignee_id: Id
    reason: AssignmentReason
    draw: AssigneeDraw
    previous_assignee_id: Id | None = None
    shuffle_id: Id | None = None


@event("tasks", 1, subject_field="shuffle_id")
class TasksShuffled(Event, frozen=True, kw_only=True):
    """A new assignee was drawn for every open task."""

    shuffle_id: Id
    requested_by: Id
    draw: AssigneeDraw
    candidates_count: Count
    task_count: Count


@event("tasks", 1, subject_field="shuffle_id")
class ShuffleFailed(Event, frozen=True, kw_only=True):
    """A shuffle failed and was abandoned."""

    shuffle_id: Id
    requested_by: Id
    error: str


@event("tasks", 1, subject_field="business_date")
class DayEnded(Event, frozen=True, kw_only=True):
    """A day ended, and all days before it: what tasks publishes after this event counts for a later day."""

    business_date: date


@event("tasks", 1, subject_field="task_id")
class TaskCompleted(Event, frozen=True, kw_only=True):
    """The assignee completed a task."""

    task_id: Id
    assignee_id: Id
    completed_at: datetime

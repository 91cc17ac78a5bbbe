"""What is said to and by tasks: creating, drawing, shuffling, completing."""

from collections.abc import Collection
from datetime import datetime
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
    Limit,
    Query,
    declare,
    event,
)

TaskNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class TaskStatus(StrEnum):
    """Where a task stands."""

    OPEN = "open"
    COMPLETED = "completed"


class StatusFilter(StrEnum):
    """Which tasks a list shows."""

    OPEN = "open"
    COMPLETED = "completed"
    ALL = "all"


class TaskSort(StrEnum):
    """By what a list is sorted: numbers upwards, the dearest first, the oldest first."""

    NUMBER = "number"
    REWARD = "reward"
    AGE = "age"


class AssignmentReason(StrEnum):
    """Why somebody got a task."""

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


class TaskPage(msgspec.Struct, frozen=True):
    """Some of the tasks that were asked for; how many there are in all, and what all of them cost and bring."""

    tasks: list[Task]
    total: int
    fees_cents: int = 0
    rewards_cents: int = 0


class TaskChunk(msgspec.Struct, frozen=True):
    """Some tasks that follow each other by number."""

    tasks: list[Task]


class Shuffle(msgspec.Struct, frozen=True):
    """What came of a shuffle."""

    shuffle_id: str
    task_count: int
    candidates_count: int


class WrongDraw(msgspec.Struct, frozen=True):
    """A task that a shuffle gave to somebody else than its draw says."""

    number: int
    recorded: str
    expected: str


class ShuffleCheck(msgspec.Struct, frozen=True):
    """The draws of a shuffle, done again."""

    shuffle_id: str
    checked: int
    different: list[WrongDraw]


class PersonFairness(msgspec.Struct, frozen=True):
    """How many draws gave a task to somebody, and how many chance gives on average to who took part in as many."""

    username: str
    assigned: int
    expected: float


class Fairness(msgspec.Struct, frozen=True):
    """What each person got beside what chance would give, and the probability of a result at least as uneven."""

    people: list[PersonFairness]
    p_value: float


class NewTask(msgspec.Struct, frozen=True):
    """One line of an import of tasks; what else an exported task holds is passed over."""

    title: str
    jira_id: str | None = None
    task_id: str | None = None


@declare("task add", roles=EVERYONE)
class AddTask(Command[Task], frozen=True, kw_only=True):
    """Create a task; chance assigns it."""

    title: str
    jira_id: str | None = None


@declare("task complete", roles=EVERYONE)
class CompleteTask(Command[Task], frozen=True, kw_only=True):
    """Complete an open task that is one's own."""

    number: int


@declare("tasks shuffle", roles=SHUFFLERS)
class ShuffleTasks(Command[Shuffle], frozen=True):
    """Draw a new assignee for every open task."""


@declare("tasks import", roles=EVERYONE)
class ImportTasks(Command[ImportResult], frozen=True, kw_only=True):
    """Create many tasks at once, all or none; lines that were imported before are skipped.

    ``lines`` has a place for each line of the file, with None where the line was blank.
    """

    lines: Collection[NewTask | None]


@declare("task show", roles=EVERYONE)
class GetTask(Query[Task], frozen=True, kw_only=True):
    """Ask for one task."""

    number: int


@declare("tasks list", roles=EVERYONE)
class ListTasks(Query[TaskPage], frozen=True, kw_only=True):
    """Ask for tasks that pass every filter that is set; people are usernames.

    ``since`` (inclusive) and ``until`` (exclusive) are about the creation, or the completion where only completed tasks
    are asked for.
    """

    status: StatusFilter = StatusFilter.OPEN
    assignee: str | None = None
    creator: str | None = None
    jira_id: str | None = None
    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: TaskSort = TaskSort.NUMBER
    backwards: bool = False
    limit: Limit | None = None
    offset: Count = 0


@declare("tasks export", roles=EVERYONE)
class ExportTasks(Query[TaskChunk], frozen=True, kw_only=True):
    """Ask for the next tasks after a number."""

    after: Count = 0
    limit: Limit = 1000


@declare("tasks shuffle", roles=SHUFFLERS)
class GetShuffle(Query[Shuffle], frozen=True, kw_only=True):
    """Ask what came of a shuffle."""

    shuffle_id: str


@declare("tasks verify", roles=EVERYONE)
class VerifyShuffle(Query[ShuffleCheck], frozen=True, kw_only=True):
    """Do the draws of a shuffle again."""

    shuffle_id: str


@declare("tasks fairness", roles=EVERYONE)
class GetFairness(Query[Fairness], frozen=True):
    """Ask how evenly all draws of assignees turned out."""


class AssigneeDraw(msgspec.Struct, frozen=True):
    """How an assignee was drawn; ``candidates_as_of`` is a position in the log."""

    seed: str
    algorithm: str
    candidates_as_of: int


@event("tasks", 1, subject_field="task_id")
class TaskCreatedV1(Event, frozen=True, kw_only=True):
    """A task came into being; the jira id, if any, stands in brackets in the title. No longer written."""

    task_id: Id
    number: TaskNumber
    title: str
    creator_id: Id
    assignee_id: Id


@event("tasks", 2, subject_field="task_id")
class TaskCreated(Event, frozen=True, kw_only=True):
    """A task came into being."""

    task_id: Id
    number: TaskNumber
    title: str
    creator_id: Id
    assignee_id: Id
    jira_id: str | None = None


@event("tasks", 1, subject_field="shuffle_id")
class ShuffleRequested(Event, frozen=True, kw_only=True):
    """Somebody pressed the reassign button."""

    shuffle_id: Id
    requested_by: Id


@event("tasks", 1, subject_field="task_id")
class TaskAssigned(Event, frozen=True, kw_only=True):
    """A task has this assignee now, and it costs them the fee."""

    task_id: Id
    assignee_id: Id
    reason: AssignmentReason
    draw: AssigneeDraw
    previous_assignee_id: Id | None = None
    shuffle_id: Id | None = None


@event("tasks", 1, subject_field="shuffle_id")
class TasksShuffled(Event, frozen=True, kw_only=True):
    """Every open task was drawn anew."""

    shuffle_id: Id
    requested_by: Id
    draw: AssigneeDraw
    candidates_count: Count
    task_count: Count


@event("tasks", 1, subject_field="shuffle_id")
class ShuffleFailed(Event, frozen=True, kw_only=True):
    """A shuffle could not be done and was dropped."""

    shuffle_id: Id
    requested_by: Id
    error: str


@event("tasks", 1, subject_field="task_id")
class TaskCompleted(Event, frozen=True, kw_only=True):
    """The assignee completed a task."""

    task_id: Id
    assignee_id: Id
    completed_at: datetime

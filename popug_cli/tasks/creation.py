"""Bringing tasks into being, each with its first assignee."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.messages.tasks import AssignmentReason, TaskAssigned, TaskCreated
from popug_cli.storage.engine import insert_many, scalar
from popug_cli.tasks import refusals
from popug_cli.tasks.assignments import Lot, new_lot
from popug_cli.tasks.rules import Titled

_INSERT = (
    "INSERT INTO tasks_tasks (number, task_id, title, jira_id, search_text, creator_id, assignee_id,"
    " created_at, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open')"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A task that is about to be."""

    number: int
    task_id: str
    assignee_id: str
    titled: Titled

    def row(self, creator_id: str, created_at: str) -> tuple[int | str | None, ...]:
        """Its row, in the order of ``_INSERT``."""
        titled = self.titled
        told = (titled.title, titled.jira_id, titled.search_text)
        return (self.number, self.task_id, *told, creator_id, self.assignee_id, created_at)


def lot_for_new_tasks(context: Context) -> Lot:
    """The draw for tasks that are about to be; raises ``nobody_assignable``."""
    lot = new_lot(context)
    if not lot.candidates:
        raise refusals.nobody_assignable()
    return lot


def create(titles: Iterable[Titled], lot: Lot, context: Context) -> range:
    """Create some thousands of tasks at most and assign each by chance; their numbers come back."""
    assert context.principal.user_id, "tasks are created by people"
    first = (scalar(context.connection, "SELECT max(number) FROM tasks_tasks") or 0) + 1
    drafts = [_draft(number, titled, lot, context) for number, titled in enumerate(titles, start=first)]
    _insert(drafts, context)
    _publish(drafts, lot, context)
    return range(first, first + len(drafts))


def _draft(number: int, titled: Titled, lot: Lot, context: Context) -> Draft:
    task_id = context.events.new_id()
    return Draft(number, task_id, lot.assignee_of(task_id), titled)


def _insert(drafts: Sequence[Draft], context: Context) -> None:
    creator_id, created_at = context.principal.user_id, stamp(context.now)
    insert_many(context.connection, _INSERT, [draft.row(creator_id, created_at) for draft in drafts])


def _publish(drafts: Sequence[Draft], lot: Lot, context: Context) -> None:
    """Say of all that they were created, then of each to whom it went and by which of those events."""
    created = [context.events.publish(_created(draft, context)) for draft in drafts]
    for draft, created_id in zip(drafts, created, strict=True):
        assigned = TaskAssigned(
            task_id=draft.task_id, assignee_id=draft.assignee_id, reason=AssignmentReason.CREATED, draw=lot.draw
        )
        context.events.publish(assigned, causation_id=created_id)


def _created(draft: Draft, context: Context) -> TaskCreated:
    return TaskCreated(
        task_id=draft.task_id,
        number=draft.number,
        title=draft.titled.title,
        jira_id=draft.titled.jira_id,
        creator_id=context.principal.user_id,
        assignee_id=draft.assignee_id,
    )

"""A shuffle: its request, its run, its failure and its stored result."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import AssignmentReason, ShuffleFailed, ShuffleRequested, TasksShuffled
from popug_cli.tasks import days
from popug_cli.tasks.assignments import (
    DrawWithCandidates,
    Reassignment,
    count_open_tasks,
    new_draw,
    open_tasks,
    reassign,
)

NOBODY_ASSIGNABLE = "no user is assignable"


class StoredShuffle(NamedTuple):
    """A shuffle's row; the positions are those of its assignments in the log, or None if it assigned nothing."""

    shuffle_id: str
    state: str
    error: str | None
    task_count: int
    candidates_count: int
    first_sequence: int | None
    last_sequence: int | None


def run_shuffle(request: Delivered[ShuffleRequested], context: Context) -> None:
    """Draw a new assignee for every open task, and publish ``tasks_shuffled``.

    Without candidates for open tasks, ``fail`` the request. Do nothing if the request is done or failed already.
    """
    if not _record_and_check_pending(request, context):
        return
    shuffle_id = request.data.shuffle_id
    task_count, draw = count_open_tasks(context), new_draw("shuffle", shuffle_id, context)
    if task_count and not draw.candidates:
        fail(request, NOBODY_ASSIGNABLE, context)
        return
    context.events.flush()
    position_before = context.log.last_position()
    business_date = days.business_date(context)
    reassignment = Reassignment("Shuffling", AssignmentReason.SHUFFLED, request, business_date, shuffle_id)
    reassign(open_tasks(context), task_count, draw, reassignment, context)
    _record_result(shuffle_id, draw, task_count, position_before, context)
    context.events.publish(
        TasksShuffled(
            shuffle_id=shuffle_id,
            requested_by=request.data.requested_by,
            draw=draw.parameters,
            candidates_count=len(draw.candidates),
            task_count=task_count,
        ),
        cause=request,
        business_date=business_date,
    )


def fail(request: Delivered[ShuffleRequested], error: str, context: Context) -> None:
    """Drop a request permanently and publish ``shuffle_failed``; do nothing if it is done or failed already."""
    if not _record_and_check_pending(request, context):
        return
    shuffle_id = request.data.shuffle_id
    _finish(shuffle_id, "state = 'failed', error = :error", {"error": error}, context)
    context.events.publish(
        ShuffleFailed(shuffle_id=shuffle_id, requested_by=request.data.requested_by, error=error),
        cause=request,
        business_date=days.business_date(context),
    )


def record_request(shuffle_id: str, requested_by: str, requested_at: datetime, context: Context) -> None:
    """Store a request for a shuffle; leave an existing row unchanged."""
    context.connection.execute(
        "INSERT INTO tasks_shuffles (shuffle_id, requested_by, requested_at, state)"
        " VALUES (:shuffle_id, :requested_by, :requested_at, 'requested') ON CONFLICT (shuffle_id) DO NOTHING",
        shuffle_id=shuffle_id,
        requested_by=requested_by,
        requested_at=to_rfc3339(requested_at),
    )


def find(shuffle_id: str, context: Context) -> StoredShuffle | None:
    """Return a shuffle, or None."""
    columns = ", ".join(StoredShuffle._fields)
    statement = f"SELECT {columns} FROM tasks_shuffles WHERE shuffle_id = :shuffle_id"
    row = context.connection.select_one(statement, shuffle_id=shuffle_id)
    return StoredShuffle._make(row) if row else None


def _record_and_check_pending(request: Delivered[ShuffleRequested], context: Context) -> bool:
    """Store the request unless it is stored, and return whether it is neither done nor failed."""
    shuffle_id = request.data.shuffle_id
    record_request(shuffle_id, request.data.requested_by, request.time, context)
    shuffle = find(shuffle_id, context)
    return shuffle is not None and shuffle.state == "requested"


def _record_result(
    shuffle_id: str, draw: DrawWithCandidates, task_count: int, position_before: int, context: Context
) -> None:
    _finish(
        shuffle_id,
        "state = 'done', seed = :seed, algorithm = :algorithm, candidates_as_of = :candidates_as_of,"
        " candidates_count = :candidates_count, task_count = :task_count,"
        " first_sequence = :first_sequence, last_sequence = :last_sequence",
        {
            "seed": draw.parameters.seed,
            "algorithm": draw.parameters.algorithm,
            "candidates_as_of": draw.parameters.candidates_as_of,
            "candidates_count": len(draw.candidates),
            "task_count": task_count,
            "first_sequence": position_before + 1 if task_count else None,
            "last_sequence": position_before + task_count if task_count else None,
        },
        context,
    )


def _finish(shuffle_id: str, set_clause: str, values: Mapping[str, object], context: Context) -> None:
    statement = f"UPDATE tasks_shuffles SET {set_clause} WHERE shuffle_id = :shuffle_id"
    context.connection.execute(statement, **values, shuffle_id=shuffle_id)

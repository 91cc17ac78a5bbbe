"""Repeat every draw: prices, first assignees, shuffles and other reassignments.

Assignments and shuffles that another program inserted into the log are not repeated; prices are.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from popug_cli.audit.log_pass import LogBatch, LogCheck, has_enough
from popug_cli.audit.reading import read_rare_events
from popug_cli.audit.result import check_result
from popug_cli.billing.rules import draw_price_cents
from popug_cli.bus.context import Context
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.kernel.draws import ALGORITHM
from popug_cli.kernel.text import counted
from popug_cli.messages.billing import TaskPriced
from popug_cli.messages.tasks import AssigneeDraw, AssignmentReason, TaskAssigned, TasksShuffled
from popug_cli.tasks.people import Candidates
from popug_cli.tasks.rules import draw_assignee


class RecordedShuffle(NamedTuple):
    """A shuffle: its published draw, its candidates, and its first and last assignment in the log."""

    draw: AssigneeDraw
    candidates: list[str]
    task_count: int
    first_position: int
    last_position: int


def draws_reproducible(context: Context) -> LogCheck:
    """Check that every price and assignee follows from its draw, and that stored shuffles agree with the log."""
    inserted = set(unlinked_positions(context))
    assignments = _Assignments(inserted, context)
    wrong_prices: list[str] = []
    wrong_assignees: list[str] = []
    while (batch := (yield)) is not None and not has_enough(wrong_prices):
        wrong_prices += _wrong_prices(batch)
        if not has_enough(wrong_assignees):
            wrong_assignees += assignments.wrong(batch)
    violations = [*wrong_prices, *assignments.wrong_shuffles, *wrong_assignees]
    if not has_enough(violations):
        violations += assignments.wrong_counts()
    return check_result("draws_reproducible", "every draw is reproducible", violations)


def _wrong_prices(batch: LogBatch) -> Iterator[str]:
    for _, event in batch.of(TaskPriced):
        if event is None:
            continue
        priced = event.data
        drawn = draw_price_cents(priced.draw.seed, priced.task_id)
        if priced.draw.algorithm != ALGORITHM or drawn != (priced.fee_cents, priced.reward_cents):
            yield f"the price of task {priced.task_id}"


def _shuffles(
    candidates: Candidates, inserted: set[int], context: Context
) -> Iterator[tuple[str, RecordedShuffle | None, str | None]]:
    """Yield each finished shuffle: its id, and either its published draw or what is wrong with it."""
    events = {
        event.data.shuffle_id: event.data
        for sequence, event in read_rare_events(context, TasksShuffled)
        if sequence not in inserted
    }
    statement = (
        "SELECT shuffle_id, task_count, candidates_count, coalesce(first_sequence, 1), coalesce(last_sequence, 0),"
        " seed, algorithm, candidates_as_of FROM tasks_shuffles WHERE state = 'done' ORDER BY first_sequence"
    )
    for row in context.connection.select(statement):
        shuffle_id, tasks, candidates_count, first, last, *draw = row
        event = events.pop(shuffle_id, None)
        if event is None or (event.task_count, event.candidates_count) != (tasks, candidates_count):
            yield shuffle_id, None, "the log contradicts it"
        elif AssigneeDraw(*draw) != event.draw or event.draw.algorithm != ALGORITHM:
            yield shuffle_id, None, "its draw differs from that in the log"
        elif len(eligible := candidates.as_of(event.draw.candidates_as_of)) != candidates_count or (
            tasks and not eligible
        ):
            reason = f"it had {counted(candidates_count, 'candidate')}, but the records have {len(eligible)}"
            yield shuffle_id, None, reason
        else:
            yield shuffle_id, RecordedShuffle(event.draw, eligible, tasks, first, last), None
    for shuffle_id in events:
        yield shuffle_id, None, "it is in the log only"


class _Assignments:
    """The assignments in the log, except those that other programs inserted, and the stored shuffles and counts."""

    def __init__(self, inserted: set[int], context: Context) -> None:
        self._context, self._inserted = context, inserted
        self._candidates = Candidates(context)
        self._shuffles: dict[str, RecordedShuffle] = {}
        self.wrong_shuffles: list[str] = []
        for shuffle_id, recorded, reason in _shuffles(self._candidates, inserted, context):
            if reason:
                self.wrong_shuffles.append(f"shuffle {shuffle_id} ({reason})")
            elif recorded is not None:
                self._shuffles[shuffle_id] = recorded
        self._checked: Counter[str] = Counter()
        self._counts: Counter[tuple[int, str]] = Counter()

    def wrong(self, batch: LogBatch) -> Iterator[str]:
        """Describe the assignments of a batch that their draw does not reproduce, and count all of them."""
        for position, event in batch.of(TaskAssigned):
            if event is None or position in self._inserted:
                continue
            assigned = event.data
            self._counts[self._candidates.last_change(assigned.draw.candidates_as_of), assigned.assignee_id] += 1
            if assigned.reason is AssignmentReason.SHUFFLED:
                self._checked[assigned.shuffle_id or ""] += 1
                is_reproduced = _matches_shuffle(position, assigned, self._shuffles.get(assigned.shuffle_id or ""))
            else:
                is_reproduced = _is_reproduced(assigned, self._candidates.as_of(assigned.draw.candidates_as_of))
            if not is_reproduced:
                yield f"the assignee of task {assigned.task_id} at {position}"

    def wrong_counts(self) -> Iterator[str]:
        """Describe shuffles and stored numbers of draws that do not agree with the assignments in the whole log."""
        for shuffle_id, recorded in self._shuffles.items():
            if self._checked[shuffle_id] != recorded.task_count:
                assignments = counted(recorded.task_count, "assignment")
                yield f"shuffle {shuffle_id} (the log has {self._checked[shuffle_id]} of its {assignments})"
        statement = "SELECT candidates_since, assignee_id, draws_count FROM tasks_draw_counts"
        stored = {(since, assignee): count for since, assignee, count in self._context.connection.select(statement)}
        for since, assignee in sorted({key for key, _ in stored.items() ^ self._counts.items()}):
            yield f"the number of draws of {assignee} with the candidates since {since}"


def _matches_shuffle(sequence: int, assigned: TaskAssigned, recorded: RecordedShuffle | None) -> bool:
    return (
        recorded is not None
        and recorded.first_position <= sequence <= recorded.last_position
        and assigned.draw == recorded.draw
        and _is_reproduced(assigned, recorded.candidates)
    )


def _is_reproduced(assigned: TaskAssigned, candidates: list[str]) -> bool:
    if not candidates or assigned.draw.algorithm != ALGORITHM:
        return False
    return draw_assignee(assigned.draw.seed, assigned.task_id, candidates) == assigned.assignee_id

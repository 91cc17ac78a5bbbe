"""Commands for one task: add, complete, show."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Column, Heading, Hint, Table
from popug_cli.cli.output.relative_time import age
from popug_cli.kernel.clock import counts_for
from popug_cli.kernel.money import format_cents
from popug_cli.messages.tasks import AddTask, ChangedTask, CompleteTask, HistoryLine, Task

if TYPE_CHECKING:
    from popug_cli.messages.billing import Entry
    from popug_cli.messages.company import TaskDetails

task = typer.Typer(help="Create, complete and show a task.", no_args_is_help=True)


def _parse_number(typed: str) -> int:
    """Parse a task's number, with or without the # that popug shows before it; raise ``BadParameter``."""
    digits = typed.strip().removeprefix("#")
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", digits):
        raise typer.BadParameter(f"{typed!r} is not a task number; write 42 or '#42'.")
    return int(digits)


NumberArgument = Annotated[int, typer.Argument(metavar="NUMBER", help="The task's number.", parser=_parse_number)]


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(task, name="task")


@command(task, "add")
def add(
    context: CommandContext,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="One line; a leading [POPUG-7] is its jira id.")],
    jira: Annotated[str | None, typer.Option("--jira", metavar="ID", help="The jira id, such as POPUG-7.")] = None,
) -> None:
    """Create a task; chance assigns it, and the assignee pays its fee."""
    created = context.backends.perform(AddTask(title=title, jira_id=jira))
    context.screen.show(created, lambda: _added_blocks(created, title))


@command(task, "complete")
def complete(context: CommandContext, number: NumberArgument) -> None:
    """Complete one of your open tasks and earn its reward."""
    completed = context.backends.perform(CompleteTask(number=number))
    context.screen.show(completed, lambda: [_completed_sentence(completed)])


@command(task, "show")
def show(context: CommandContext, number: NumberArgument) -> None:
    """Show a task, its history, and the entries you may see."""
    from popug_cli.messages.company import ShowTask

    details = context.backends.perform(ShowTask(number=number))
    context.screen.show(details, lambda: _detail_blocks(context, details))


def price_text(cents: int | None) -> str:
    """Return a fee or a reward as text, or ``not yet`` for a task without a price."""
    return "not yet" if cents is None else format_cents(cents)


def _completed_sentence(completed: ChangedTask) -> str:
    cents = completed.reward_cents
    reward = f", who earns {format_cents(cents)}{counts_for(completed.counts_for)}" if cents is not None else ""
    return f"#{completed.number} {completed.title} is completed by {completed.assignee}{reward}."


def _added_blocks(created: ChangedTask, typed: str) -> Iterator[Block]:
    if created.jira_id is not None and created.title != normalize("NFC", typed).strip():
        yield f"The title was split into the jira id {created.jira_id} and the title “{created.title}”."
    jira = f" ({created.jira_id})" if created.jira_id else ""
    yield f"#{created.number} {created.title}{jira} goes to {created.assignee}."
    fee = price_text(created.fee_cents) + counts_for(created.counts_for)
    yield f"Fee {fee}, reward {price_text(created.reward_cents)}."


def _detail_blocks(context: CommandContext, details: "TaskDetails") -> Iterator[Block]:
    yield Heading(f"#{details.task.number} {details.task.title}")
    yield "\n".join(f"{label:<10} {value}" for label, value in _facts(context, details.task))
    yield Table(
        (Column("When"), Column("What", shrinks=True), Column("By")),
        [(context.screen.local_time(line.at), _history_sentence(line), line.actor) for line in details.history],
        title="History",
    )
    yield _entry_table(context, details.entries)
    shuffles = [line.shuffle_id for line in details.history if line.shuffle_id]
    if shuffles:
        yield Hint(f"Check the last shuffle's draws: popug tasks verify {shuffles[-1]}")


def _facts(context: CommandContext, shown_task: Task) -> Iterator[tuple[str, str]]:
    if shown_task.jira_id:
        yield "Jira id", shown_task.jira_id
    yield "Status", shown_task.status
    yield "Assignee", shown_task.assignee
    yield "Creator", shown_task.creator
    yield "Fee", price_text(shown_task.fee_cents)
    yield "Reward", price_text(shown_task.reward_cents)
    yield "Created", _time_and_age(context, shown_task.created_at)
    if shown_task.completed_at:
        yield "Completed", _time_and_age(context, shown_task.completed_at)


def _time_and_age(context: CommandContext, instant: datetime) -> str:
    return f"{context.screen.local_time(instant)}, {age(instant, context.backends.active.now())} ago"


def _history_sentence(line: HistoryLine) -> str:
    sentences = {
        ("task_created", None): "created",
        ("task_completed", None): f"completed by {line.assignee}",
        ("task_priced", None): f"priced: fee {price_text(line.fee_cents)}, reward {price_text(line.reward_cents)}",
        ("task_assigned", "created"): f"goes to {line.assignee}",
        ("task_assigned", "shuffled"): f"shuffled {_shuffle_result(line)}",
        (
            "task_assigned",
            "assignee_left",
        ): f"goes to {line.assignee}, because {line.previous_assignee} may not hold tasks",
    }
    return sentences[line.event, line.reason]


def _shuffle_result(line: HistoryLine) -> str:
    is_same = line.previous_assignee == line.assignee
    return f"and assigned to {line.assignee} again" if is_same else f"from {line.previous_assignee} to {line.assignee}"


def _entry_table(context: CommandContext, entries: "list[Entry]") -> Table:
    """Return the entries as a table, with the times of recording if one differs from the time of its entry."""
    times = [
        (context.screen.local_time(entry.occurred_at), context.screen.local_time(entry.recorded_at))
        for entry in entries
    ]
    show_recorded = any(occurred != recorded for occurred, recorded in times)
    kinds = [entry.kind.replace("_", " ") for entry in entries]
    return Table(
        [
            Column("When"),
            *([Column("Recorded")] if show_recorded else []),
            *(Column("Business date"), Column("Kind"), Column("Amount", align_right=True)),
        ],
        [
            [
                occurred,
                *([recorded if recorded != occurred else ""] if show_recorded else []),
                *(f"{entry.business_date}", kind, format_cents(entry.signed_cents)),
            ]
            for entry, kind, (occurred, recorded) in zip(entries, kinds, times, strict=True)
        ],
        title="Entries",
        empty="There are no entries of this task that you may see.",
    )

"""The command that lists tasks."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from msgspec.structs import replace

from popug_cli.cli.commands.tasks.task import price_text
from popug_cli.cli.context import CommandContext
from popug_cli.cli.input.dates import end_of, start_of
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.cli.output.relative_time import age
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.identity import WhoAmI
from popug_cli.messages.tasks import ListTasks, StatusFilter, Task, TaskPage, TaskSort, TaskStatus

WHEN_FORMATS = "monday, '2 hours ago', 09:30, 2026-03-02 or an instant"


def list_(
    context: CommandContext,
    mine: Annotated[bool, typer.Option("--mine", help="Your own tasks (the default).")] = False,
    all_users: Annotated[bool, typer.Option("--all", help="Tasks of all users and every status.")] = False,
    assignee: Annotated[str | None, typer.Option("--assignee", metavar="NAME", help="Tasks of this user.")] = None,
    creator: Annotated[
        str | None, typer.Option("--creator", metavar="NAME", help="Tasks created by this user, with any assignee.")
    ] = None,
    status: Annotated[
        StatusFilter | None, typer.Option("--status", help="Tasks with this status; by default open, with --all both.")
    ] = None,
    jira: Annotated[
        str | None, typer.Option("--jira", metavar="ID", help="Tasks with this jira id, with any assignee.")
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Tasks with this text in title or jira id.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help=f"Created (completed, with --status completed) since {WHEN_FORMATS}."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="The same, up to this time; a date is included.")
    ] = None,
    sort: Annotated[
        TaskSort, typer.Option("--sort", help="By number, most expensive first, or oldest first.")
    ] = TaskSort.NUMBER,
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Show at most N.")] = None,
    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Skip the first N.")] = 0,
) -> None:
    """List tasks; by default your own open tasks, by number."""
    message = ListTasks(
        status=status or (StatusFilter.ALL if all_users else StatusFilter.OPEN),
        assignee=_assignee_filter(context, mine=mine, all_users=all_users or bool(creator or jira), assignee=assignee),
        creator=creator,
        jira_id=jira,
        search=search,
        since=None if since is None else start_of(context, since),
        until=None if until is None else end_of(context, until),
        sort=sort,
        backwards=reverse,
        limit=limit,
        offset=offset,
    )
    page = _fetch_pages(context, message)
    is_own = message.assignee is not None and assignee is None
    context.screen.show(page, lambda: _list_blocks(context, page, message, is_own=is_own), paged=True)


def _fetch_pages(context: CommandContext, message: ListTasks) -> TaskPage:
    """Return all tasks that a message asks for; one answer has at most ``MAX_ANSWER_ROWS``."""
    page = context.backends.perform(message)
    tasks, wanted = [*page.tasks], message.limit or page.total
    while page.tasks and len(tasks) < min(wanted, page.total - message.offset):
        next_message = replace(message, offset=message.offset + len(tasks), limit=wanted - len(tasks))
        page = context.backends.perform(next_message)
        tasks += page.tasks
    return replace(page, tasks=tasks)


def task_table(
    context: CommandContext, tasks: list[Task], *, footer: str = "", empty: str = "", for_one_user: bool = False
) -> Table:
    """Return a table of tasks. A narrow terminal drops other columns, but not number, title and prices.

    ``for_one_user`` leaves out the status and the assignee.
    """
    now = context.backends.active.now()
    has_jira = any(task.jira_id for task in tasks)
    columns = [
        Column("#", align_right=True, accessible_name="number"),
        *([Column("Jira", drop_priority=4)] if has_jira else []),
        Column("Title", shrinks=True),
        *(
            []
            if for_one_user
            else [Column("Status", drop_priority=1), Column("Assignee", shrinks=True, drop_priority=2)]
        ),
        Column("Fee", align_right=True),
        Column("Reward", align_right=True),
        Column("Age", align_right=True, drop_priority=3),
    ]
    return Table(
        columns,
        [_row(task, now, for_one_user=for_one_user, has_jira=has_jira) for task in tasks],
        footer=footer,
        empty=empty,
    )


def totals(page: TaskPage) -> str:
    """Return the number of tasks, and the sums of their fees and rewards."""
    count = counted(page.total, "task")
    count_shown = f"{len(page.tasks):,} of {count}" if len(page.tasks) < page.total else count
    return f"{count_shown}; fees {format_cents(page.fees_cents)}, rewards {format_cents(page.rewards_cents)} in all."


def _list_blocks(context: CommandContext, page: TaskPage, message: ListTasks, *, is_own: bool) -> Iterator[Block]:
    empty = "There are no such tasks." if not page.total else f"--offset skips all of {counted(page.total, 'task')}."
    yield task_table(context, page.tasks, footer=totals(page), empty=empty)
    first_open = next((task for task in page.tasks if task.status is TaskStatus.OPEN), None)
    if first_open and is_own and message.status is StatusFilter.OPEN:
        yield Hint(f"Next: popug task complete {first_open.number}")
    elif not page.total and message == ListTasks(assignee=message.assignee):
        yield Hint("Next: popug today, or popug tasks list --all")


def _assignee_filter(context: CommandContext, *, mine: bool, all_users: bool, assignee: str | None) -> str | None:
    """Return the username whose tasks are listed, or None for all users; raise ``usage`` for a contradiction."""
    if assignee is not None and mine:
        raise InvalidInput("usage", "--mine and --assignee contradict each other.", hint="Give one of them.")
    if assignee is not None or (all_users and not mine):
        return assignee
    return context.backends.perform(WhoAmI()).username


def _row(task: Task, now: datetime, *, for_one_user: bool, has_jira: bool) -> tuple[str, ...]:
    jira = (task.jira_id or "",) if has_jira else ()
    status_and_assignee = () if for_one_user else (task.status, task.assignee)
    prices = (price_text(task.fee_cents), price_text(task.reward_cents))
    return (str(task.number), *jira, task.title, *status_and_assignee, *prices, age(task.created_at, now))

"""Commands for many tasks: list, shuffle, verify, fairness, import, export."""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from popug_cli.cli.commands.tasks import task_list
from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.input.import_lines import open_import, warn_of_ignored_fields
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.cli.output.file import is_stdout, write_new_file
from popug_cli.cli.output.printer import to_json
from popug_cli.kernel.clock import counts_for
from popug_cli.kernel.errors import IntegrityViolation, PopugError
from popug_cli.kernel.text import counted
from popug_cli.messages.billing import GetBalance
from popug_cli.messages.identity import WhoAmI
from popug_cli.messages.tasks import (
    ExportTasks,
    Fairness,
    GetFairness,
    ImportTasks,
    NewTask,
    ShuffleCheck,
    ShuffleTasks,
    TakenId,
    Task,
    TaskImportResult,
    VerifyShuffle,
)

MAX_TASKS_PER_CHUNK = 2_000
MAX_TAKEN_SHOWN = 10

tasks = typer.Typer(help="List, shuffle, import and export tasks.", no_args_is_help=True)


class TaskExport(msgspec.Struct, frozen=True):
    """The path of an export, and its number of tasks."""

    path: str
    exported: int


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(tasks, name="tasks")


command(tasks, "list")(task_list.list_)


@command(tasks, "shuffle")
def shuffle(
    context: CommandContext, yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False
) -> None:
    """Draw a new assignee for every open task; each assignee pays the fee again."""
    if not yes:
        context.backends.perform(WhoAmI())
    context.screen.confirm("Every open task is drawn again, and its assignee pays the fee. Shuffle?", yes=yes)
    shuffle = context.backends.perform(ShuffleTasks())
    context.screen.show(
        shuffle,
        lambda: [
            f"Shuffled {counted(shuffle.task_count, 'task')}"
            f" among {counted(shuffle.candidates_count, 'person', 'people')}"
            f"{_counts_for_note(context) if shuffle.task_count else ''}.",
            Hint(f"Anyone can check the draws: popug tasks verify {shuffle.shuffle_id}"),
        ],
    )


@command(tasks, "verify")
def verify(
    context: CommandContext, shuffle_id: Annotated[str, typer.Argument(metavar="SHUFFLE_ID", help="The shuffle's id.")]
) -> None:
    """Repeat the draws of a shuffle; exit 7 if any result differs."""
    check = context.backends.perform(VerifyShuffle(shuffle_id=shuffle_id))
    context.screen.show(check, lambda: _check_blocks(check))
    if check.different:
        raise typer.Exit(IntegrityViolation.exit_status)


@command(tasks, "fairness")
def fairness(context: CommandContext) -> None:
    """Compare each user's number of tasks with the expected number, over all draws."""
    answer = context.backends.perform(GetFairness())
    context.screen.show(answer, lambda: _fairness_blocks(answer))


@command(tasks, "import")
def import_(
    context: CommandContext,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSON lines {title, jira_id?, task_id?}, a JSON array of them, CSV with a header, or one title a line;"
            " - is stdin.",
        ),
    ],
    again: Annotated[bool, typer.Option("--again", help="Import lines that were imported before, too.")] = False,
) -> None:
    """Create the tasks of a file, all or none; tasks imported before are skipped."""
    with open_import(file, NewTask, plain_field="title") as lines:
        result = context.backends.perform(ImportTasks(lines=lines, again=again))
    answer = msgspec.to_builtins(result) | {"ignored_fields": [*lines.unknown_fields]}
    context.screen.show(answer, lambda: _import_blocks(result, file, _counts_for_note(context)))
    warn_of_ignored_fields(context, lines)
    for taken in result.taken[:MAX_TAKEN_SHOWN]:
        context.printer.warn(_taken_sentence(taken))
    if result.taken_count > MAX_TAKEN_SHOWN:
        context.printer.warn(f"Lines with an id that is taken, beyond these: {result.taken_count - MAX_TAKEN_SHOWN:,}.")


@command(tasks, "export")
def export(
    context: CommandContext,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to this file; - is stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Export every task as a JSON line, by number."""
    if out is None or is_stdout(out):
        for task in _fetch_tasks(context):
            context.printer.write(_json_line(task))
        return
    lines = context.screen.with_progress("Exporting", map(_json_line, _fetch_tasks(context)))
    exported = TaskExport(str(out), write_new_file(out, lines, force=force, warn=context.printer.warn))
    context.screen.show(exported, lambda: [f"Wrote {counted(exported.exported, 'task')} to {out}."])


def _fetch_tasks(context: CommandContext) -> Iterator[Task]:
    """Yield all tasks by number; fetch ``MAX_TASKS_PER_CHUNK`` at a time."""
    after, chunk = 0, context.backends.perform(ExportTasks(limit=MAX_TASKS_PER_CHUNK)).tasks
    while chunk:
        yield from chunk
        after = chunk[-1].number
        chunk = context.backends.perform(ExportTasks(after=after, limit=MAX_TASKS_PER_CHUNK)).tasks


def _json_line(task: Task) -> str:
    return to_json(task) + "\n"


def _check_blocks(check: ShuffleCheck) -> Iterator[Block]:
    if not check.different:
        yield f"Checked {counted(check.checked, 'task')}: every assignee is the one drawn."
        return
    yield f"Of {counted(check.checked, 'task')}, {len(check.different)} went to another user than the one drawn."
    yield Table(
        (Column("#", align_right=True), Column("Assigned to"), Column("Drawn")),
        [(str(difference.number), difference.recorded, difference.expected) for difference in check.different],
    )


def _fairness_blocks(answer: Fairness) -> Iterator[Block]:
    yield Table(
        (Column("Person"), Column("Assigned", align_right=True), Column("Expected", align_right=True)),
        [(person.username, f"{person.assigned:,}", f"{person.expected:,.1f}") for person in answer.people],
        empty="No user may hold tasks yet.",
    )
    yield f"p = {answer.p_value:.3f}: a fair draw is at least this uneven in {answer.p_value:.1%} of cases."


def _counts_for_note(context: CommandContext) -> str:
    """Return a note if money that moves now counts for another date than today; empty if not, or on an error."""
    with suppress(PopugError):
        balance = context.backends.perform(GetBalance())
        return counts_for(balance.business_date, balance.today)
    return ""


def _import_blocks(result: TaskImportResult, file: str, note: str) -> Iterator[Block]:
    """Yield what an import did, with a note on its business date, and how to import the lines that it skipped."""
    imported = f"{counted(result.imported, 'task')}{note}" if result.imported else "nothing"
    known_count = result.skipped - result.taken_count
    skipped = [
        *_count_lines(known_count, "that was imported before", "that were imported before"),
        *_count_lines(result.taken_count, "whose id is taken", "whose ids are taken"),
    ]
    if not result.imported and not result.skipped:
        yield "The file has no tasks; nothing was imported."
    elif not result.imported and not result.taken_count:
        yield f"Imported nothing: the file has only {skipped[0]}."
    else:
        yield f"Imported {imported}; skipped {' and '.join(skipped)}." if skipped else f"Imported {imported}."
    if known_count:
        path = f"./{file}" if file.startswith("-") and file != "-" else file
        yield Hint(f"To import every line again: popug tasks import {shlex.quote(path)} --again")


def _count_lines(number: int, one: str, many: str) -> list[str]:
    """Return the number of lines with their description, or an empty list if there are none."""
    return [f"{counted(number, 'line')} {one if number == 1 else many}"] if number else []


def _taken_sentence(taken: TakenId) -> str:
    command = f"popug task add {_id_option(taken.id)}-- {shlex.quote(taken.title)}"
    return (
        f"Line {taken.line}: {taken.id} belongs to #{taken.number} “{taken.taken_title}”, imported by {taken.creator},"
        f" so “{taken.title}” was not imported. To create it as well: {command}"
    )


def _id_option(identifier: str) -> str:
    """Return the option of ``task add`` for a jira id; nothing for a task id, which contains no capital letter."""
    return f"--jira {identifier} " if identifier != identifier.lower() else ""

"""Commands for the event log, its consumers and its dead letters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from popug_cli.cli.commands.operations.event_tables import (
    dead_letter_blocks,
    dropped_lines,
    event_table,
    status_blocks,
    trace_table,
)
from popug_cli.cli.context import CommandContext, command
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.kernel.text import counted
from popug_cli.messages.base import MAX_ANSWER_ROWS, Query
from popug_cli.messages.bus import (
    DescribeTopics,
    DropDeadLetter,
    EnvelopeDocument,
    EventPage,
    ListDeadLetters,
    ListEvents,
    ReplayEvents,
    RetryDeadLetters,
    ShowBusStatus,
    ShowEvent,
    ShowSchemas,
    TraceTask,
)
from popug_cli.platform.files import replace_file

TypeOption = Annotated[
    str | None, typer.Option("--type", help="Only this type; give its full name or the middle part of it.")
]
SubjectOption = Annotated[str | None, typer.Option("--subject", help="Only events about this id.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Only events that this user caused.")]
AfterOption = Annotated[int, typer.Option("--after", min=0, max=2**53, help="Only events after this sequence number.")]
ServiceOption = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Only events that this module or service publishes.")
]

MAX_ID_DIGITS = 18

events = typer.Typer(help="Inspect the event log and repair its consumers.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(events, name="events")


@command(events, "list")
def list_(
    context: CommandContext,
    type_: TypeOption = None,
    subject: SubjectOption = None,
    actor: ActorOption = None,
    after: AfterOption = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Show at most N.")] = None,
    service: ServiceOption = None,
) -> None:
    """List events in the order of the log; on a cluster, those of all services by time."""
    message = ListEvents(type=type_, subject=subject, actor=actor, after=after, limit=limit, service=service)
    page = _fetch_events(context, message)
    context.screen.show(page, lambda: [event_table(context, page)])


def _fetch_events(context: CommandContext, message: ListEvents) -> EventPage:
    """Return all events that a message asks for; one answer has at most ``MAX_ANSWER_ROWS``."""
    events: list[EnvelopeDocument] = []
    while True:
        page = context.backends.perform(message)
        events += page.events
        limit = None if message.limit is None else message.limit - len(page.events)
        if len(page.events) < MAX_ANSWER_ROWS or limit == 0:
            return replace(page, events=events)
        message = replace(_after(message, page), limit=limit)


def _after(message: ListEvents, page: EventPage) -> ListEvents:
    """Return the message that asks for what follows a page: after its cursor on a cluster, else after its last event.

    An empty page that has no cursor is at the end of what the message asks for.
    """
    if page.cursor is not None:
        return replace(message, cursor=page.cursor, last=None)
    return replace(message, after=int(page.events[-1]["sequence"]) if page.events else message.after, last=None)


@command(events, "show")
def show(context: CommandContext, event_id: Annotated[str, typer.Argument(help="The event's id.")]) -> None:
    """Show one event as stored in the log."""
    envelope = context.backends.perform(ShowEvent(event_id=event_id))
    context.screen.show(envelope, lambda: [json.dumps(envelope, indent=2)])


@command(events, "follow")
def follow(
    context: CommandContext,
    type_: TypeOption = None,
    subject: SubjectOption = None,
    after: Annotated[
        int | None, typer.Option("--after", min=0, max=2**53, help="Begin after this sequence number.")
    ] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=0, help="Begin with the last N events.")] = 0,
    service: ServiceOption = None,
) -> None:
    """Print each new event from now on, one JSON line each, until interrupted."""
    message = ListEvents(type=type_, subject=subject, service=service)
    begin = replace(message, after=after) if after is not None else _begin_with_last(context, message, last)
    for events in context.backends.active.follow(begin, context.backends.token):
        _print_events(context, events)


def _print_events(context: CommandContext, events: list[EnvelopeDocument]) -> None:
    for envelope in events:
        context.printer.document(envelope)
    context.printer.out.flush()


def _begin_with_last(context: CommandContext, message: ListEvents, last: int) -> ListEvents:
    """Return the message that asks for the last ``last`` events that match, and for those after them.

    On a cluster, print these events and ask for those after them: a cursor can only be the end of a page.
    """
    newest = context.backends.perform(ListEvents(last=1, service=message.service))
    after_end = _after(message, newest)
    if not last:
        return after_end
    if newest.cursor is not None:
        page = context.backends.perform(replace(message, last=last))
        _print_events(context, page.events)
        return _after(message, page)
    matching = context.backends.perform(replace(message, last=last, limit=1)).events
    return replace(message, after=int(matching[0]["sequence"]) - 1) if matching else after_end


@command(events, "status")
def status(context: CommandContext) -> None:
    """Show how far each consumer has read, its dead letters, and its events that wait for a retry."""
    answer = context.backends.perform(ShowBusStatus())
    context.screen.show(answer, lambda: status_blocks(context, answer))


@command(events, "dead")
def dead(context: CommandContext) -> None:
    """List the events that are parked because a consumer failed, the errors, and the amounts at stake."""
    letters = context.backends.perform(ListDeadLetters())
    context.screen.show(letters, lambda: dead_letter_blocks(letters))


@command(events, "retry")
def retry(
    context: CommandContext,
    dead_id: Annotated[str | None, typer.Argument(help="The id that `popug events dead` shows.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Retry all dead letters.")] = False,
) -> None:
    """Retry one dead letter or all, each followed by the events that wait behind it, in order."""
    if (dead_id is None) != all_:
        raise InvalidInput("usage", "Name one dead letter, or give --all.", hint="Run `popug events dead` for the ids.")
    service, number = _parse_dead_id(dead_id) if dead_id is not None else (None, None)
    answer = context.backends.perform(RetryDeadLetters(dead_id=number, service=service))
    context.screen.show(answer, lambda: [f"{answer.retried} processed, {answer.still_dead} failed again."])


@command(events, "drop")
def drop(
    context: CommandContext,
    dead_id: Annotated[str, typer.Argument(help="The id that `popug events dead` shows.")],
    reason: Annotated[str, typer.Option("--reason", help="The reason; the log keeps it permanently.")],
) -> None:
    """Discard a dead letter; its effects are skipped permanently."""
    service, number = _parse_dead_id(dead_id)
    dropped = context.backends.perform(DropDeadLetter(dead_id=number, reason=reason, service=service))
    context.screen.show(dropped, lambda: dropped_lines(dropped))


def _parse_dead_id(text: str) -> tuple[str | None, int]:
    """Return the service, or None, and the number of ``billing:3`` or ``3``; raise ``usage``."""
    service, colon, number = text.rpartition(":")
    if not (number.isascii() and number.isdecimal() and len(number) <= MAX_ID_DIGITS) or bool(colon) != bool(service):
        raise InvalidInput(
            "usage",
            f"{text!r} is not the id of a dead letter.",
            hint="Run `popug events dead` for the ids, such as 3, or billing:3 on a cluster.",
        )
    return service or None, int(number)


@command(events, "replay")
def replay(
    context: CommandContext,
    verify: Annotated[bool, typer.Option("--verify", help="Only compare, change nothing.")] = False,
) -> None:
    """Rebuild the read models from the log; with --verify compare them, and exit 7 if they differ."""
    report = context.backends.perform(ReplayEvents(verify=verify))
    context.screen.show(
        report,
        lambda: (
            [f"{counted(report.events, 'event')} read, {counted(len(report.differences), 'difference')}."]
            + [
                f"{difference.table}: {counted(difference.rows, 'row differs', 'rows differ')},"
                f" such as {difference.example}"
                for difference in report.differences
            ]
        ),
    )
    if verify and report.differences:
        raise typer.Exit(IntegrityViolation.exit_status)


@command(events, "trace")
def trace(
    context: CommandContext, number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="The task's number.")]
) -> None:
    """Show the whole chain of a task: every event, its cause, and its state at each consumer."""
    answer = context.backends.perform(TraceTask(number=number))
    context.screen.show(answer, lambda: [trace_table(context, answer)])


@command(events, "schemas")
def schemas(
    context: CommandContext,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a file for each event type into this directory.")
    ] = None,
    asyncapi: Annotated[
        bool,
        typer.Option("--asyncapi", help="Instead, the AsyncAPI document of a cluster's topics (asyncapi.json)."),
    ] = False,
) -> None:
    """Print the JSON Schema of every event type, or write them to files."""
    message: Query[Any] = DescribeTopics() if asyncapi else ShowSchemas()
    answer = context.backends.perform(message)
    if out is None:
        context.printer.document(answer)
        return
    documents = {"asyncapi": answer} if asyncapi else answer.schemas
    _write_documents(out, documents)
    written = str(out / "asyncapi.json") if asyncapi else f"{counted(len(documents), 'schema')} to {out}"
    context.screen.show(answer, lambda: [f"Wrote {written}."])


def _write_documents(directory: Path, documents: Mapping[str, Any]) -> None:
    """Write a JSON file for each document, by its name; raise the error of a directory that cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            replace_file(directory / f"{name}.json", json.dumps(document, indent=2).encode() + b"\n")
    except OSError as error:
        raise unwritable(directory, error) from error

"""Commands for the event log, its consumers and its dead letters."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.base import MAX_ANSWER_ROWS, Query
from popug_cli.messages.bus import (
    BusStatus,
    DeadLetters,
    DescribeTopics,
    DropDeadLetter,
    DroppedLetter,
    EnvelopeDocument,
    EventPage,
    ListDeadLetters,
    ListEvents,
    ReplayEvents,
    RetryDeadLetters,
    ServiceStatus,
    ShowBusStatus,
    ShowEvent,
    ShowSchemas,
    Trace,
    TraceLine,
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
    context.screen.show(page, lambda: [_event_table(context, page)])


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
    context.screen.show(answer, lambda: _status_blocks(context, answer))


@command(events, "dead")
def dead(context: CommandContext) -> None:
    """List the events that are parked because a consumer failed, the errors, and the amounts at stake."""
    letters = context.backends.perform(ListDeadLetters())
    context.screen.show(letters, lambda: _dead_letter_blocks(letters))


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
    context.screen.show(dropped, lambda: _dropped_lines(dropped))


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
    context.screen.show(answer, lambda: [_trace_table(context, answer)])


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


def _event_table(context: CommandContext, page: EventPage) -> Table:
    columns = [
        *([Column("service")] if page.cursor is not None else []),
        Column("seq", align_right=True, accessible_name="sequence"),
        Column("time", drop_priority=1),
        Column("event", shrinks=True),
        Column("actor", shrinks=True, drop_priority=2),
        Column("subject", drop_priority=3),
        Column("id"),
    ]
    return Table(
        columns, [_event_row(context, envelope) for envelope in page.events], empty="There are no such events."
    )


def _event_row(context: CommandContext, envelope: dict[str, Any]) -> list[str]:
    values = [str(envelope.get(name, "")) for name in ("sequence", "time", "type", "actor", "subject", "id")]
    sequence, at, type_, actor, subject, event_id = values
    with suppress(ValueError):
        at = context.screen.local_time(from_rfc3339(at))
    service = [str(envelope["service"])] if "service" in envelope else []
    return [*service, sequence, at, type_.removeprefix("popug."), actor, subject, event_id]


def _status_blocks(context: CommandContext, answer: BusStatus) -> Iterator[Block]:
    columns = [Column("consumer"), *(Column(name, align_right=True) for name in ("position", "lag", "dead", "waiting"))]
    rows = [
        [consumer.consumer, *map(str, (consumer.position, consumer.lag, consumer.dead, consumer.waiting))]
        for consumer in answer.consumers
    ]
    if answer.services is None:
        yield f"The log ends at {answer.last_sequence}."
    else:
        ends = (f"{name} at {status.last_sequence}" for name, status in answer.services.items())
        yield f"The logs of the services end here: {', '.join(ends)}."
    yield Table(columns, rows)
    for unknown in answer.unknown:
        events = counted(unknown.count, "event is", "events are")
        yield f"{events} of a type that this program does not know: {unknown.type}"
    for status in (answer, *(answer.services or {}).values()):
        if status.service:
            yield from _service_blocks(context, status.service)
    yield from answer.problems
    if any(consumer.dead for consumer in answer.consumers):
        yield Hint("Next: popug events dead")


def _service_blocks(context: CommandContext, service: ServiceStatus) -> Iterator[Block]:
    relay = service.relay
    yield f"This is the service {service.service}; its log is {relay.log_id}."
    events = counted(relay.waiting, "event waits", "events wait")
    yield f"The topic has its events up to {relay.position}; {events} to be sent."
    names = ("last", "watermark", "behind", "offset", "mangled", "other log")
    rows = [
        [
            stream.origin,
            *map(str, (stream.last, stream.watermark, stream.behind, stream.next_offset)),
            *map(str, (stream.mangled, stream.other_log)),
            context.screen.local_time(stream.gap_since) if stream.gap_since else "",
            f"changed at {stream.history_change.position}" if stream.history_change else "",
        ]
        for stream in service.streams
    ]
    columns = [Column("origin"), *(Column(name, align_right=True) for name in names)]
    yield Table([*columns, Column("gap since"), Column("history")], rows)


def _dead_letter_blocks(letters: DeadLetters) -> Iterator[Block]:
    columns = [
        Column("id", align_right=True),
        Column("consumer"),
        Column("event"),
        Column("state"),
        Column("tries", align_right=True),
        Column("behind it", align_right=True),
        Column("at stake", align_right=True),
        Column("error", shrinks=True),
    ]
    rows = [
        [
            letter.id,
            letter.consumer,
            str(letter.event.get("type", "")).removeprefix("popug."),
            letter.state,
            str(letter.attempts),
            str(letter.waiting),
            format_cents(letter.amount_cents),
            letter.error,
        ]
        for letter in letters.dead
    ]
    yield Table(columns, rows, empty="No event is parked.")
    if rows:
        yield Hint("Next: popug events retry ID, or popug events drop ID --reason WHY")


def _dropped_lines(dropped: DroppedLetter) -> Iterator[Block]:
    yield "Dropped; the reason is in the log."
    at_stake = f" ({format_cents(dropped.amount_cents)} at stake)" if dropped.amount_cents else ""
    yield f"{dropped.consumer} skips this {dropped.type} permanently{at_stake}."


def _occurred_note(context: CommandContext, step: TraceLine) -> str:
    """Return a note on when the cause of a posted entry occurred; empty if that is the minute of the event."""
    if step.occurred_at is None or context.screen.local_time(step.occurred_at) == context.screen.local_time(step.at):
        return ""
    return f", occurred {context.screen.local_time(step.occurred_at)}"


def _trace_table(context: CommandContext, answer: Trace) -> Table:
    columns = [
        Column("seq", align_right=True, accessible_name="sequence"),
        Column("time", drop_priority=1),
        Column("event"),
        Column("actor", shrinks=True, drop_priority=2),
        Column("cause"),
        Column("what", shrinks=True),
        Column("processed by", shrinks=True),
    ]
    sequence_numbers = {step.event_id: str(step.sequence) for step in answer.steps}
    rows = [
        [
            str(step.sequence),
            context.screen.local_time(step.at),
            step.event,
            step.actor,
            sequence_numbers.get(step.causationid or "", "command" if step.causationid is None else "another"),
            step.detail + _occurred_note(context, step),
            ", ".join(f"{name} ({state})" for name, state in step.consumers.items()),
        ]
        for step in answer.steps
    ]
    return Table(columns, rows, title=f"Task #{answer.number}")

"""The tables and sentences of `popug events`."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from popug_cli.cli.context import CommandContext
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.bus import (
    BusStatus,
    DeadLetters,
    DroppedLetter,
    EventPage,
    ServiceStatus,
    Trace,
    TraceLine,
)


def event_table(context: CommandContext, page: EventPage) -> Table:
    """Return the table of a page of events, with their service on a cluster."""
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


def status_blocks(context: CommandContext, answer: BusStatus) -> Iterator[Block]:
    """Yield the state of the consumers, and of each service's relay and streams."""
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


def dead_letter_blocks(letters: DeadLetters) -> Iterator[Block]:
    """Yield the table of the dead letters, and the commands for them."""
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


def dropped_lines(dropped: DroppedLetter) -> Iterator[Block]:
    """Yield sentences about a dropped dead letter."""
    yield "Dropped; the reason is in the log."
    at_stake = f" ({format_cents(dropped.amount_cents)} at stake)" if dropped.amount_cents else ""
    yield f"{dropped.consumer} skips this {dropped.type} permanently{at_stake}."


def _occurred_note(context: CommandContext, step: TraceLine) -> str:
    """Return a note on when the cause of a posted entry occurred; empty if that is the minute of the event."""
    if step.occurred_at is None or context.screen.local_time(step.occurred_at) == context.screen.local_time(step.at):
        return ""
    return f", occurred {context.screen.local_time(step.occurred_at)}"


def _cause(step: TraceLine, steps: Mapping[str, TraceLine]) -> str:
    """Return the position of the event that has caused a step, with its service if that is another one."""
    if step.causationid is None:
        return "command"
    cause = steps.get(step.causationid)
    if cause is None:
        return "another"
    return str(cause.sequence) if cause.service == step.service else f"{cause.service} {cause.sequence}"


def trace_table(context: CommandContext, answer: Trace) -> Table:
    """Return the table of the chain of a task; a cause that another service has published has its service's name."""
    columns = [
        Column("service", drop_priority=3),
        Column("seq", align_right=True, accessible_name="sequence"),
        Column("time", drop_priority=1),
        Column("event"),
        Column("actor", shrinks=True, drop_priority=2),
        Column("cause"),
        Column("what", shrinks=True),
        Column("processed by", shrinks=True),
    ]
    steps = {step.event_id: step for step in answer.steps}
    rows = [
        [
            step.service,
            str(step.sequence),
            context.screen.local_time(step.at),
            step.event,
            step.actor,
            _cause(step, steps),
            step.detail + _occurred_note(context, step),
            ", ".join(f"{name} ({state})" for name, state in step.consumers.items()),
        ]
        for step in answer.steps
    ]
    return Table(columns, rows, title=f"Task #{answer.number}")

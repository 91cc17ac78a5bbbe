"""Merge the parts of services into one answer. These functions are pure."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby

from msgspec.structs import replace

from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.bus import (
    BusStatus,
    ConsumerStatus,
    DeadLetter,
    DeadLetters,
    EnvelopeDocument,
    EventPage,
    TraceLine,
    UnknownType,
)
from popug_cli.messages.services import SERVICES

Documents = Sequence[EnvelopeDocument]


def cursor_of(text: str | None) -> dict[str, int]:
    """Return the positions that a cursor has, by service, 0 for the others; raise ``usage`` if it is not one."""
    positions = dict.fromkeys(SERVICES, 0)
    for item in (text or "").split(",") if text else ():
        service, _, number = item.partition("=")
        if service not in SERVICES or not number.isascii() or not number.isdecimal() or len(number) > 18:
            hint = "Give one that a page of events ended with, or none."
            raise InvalidInput("usage", f"{text!r} is not a valid cursor.", hint=hint, details={"cursor": text})
        positions[service] = int(number)
    return positions


def text_of(cursor: Mapping[str, int]) -> str:
    """Return a cursor as text."""
    return ",".join(f"{service}={position}" for service, position in cursor.items())


def merge_events(
    pages: Mapping[str, Documents], cursor: Mapping[str, int], limit: int, last: int | None = None
) -> EventPage:
    """Return the first ``limit`` events by time; those of one service stay in the order of its log.

    Begin with the first of the ``last`` events, if that is given. Return each event once: all services have those that
    are older than the cluster. ``cursor`` has the positions after which the pages begin.
    """
    merged = [*_merged(pages)]
    start = max(0, len(merged) - last) if last is not None else 0
    end = start + limit
    reached = dict(cursor) | {str(event["service"]): int(event["sequence"]) for event in merged[:end]}
    seen: set[object] = set()
    events = []
    for event in merged[start:end]:
        if event.get("id") is None or event["id"] not in seen:
            seen.add(event.get("id"))
            events.append(event)
    return EventPage(events, cursor=text_of(reached))


def _merged(pages: Mapping[str, Documents]) -> Iterator[EnvelopeDocument]:
    named = ([event | {"service": service} for event in events] for service, events in pages.items())
    return merge(*named, key=lambda event: str(event.get("time", "")))


def merge_dead_letters(parts: Mapping[str, DeadLetters]) -> DeadLetters:
    """Return the dead letters of all services, oldest first, each with the id that names its service."""
    letters = [
        replace(letter, id=f"{service}:{letter.dead_id}") for service, part in parts.items() for letter in part.dead
    ]
    return DeadLetters(sorted(letters, key=_time_of))


def _time_of(letter: DeadLetter) -> str:
    return str(letter.event.get("time", ""))


def merge_statuses(parts: Mapping[str, BusStatus]) -> BusStatus:
    """Return the status of the bus of each service, and the consumers and problems of all."""
    unknown: dict[str, int] = {}
    for status in parts.values():
        for type_, count in ((each.type, each.count) for each in status.unknown):
            unknown[type_] = max(count, unknown.get(type_, 0))
    return BusStatus(
        last_sequence=max((status.last_sequence for status in parts.values()), default=0),
        consumers=[_named(service, each) for service, status in parts.items() for each in status.consumers],
        unknown=[UnknownType(type_, count) for type_, count in sorted(unknown.items())],
        problems=[f"{service}: {problem}" for service, status in parts.items() for problem in status.problems],
        services=dict(parts),
    )


def _named(service: str, consumer: ConsumerStatus) -> ConsumerStatus:
    """Return a consumer under a unique name: the name of its service, or a name that begins with it."""
    return consumer if consumer.consumer == service else replace(consumer, consumer=f"{service}:{consumer.consumer}")


def merge_traces(parts: Mapping[str, Iterable[TraceLine]]) -> list[TraceLine]:
    """Return each event once, by time, with its consumers in all services.

    An event stands after its cause, and those of one service are in the order of its log. The line of an event is
    that of its publisher, if the publisher answers.
    """
    lines: dict[str, TraceLine] = {}
    for service, part in parts.items():
        for line in part:
            known = lines.get(line.event_id)
            shown = line if known is None or line.service == service else known
            consumers = (known.consumers if known else {}) | _shown_consumers(service, line)
            lines[line.event_id] = replace(shown, consumers=consumers)
    return [*_in_order(lines)]


def _shown_consumers(service: str, line: TraceLine) -> dict[str, str]:
    """Return the states of an event at a service, without the consumer of tokens, which concerns no task."""
    return {name: state for name, state in line.consumers.items() if name == service}


def _in_order(lines: Mapping[str, TraceLine]) -> Iterator[TraceLine]:
    """Yield each line after its cause: of each service's first line left, the earliest whose cause was yielded."""
    by_service = sorted(lines.values(), key=lambda line: (line.service, line.sequence))
    queues = [deque(group) for _, group in groupby(by_service, key=lambda line: line.service)]
    waiting = set(lines)
    while waiting:
        firsts = [queue[0] for queue in queues if queue]
        ready = [line for line in firsts if line.causationid not in waiting] or firsts
        line = min(ready, key=lambda line: line.at)
        next(queue for queue in queues if queue and queue[0] is line).popleft()
        waiting.remove(line.event_id)
        yield line

"""The messages for which each service has a part: ask the services, and merge their parts."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from popug_cli.cluster.gateway import merging
from popug_cli.cluster.gateway.asking import ClientMessage
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import MAX_ANSWER_ROWS, Message
from popug_cli.messages.bus import (
    BusStatus,
    DeadLetters,
    DescribeTopics,
    DropDeadLetter,
    EnvelopeDocument,
    EventPage,
    ListDeadLetters,
    ListEvents,
    RetryDeadLetters,
    RetryResult,
    ShowBusStatus,
    ShowEvent,
    ShowSchemas,
    Trace,
    TraceTask,
)
from popug_cli.messages.company import ExplainTask, ShowPermissions, ShowTask
from popug_cli.messages.internal.bus import TraceEvents
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import GetTask
from popug_cli.messages.today import ShowToday

# A service that asks the others performs these.
ASKING_SERVICES: dict[type[Message[Any]], str] = {ExplainTask: "billing", ShowTask: "tasks", ShowToday: "tasks"}
# All services answer these alike.
OF_ANY_SERVICE: tuple[type[Message[Any]], ...] = (DescribeTopics, ShowPermissions, ShowSchemas)


def list_events(client: ClientMessage, message: ListEvents) -> EventPage | msgspec.Raw:
    """Return the events of all services by time, or those of one; raise ``usage`` for a position without a service.

    Of the last events, return at most ``MAX_ANSWER_ROWS``.
    """
    if message.service is not None:
        _check_service(message.service)
        return client.ask(message.service, message)
    if message.after and message.cursor is None:
        raise InvalidInput(
            "usage",
            "On a cluster, each service has a log of its own, so a position needs the service.",
            hint=f"Add --service NAME, with one of {', '.join(SERVICES)}.",
        )
    cursor = merging.cursor_of(message.cursor)
    limit = min(message.limit or MAX_ANSWER_ROWS, MAX_ANSWER_ROWS)
    last = min(message.last, MAX_ANSWER_ROWS) if message.last else None
    parts = {
        service: replace(
            message,
            service=service,
            after=cursor[service],
            cursor=None,
            limit=None if last else limit,
            last=last,
        )
        for service in SERVICES
    }
    pages = client.ask_each(parts, lambda service: f"The events of {service} are missing.")
    events = {service: page.events for service, page in pages.items()}
    return merging.merge_events(events, cursor, limit, last)


def show_event(client: ClientMessage, message: ShowEvent) -> EnvelopeDocument:
    """Return the event as its publisher has it, else as a service that received it; raise ``event_not_found``."""
    found = client.ask_each(dict.fromkeys(SERVICES, message), absent_code="event_not_found")
    publisher = str(next(iter(found.values())).get("source", "")).removeprefix("/popug/")
    service = publisher if publisher in found else next(iter(found))
    return found[service] | {"service": service}


def show_bus_status(client: ClientMessage, message: ShowBusStatus) -> BusStatus:
    """Return the status of each service."""
    parts = client.ask_each(dict.fromkeys(SERVICES, message), lambda service: f"The status of {service} is missing.")
    return merging.merge_statuses(parts)


def list_dead_letters(client: ClientMessage, message: ListDeadLetters) -> DeadLetters:
    """Return the dead letters of all services."""
    parts = client.ask_each(
        dict.fromkeys(SERVICES, message), lambda service: f"The dead letters of {service} are missing."
    )
    return merging.merge_dead_letters(parts)


def retry_dead_letters(client: ClientMessage, message: RetryDeadLetters) -> RetryResult | msgspec.Raw:
    """Retry one dead letter of a service, or those of all services; raise ``usage`` for an id without a service."""
    if message.dead_id is not None:
        return client.forward(_service_of(message.service, message.dead_id), replace(message, service=None))
    results = client.ask_each(
        dict.fromkeys(SERVICES, message), lambda service: f"The dead letters of {service} were not retried."
    )
    return RetryResult(
        retried=sum(result.retried for result in results.values()),
        still_dead=sum(result.still_dead for result in results.values()),
    )


def drop_dead_letter(client: ClientMessage, message: DropDeadLetter) -> msgspec.Raw:
    """Discard a dead letter of a service; raise ``usage`` for an id without a service."""
    return client.forward(_service_of(message.service, message.dead_id), replace(message, service=None))


def trace_task(client: ClientMessage, message: TraceTask) -> Trace:
    """Return the chain of a task across the services; raise ``task_not_found``.

    Tasks and billing have what is about the task itself. Their parts name its causes, and the days of its entries; the
    others have the events with these.
    """

    def describe(service: str) -> str:
        return f"The events of {service} and its consumers are missing."

    task = client.ask("tasks", GetTask(number=message.number))
    first = client.ask_each(dict.fromkeys(("tasks", "billing"), TraceEvents(task_id=task.task_id)), describe)
    days = {user: each for part in first.values() for user, each in part.days.items()}
    known = {line.event_id: line for part in first.values() for line in part.steps}
    causes = {line.causationid for line in known.values() if line.causationid}
    rest = TraceEvents(task_id=task.task_id, days=days, event_ids=sorted(causes | set(known)))
    others = client.ask_each(dict.fromkeys(("identity", "analytics", "mail"), rest), describe)
    parts = {service: part.steps for service, part in (first | others).items()}
    return Trace(message.number, merging.merge_traces(parts))


COMPOSED: dict[type[Message[Any]], Callable[[ClientMessage, Any], Any]] = {
    DropDeadLetter: drop_dead_letter,
    ListDeadLetters: list_dead_letters,
    ListEvents: list_events,
    RetryDeadLetters: retry_dead_letters,
    ShowBusStatus: show_bus_status,
    ShowEvent: show_event,
    TraceTask: trace_task,
}


def _service_of(service: str | None, dead_id: int) -> str:
    if service is None:
        raise InvalidInput(
            "usage",
            f"On a cluster, dead letter {dead_id} needs its service, such as billing:{dead_id}.",
            hint="Run `popug events dead` for the ids.",
        )
    _check_service(service)
    return service


def _check_service(service: str) -> None:
    if service not in SERVICES:
        hint = f"The services are {', '.join(SERVICES)}."
        raise InvalidInput("usage", f"There is no service {service!r}.", hint=hint, details={"service": service})

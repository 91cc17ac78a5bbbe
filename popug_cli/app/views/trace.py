"""The events of one task and their causes, with its entries and the payouts and mails of those days, in log order."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.queries import document, position_at_publisher
from popug_cli.bus.status import states_of
from popug_cli.bus.stream_store import origin_of
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.money import format_cents
from popug_cli.messages.base import Event
from popug_cli.messages.billing import EntryPosted, PayoutMade
from popug_cli.messages.bus import Trace, TraceLine, TraceTask
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.internal.bus import TraceEvents, TracePart
from popug_cli.messages.mail import MailFailed, MailSent
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import GetTask, TaskAssigned, TaskCompleted

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def trace_task(backend: "LocalBackend", message: TraceTask, principal: Principal) -> Trace:
    """Return the events in log order, without ``entry_corrected``; raise ``task_not_found``."""
    backend.catch_up()
    with backend.asking(principal) as company:
        task = company.ask(GetTask(number=message.number))
        part = _part(company.context, backend.consumers, TraceEvents(task_id=task.task_id))
    return Trace(message.number, part.steps)


def trace_events(backend: "LocalBackend", message: TraceEvents, principal: Principal) -> TracePart:
    """Return the part of a task's chain that the log of a service has."""
    backend.catch_up()
    with backend.querying(principal) as context:
        return _part(context, backend.consumers, message)


def _part(context: Context, consumers: tuple[Consumer, ...], message: TraceEvents) -> TracePart:
    events = context.log.by_subject(message.task_id)
    causes = list(_causes(context, events))
    days, of_users = _entries_payouts_and_mails(context, events, message)
    asked = context.log.by_ids(message.event_ids).values()
    chain = {event.sequence: event for event in [*causes, *events, *of_users, *asked]}
    return TracePart([_step(context, consumers, event) for _, event in sorted(chain.items())], days)


def _causes(context: Context, events: list[Delivered[Event]]) -> Iterator[Delivered[Event]]:
    known = {event.id for event in events}
    for event in events:
        cause = document(event.sequence, context.log.row_at(event.sequence)[-1]).get("causationid")
        if cause and cause not in known:
            known.add(cause)
            cause_event = context.log.by_id(cause)
            if cause_event is not None:
                yield cause_event


def _entries_payouts_and_mails(
    context: Context, events: list[Delivered[Event]], message: TraceEvents
) -> tuple[dict[str, list[date]], list[Delivered[Event]]]:
    """Return the business dates of the task's entries by user, and these entries with the payouts and mails of them."""
    assignees = {event.data.assignee_id for event in events if isinstance(event.data, TaskAssigned | TaskCompleted)}
    all_days, found = dict[str, list[date]](), list[Delivered[Event]]()
    for user in sorted(assignees | set(message.days)):
        entries = context.log.by_subject(user, EntryPosted, task_id=message.task_id)
        days = {event.data.business_date for event in entries if isinstance(event.data, EntryPosted)}
        days |= set(message.days.get(user, []))
        all_days[user] = sorted(days)
        found += entries
        for event in context.log.by_subject(user, PayoutMade, MailSent, MailFailed):
            if isinstance(event.data, PayoutMade | MailSent | MailFailed) and event.data.business_date in days:
                found.append(event)
    return all_days, found


def _step(context: Context, consumers: tuple[Consumer, ...], event: Delivered[Event]) -> TraceLine:
    *_, envelope = context.log.row_at(event.sequence)
    stored: dict[str, Any] = document(event.sequence, envelope)
    subscribed = [consumer.name for consumer in consumers if consumer.subscribes_to(stored["type"])]
    states = states_of(context, event.sequence)
    return TraceLine(
        sequence=position_at_publisher(context, event.sequence),
        at=from_rfc3339(stored["time"]),
        event=type(event.data).NAME,
        actor=event.actor,
        event_id=event.id,
        causationid=stored.get("causationid"),
        correlationid=stored.get("correlationid"),
        detail=_detail(event.data),
        consumers={name: states.get(name, "pending") for name in subscribed},
        occurred_at=_occurred_at(context, event, stored.get("causationid")),
        service=origin_of(envelope),
    )


def _occurred_at(context: Context, event: Delivered[Event], cause_id: str | None) -> datetime | None:
    """Return when the cause of an entry happened, if that differs from the time of posting.

    Return None for corrections and for other events.
    """
    if not isinstance(event.data, EntryPosted) or event.data.corrects or cause_id is None:
        return None
    cause = context.log.by_id(cause_id)
    return cause.time if cause and cause.time != event.time else None


def _detail(data: Event) -> str:
    fields = msgspec.to_builtins(data)
    words = {name: fields[name] for name in ("reason", "kind", "business_date") if name in fields}
    money = [
        f"{name.removesuffix('_cents')} {format_cents(cents)}"
        for name, cents in fields.items()
        if name.endswith("_cents")
    ]
    return ", ".join([*map(str, words.values()), *money])

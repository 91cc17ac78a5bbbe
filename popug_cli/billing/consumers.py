"""Billing's consumer: it opens accounts, prices tasks, charges fees, credits rewards, and records ended days."""

from collections.abc import Iterator, Mapping, Sequence

from popug_cli.billing.days import business_date_resolver, record_ended_days, record_first_day
from popug_cli.billing.ledger import NewEntry, already_posted, post
from popug_cli.billing.prices import Price, price_tasks
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import Event
from popug_cli.messages.billing import EntryKind
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import DayEnded, TaskAssigned, TaskCompleted, TaskCreated

CHARGEABLE = (TaskAssigned, TaskCompleted)  # a union made for each event would cost more than the check


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Open accounts, price new tasks, charge assignments, credit completions, and record ended days.

    The date of the first event that billing ever processes becomes the company's first day.
    """
    record_first_day(context.calendar.date_of(events[0].time), context)
    _open_accounts(events, context)
    prices = price_tasks(events, context)
    chargeable = [event for event in events if isinstance(event.data, CHARGEABLE)]
    posted_ids = already_posted((event.id for event in chargeable), context)
    post([*_entries([event for event in chargeable if event.id not in posted_ids], prices, context)], context)
    record_ended_days([event.data.business_date for event in events if isinstance(event.data, DayEnded)], context)


def _open_accounts(events: Sequence[Delivered[Event]], context: Context) -> None:
    context.connection.insert_many(
        "INSERT INTO billing_accounts (account_id, kind, username, balance_cents, registered_at)"
        " VALUES (?, 'employee', ?, 0, ?) ON CONFLICT (account_id)"
        " DO UPDATE SET username = excluded.username,"
        " registered_at = coalesce(billing_accounts.registered_at, excluded.registered_at)",
        [
            (event.data.user_id, event.data.username, to_rfc3339(event.time))
            for event in events
            if isinstance(event.data, UserRegistered)
        ],
    )


def _entries(events: Sequence[Delivered[Event]], prices: Mapping[str, Price], context: Context) -> Iterator[NewEntry]:
    business_date_of = business_date_resolver(context)
    for event in events:
        assert isinstance(event.data, CHARGEABLE)
        price = prices[event.data.task_id]
        is_fee = isinstance(event.data, TaskAssigned)
        yield NewEntry(
            event_id=event.id,
            employee_id=event.data.assignee_id,
            kind=EntryKind.FEE if is_fee else EntryKind.REWARD,
            amount_cents=price.fee_cents if is_fee else price.reward_cents,
            business_date=business_date_of(event),
            occurred_at=event.time,
            task_id=event.data.task_id,
            cause=event,
        )


CONSUMER = Consumer("billing", (UserRegistered, TaskCreated, TaskAssigned, TaskCompleted, DayEnded), consume)

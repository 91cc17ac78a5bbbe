"""The consumer of analytics: it adds up a batch of events first, then writes the sums with a few statements."""

from collections.abc import Sequence

from popug_cli.analytics.rules import Changes, accumulate
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import Event
from popug_cli.messages.billing import DayClosed, EntryPosted, TaskPriced
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import TaskCompleted, TaskCreated
from popug_cli.storage.port import Connection

ADD_BALANCE = (
    "INSERT INTO analytics_people (user_id, balance_cents) VALUES (?, ?)"
    " ON CONFLICT (user_id) DO UPDATE SET balance_cents = analytics_people.balance_cents + excluded.balance_cents"
)
ADD_BALANCE_CHANGE = (
    "INSERT INTO analytics_balance_changes (business_date, user_id, change_cents) VALUES (?, ?, ?)"
    " ON CONFLICT (business_date, user_id) DO UPDATE"
    " SET change_cents = analytics_balance_changes.change_cents + excluded.change_cents"
)
ADD_DAY_SUMS = (
    "INSERT INTO analytics_days (business_date, fees_cents, rewards_cents, closed) VALUES (?, ?, ?, 0)"
    " ON CONFLICT (business_date) DO UPDATE SET fees_cents = analytics_days.fees_cents + excluded.fees_cents,"
    " rewards_cents = analytics_days.rewards_cents + excluded.rewards_cents"
)
UPSERT_CLOSED_DAY = (
    "INSERT INTO analytics_days (business_date, fees_cents, rewards_cents, closed, in_red_count)"
    " VALUES (?, 0, 0, 1, ?)"
    " ON CONFLICT (business_date) DO UPDATE SET closed = 1, in_red_count = excluded.in_red_count"
)
UPSERT_TASK = (
    "INSERT INTO analytics_tasks (task_id, number, title, reward_cents, completed_at, business_date)"
    " VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (task_id) DO UPDATE SET number = coalesce(excluded.number, analytics_tasks.number),"
    " title = coalesce(excluded.title, analytics_tasks.title),"
    " reward_cents = coalesce(excluded.reward_cents, analytics_tasks.reward_cents),"
    " completed_at = coalesce(excluded.completed_at, analytics_tasks.completed_at),"
    " business_date = coalesce(excluded.business_date, analytics_tasks.business_date)"
)


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Add a batch of events to the tables."""
    write_changes(accumulate(event.data for event in events), context.connection)


def write_changes(changes: Changes, connection: Connection) -> None:
    """Add the sums of a batch to the tables."""
    _write_balances(changes, connection)
    _write_days(changes, connection)
    _write_tasks(changes, connection)


CONSUMER = Consumer(
    "analytics", (UserRegistered, TaskCreated, TaskPriced, TaskCompleted, EntryPosted, DayClosed), consume
)


def _write_balances(changes: Changes, connection: Connection) -> None:
    totals = dict.fromkeys(changes.people, 0)
    for (_, user_id), cents in changes.balances.items():
        totals[user_id] = totals.get(user_id, 0) + cents
    connection.insert_many(ADD_BALANCE, list(totals.items()))
    connection.insert_many(
        ADD_BALANCE_CHANGE,
        [(day.isoformat(), user, cents) for (day, user), cents in changes.balances.items()],
    )


def _write_days(changes: Changes, connection: Connection) -> None:
    connection.insert_many(
        ADD_DAY_SUMS,
        [(day.isoformat(), sums.fees_cents, sums.rewards_cents) for day, sums in changes.days.items()],
    )
    connection.insert_many(UPSERT_CLOSED_DAY, [(day.isoformat(), in_red) for day, in_red in changes.closed.items()])


def _write_tasks(changes: Changes, connection: Connection) -> None:
    rows = [
        (
            task_id,
            task.number,
            task.title,
            task.reward_cents,
            to_rfc3339(task.completed_at) if task.completed_at else None,
            task.business_date.isoformat() if task.business_date else None,
        )
        for task_id, task in changes.tasks.items()
    ]
    connection.insert_many(UPSERT_TASK, rows)

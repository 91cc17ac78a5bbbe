"""Prices: billing draws the price of a task at the first event that names it, and never changes it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from popug_cli.billing.rules import draw_price_cents
from popug_cli.bus.context import Context
from popug_cli.kernel.draws import ALGORITHM
from popug_cli.messages.base import Event
from popug_cli.messages.billing import PriceDraw, TaskPriced
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted, TaskCreated

NAMING_A_TASK = (TaskCreated, TaskAssigned, TaskCompleted)


class Price(NamedTuple):
    """The fee of each assignment of a task, and the reward of its completion, in cents."""

    fee_cents: int
    reward_cents: int


def prices_of(task_ids: Iterable[str], context: Context) -> dict[str, Price]:
    """Return the prices by task id, without the tasks that have none."""
    statement = "SELECT task_id, fee_cents, reward_cents FROM billing_tasks WHERE task_id IN"
    rows = context.connection.select_in(statement, list(task_ids))
    return {task_id: Price(fee, reward) for task_id, fee, reward in rows}


def price_tasks(events: Sequence[Delivered[Event]], context: Context) -> dict[str, Price]:
    """Return the prices of all tasks that the events name; draw and publish those that are missing.

    Numbers and titles from ``task_created`` are stored with the prices.
    """
    first_events: dict[str, Delivered[Event]] = {}
    created_tasks: dict[str, TaskCreated] = {}
    for event in events:
        if isinstance(event.data, NAMING_A_TASK):
            first_events.setdefault(event.data.task_id, event)
        if isinstance(event.data, TaskCreated):
            created_tasks[event.data.task_id] = event.data
    prices = prices_of(first_events, context)
    new_prices = {
        task_id: _draw(task_id, event, context) for task_id, event in first_events.items() if task_id not in prices
    }
    prices |= new_prices
    _store(
        {task_id: prices[task_id] for task_id in first_events if task_id in new_prices or task_id in created_tasks},
        created_tasks,
        context,
    )
    return prices


def _draw(task_id: str, cause: Delivered[Event], context: Context) -> Price:
    seed = context.draws.new_seed("price", task_id)
    price = Price(*draw_price_cents(seed, task_id))
    draw = PriceDraw(seed=seed, algorithm=ALGORITHM)
    context.events.publish(
        TaskPriced(task_id=task_id, fee_cents=price.fee_cents, reward_cents=price.reward_cents, draw=draw),
        cause=cause,
    )
    return price


def _store(prices: dict[str, Price], created_tasks: dict[str, TaskCreated], context: Context) -> None:
    rows = []
    for task_id, price in prices.items():
        created = created_tasks.get(task_id)
        rows.append((task_id, created.number if created else None, created.title if created else None, *price))
    context.connection.insert_many(
        "INSERT INTO billing_tasks (task_id, number, title, fee_cents, reward_cents) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (task_id) DO UPDATE SET number = coalesce(excluded.number, billing_tasks.number),"
        " title = coalesce(excluded.title, billing_tasks.title)",
        rows,
    )

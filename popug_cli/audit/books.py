"""The invariants that take more than a statement: the ledger against its events, days, draws, read models."""

from collections.abc import Iterator
from datetime import date
from itertools import islice, zip_longest
from typing import Any

import msgspec

from popug_cli.analytics.consumers import CONSUMER as ANALYTICS
from popug_cli.audit.rebuild import cursor_of, differences, empty_copy, feed
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.runtime import Context
from popug_cli.kernel.draws import draw_price_cents
from popug_cli.messages.billing import EntryPosted, TaskPriced
from popug_cli.messages.company import Check
from popug_cli.messages.tasks import VerifyShuffle
from popug_cli.tasks.queries import verify_shuffle

FETCH_ROWS = 1_000
POSTED_FIELDS = ("entry_id", "user_id", "kind", "amount_cents", "business_date", "task_id", "corrects")


def entries_as_posted(context: Context) -> Check:
    """Whether ledger and log tell the same entries in the same order."""
    holds = "every entry is as its entry_posted told it, in the same order"
    return verdict("entries_equal_events", holds, list(islice(_unlike_entries(context), SHOWN + 1)))


def closed_days(context: Context) -> Check:
    """Whether every day from the first to the last closed one is closed."""
    connection = context.connection
    first = connection.exec_driver_sql("SELECT first_day FROM billing_company").scalar()
    closed = [
        date.fromisoformat(day)
        for day in connection.exec_driver_sql("SELECT business_date FROM billing_days ORDER BY business_date").scalars()
    ]
    expected = list(context.calendar.days(date.fromisoformat(first), closed[-1])) if first and closed else []
    odd = sorted(set(closed).symmetric_difference(expected))
    return verdict("closed_days_without_gaps", "the closed days have no gap", [str(day) for day in odd])


def draws(context: Context) -> Check:
    """Whether every price and every shuffle came out as their seeds say."""
    return verdict("draws", "every draw comes out again", list(islice(_wrong_draws(context), SHOWN + 1)))


def read_models(context: Context) -> Check:
    """Whether analytics is what a rebuild from the log would be."""
    with empty_copy(context, ANALYTICS) as copy:
        feed(context, ANALYTICS, copy, after=0, up_to=cursor_of(context, ANALYTICS))
        found = [f"{each.table} ({each.example})" for each in differences(context, ANALYTICS, copy)]
    return verdict("read_models_equal_rebuild", "analytics equals a rebuild from the log", found)


def _unlike_entries(context: Context) -> Iterator[str]:
    for entry, posted in zip_longest(_entries(context), _posted(context)):
        if entry != posted:
            yield f"entry {(entry or posted or {}).get('entry_id')}"


def _entries(context: Context) -> Iterator[dict[str, Any]]:
    result = context.connection.exec_driver_sql(
        "SELECT entry_id, employee_id AS user_id, kind, amount_cents, business_date, task_id, corrects"
        " FROM billing_entries ORDER BY position"
    )
    for part in result.mappings().partitions(FETCH_ROWS):
        yield from (dict(row) for row in part)


def _posted(context: Context) -> Iterator[dict[str, Any]]:
    for event in context.log.of_type(EntryPosted):
        fields = msgspec.to_builtins(event.data)
        yield {name: fields.get(name) for name in POSTED_FIELDS}


def _wrong_draws(context: Context) -> Iterator[str]:
    for event in context.log.of_type(TaskPriced):
        priced = event.data
        assert isinstance(priced, TaskPriced)
        if draw_price_cents(priced.draw.seed, priced.task_id) != (priced.fee_cents, priced.reward_cents):
            yield f"the price of task {priced.task_id}"
    done = "SELECT shuffle_id FROM tasks_shuffles WHERE state = 'done' ORDER BY first_sequence"
    for shuffle_id in context.connection.exec_driver_sql(done).scalars().all():
        if verify_shuffle(VerifyShuffle(shuffle_id=shuffle_id), context).different:
            yield f"shuffle {shuffle_id}"

"""The invariants that take more than a statement: the ledger against its events, days, draws, read models."""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from itertools import islice, zip_longest
from typing import NamedTuple

import msgspec

from popug_cli.analytics.consumers import CONSUMER as ANALYTICS
from popug_cli.audit.chain import not_linked
from popug_cli.audit.reading import rows
from popug_cli.audit.rebuild import cursor_of, differences, empty_copy, feed
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.billing.consumers import CONSUMER as BILLING
from popug_cli.billing.rules import sides
from popug_cli.bus.runtime import Context
from popug_cli.bus.status import untaken_problems
from popug_cli.kernel.clock import parse_stamp, stamp
from popug_cli.kernel.draws import ALGORITHM, draw_assignee, draw_price_cents
from popug_cli.mail.consumers import CONSUMER as MAIL
from popug_cli.messages.billing import EntryPosted, TaskPriced
from popug_cli.messages.company import Check
from popug_cli.messages.envelope import decode
from popug_cli.messages.tasks import AssignmentReason, TaskAssigned, VerifyShuffle
from popug_cli.messages.upcasters import versions
from popug_cli.tasks.consumers import CONSUMER as TASKS
from popug_cli.tasks.people import Candidates
from popug_cli.tasks.queries import verify_shuffle


class Proved(NamedTuple):
    """All that is proved of an entry, as texts and numbers of the database."""

    entry_id: str
    user_id: str
    kind: str
    amount_cents: int
    business_date: str
    task_id: str | None
    corrects: str | None
    event_id: str | None
    debit_account: str
    credit_account: str
    occurred_at: str | None
    recorded_at: str


UNREADABLE = Proved("unreadable", "", "", 0, "", None, None, None, "", "", None, "")


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


def nothing_passed_over(context: Context) -> Check:
    """Whether every event up to a consumer's cursor is done by it or set aside."""
    consumers = (ANALYTICS, BILLING, MAIL, TASKS)
    holds = "every event that a cursor has passed is done or set aside"
    return verdict("nothing_passed_over", holds, list(untaken_problems(context, consumers)))


def read_models(context: Context) -> Check:
    """Whether analytics is what a rebuild from the log would be."""
    with empty_copy(context, ANALYTICS) as copy:
        feed(context, ANALYTICS, copy, after=0, up_to=cursor_of(context, ANALYTICS))
        found = [f"{each.table} ({each.example})" for each in differences(context, ANALYTICS, copy)]
    return verdict("read_models_equal_rebuild", "analytics equals a rebuild from the log", found)


def _unlike_entries(context: Context) -> Iterator[str]:
    for entry, posted in zip_longest(_entries(context), _posted(context)):
        if entry != posted:
            yield f"entry {(entry or posted or UNREADABLE).entry_id} ({_odd_fields(entry, posted)})"


def _odd_fields(entry: Proved | None, posted: Proved | None) -> str:
    if entry is None:
        return "told and not in the ledger"
    if posted is None:
        return "in the ledger and never told"
    fields = zip(Proved._fields, entry, posted, strict=True)
    return ", ".join(f"{name} is {stands}, told as {told}" for name, stands, told in fields if stands != told)


def _entries(context: Context) -> Iterator[Proved]:
    """Every entry as it stands, in the order of the ledger."""
    statement = (
        "SELECT entry_id, employee_id, kind, amount_cents, business_date, task_id, corrects, event_id, debit_account,"
        " credit_account, occurred_at, recorded_at FROM billing_entries ORDER BY position"
    )
    return (Proved(*row) for row in rows(context, statement))


def _posted(context: Context) -> Iterator[Proved]:
    """Every entry as its ``entry_posted`` told it; it occurred when its cause did, a correction when it was made."""
    types = tuple(shape.TYPE for shape in versions(EntryPosted))
    statement = (
        "SELECT log.sequence, log.envelope, cause.id, json_extract(cause.envelope, '$.time') FROM bus_log log"
        " LEFT JOIN bus_log cause ON cause.id = json_extract(log.envelope, '$.causationid')"
        f" WHERE log.type IN ({','.join('?' * len(types))}) ORDER BY log.sequence"
    )
    return (_told(*row) for row in rows(context, statement, types))


def _told(sequence: int, envelope: str, cause_id: str | None, caused_at: str | None) -> Proved:
    try:
        event = decode(sequence, envelope)
        occurred_at = _normal(caused_at) if caused_at else None
    except (msgspec.MsgspecError, ValueError):
        return UNREADABLE
    posted, recorded_at = event.data, stamp(event.time)
    assert isinstance(posted, EntryPosted)
    return Proved(
        posted.entry_id,
        posted.user_id,
        posted.kind.value,
        posted.amount_cents,
        posted.business_date.isoformat(),
        posted.task_id,
        posted.corrects,
        cause_id,
        *sides(posted.kind, posted.user_id),
        recorded_at if posted.corrects else occurred_at,
        recorded_at,
    )


@lru_cache(maxsize=1024)
def _normal(instant: str) -> str:
    return stamp(parse_stamp(instant))


def _wrong_draws(context: Context) -> Iterator[str]:
    yield from _wrong_prices(context)
    yield from _wrong_assignees(context)
    done = "SELECT shuffle_id FROM tasks_shuffles WHERE state = 'done' ORDER BY first_sequence"
    for shuffle_id in context.connection.exec_driver_sql(done).scalars().all():
        if verify_shuffle(VerifyShuffle(shuffle_id=shuffle_id), context).different:
            yield f"shuffle {shuffle_id}"


def _wrong_prices(context: Context) -> Iterator[str]:
    for event in context.log.of_type(TaskPriced):
        priced = event.data
        assert isinstance(priced, TaskPriced)
        drawn = draw_price_cents(priced.draw.seed, priced.task_id)
        if priced.draw.algorithm != ALGORITHM or drawn != (priced.fee_cents, priced.reward_cents):
            yield f"the price of task {priced.task_id}"


def _wrong_assignees(context: Context) -> Iterator[str]:
    """The draws outside shuffles that do not come out again; what was appended from outside is none of popug's."""
    candidates, outside = Candidates(context), set(not_linked(context))
    for event in context.log.of_type(TaskAssigned):
        assigned = event.data
        assert isinstance(assigned, TaskAssigned)
        if assigned.reason is AssignmentReason.SHUFFLED or event.sequence in outside:
            continue
        among = candidates.as_of(assigned.draw.candidates_as_of)
        drawn = draw_assignee(assigned.draw.seed, assigned.task_id, among) if among else None
        if assigned.draw.algorithm != ALGORITHM or drawn != assigned.assignee_id:
            yield f"the assignee of task {assigned.task_id} at {event.sequence}"

"""Summaries of the log and the ledger that several SQL invariants read under their names.

``event_fields`` has the fields of the assignments, completions and prices in the log. ``entry_sums`` has the sums of
each employee and business date in each segment of the ledger. In a large company they are temporary tables that are
filled once, otherwise subqueries.
"""

from popug_cli.billing import sql
from popug_cli.billing.rules import SEGMENT_ENTRIES
from popug_cli.bus.context import Context
from popug_cli.bus.publisher import MAX_POSITION
from popug_cli.bus.unlinked_events import BEFORE_FIRST_POSITION
from popug_cli.messages.billing import TaskPriced
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted
from popug_cli.storage.errors import DATABASE_ERRORS
from popug_cli.storage.port import Connection

# SQLite reads each field from the envelope again, so a field is read for the types that need it only.
EVENT_FIELDS = {
    "task_id": "json_extract(envelope, '$.data.task_id')",
    "assignee_id": f"CASE WHEN type <> '{TaskPriced.TYPE}' THEN json_extract(envelope, '$.data.assignee_id') END",
    "fee_cents": f"CASE type WHEN '{TaskPriced.TYPE}' THEN json_extract(envelope, '$.data.fee_cents') END",
    "reward_cents": f"CASE type WHEN '{TaskPriced.TYPE}' THEN json_extract(envelope, '$.data.reward_cents') END",
    "time": f"CASE type WHEN '{TaskCompleted.TYPE}' THEN json_extract(envelope, '$.time') END",
}
SELECT_EVENT_FIELDS = (
    "SELECT sequence, type, id, subject, "
    + ", ".join(f"{expression} AS {name}" for name, expression in EVENT_FIELDS.items())
    + f" FROM bus_log WHERE type IN ('{TaskAssigned.TYPE}', '{TaskCompleted.TYPE}', '{TaskPriced.TYPE}')"
)
ENTRY_SUMS = {
    "amount_cents": "sum(amount_cents)",
    "change_cents": f"sum({sql.SIGNED})",
    "fees_cents": f"sum({sql.FEES})",
    "rewards_cents": f"sum({sql.REWARDS})",
    "payouts_cents": f"sum({sql.PAYOUTS})",
    "paid_count": "count(*) FILTER (WHERE kind = 'payout')",
    "first_recorded_at": "min(recorded_at)",
    "last_recorded_at": "max(recorded_at)",
}
ENTRY_GROUPS = ("employee_id", "business_date", "segment", "debit_account", "credit_account")


def _select_entry_sums(condition: str) -> str:
    """Return the SQL for the sums of the entries that fulfil a condition."""
    sums = ", ".join(f"{expression} AS {name}" for name, expression in ENTRY_SUMS.items())
    return (
        f"SELECT employee_id, business_date, (position - 1) / {SEGMENT_ENTRIES} AS segment, debit_account,"
        f" credit_account, {sums} FROM billing_entries entry WHERE {condition} GROUP BY 1, 2, 3, 4, 5"
    )


SUMMARIES = {"event_fields": SELECT_EVENT_FIELDS, "entry_sums": _select_entry_sums("TRUE")}


def read_from_summaries(statement: str, context: Context) -> str:
    """Return a statement that reads summaries as one to run: from the temporary tables that there are, else the log."""
    filled = context.connection.column("SELECT name FROM sqlite_temp_master")
    for name, select in SUMMARIES.items():
        if name not in filled:
            statement = statement.replace(name, f"({select})")
    return statement


def fill_summaries(context: Context) -> None:
    """Fill temporary tables, which exist as long as the connection; leave one out if that raises.

    Each check that reads a missing table reads the log or the ledger, and reports its own error.
    """
    for name, fill in (("event_fields", _fill_event_fields), ("entry_sums", _fill_entry_sums)):
        try:
            fill(context.connection)
        except DATABASE_ERRORS:
            context.connection.execute(f"DROP TABLE IF EXISTS {name}")


def _fill_event_fields(connection: Connection) -> None:
    columns = ", ".join(("type", "id", "subject", *EVENT_FIELDS))
    connection.execute(f"CREATE TEMP TABLE event_fields (sequence INTEGER PRIMARY KEY, {columns})")
    connection.execute(f"INSERT INTO event_fields {SELECT_EVENT_FIELDS}")


def _fill_entry_sums(connection: Connection) -> None:
    """Group one segment after the other: SQLite sorts a thousand rows much faster than a thousandth of a million."""
    connection.execute(f"CREATE TEMP TABLE entry_sums ({', '.join((*ENTRY_GROUPS, *ENTRY_SUMS))})")
    select_next = "SELECT position FROM billing_entries WHERE position > ? ORDER BY position LIMIT 1"
    insert = f"INSERT INTO entry_sums {_select_entry_sums('position BETWEEN ? AND ?')}"
    last = BEFORE_FIRST_POSITION
    while (first := connection.scalar(select_next, last)) is not None:
        last = min(first + (-first) % SEGMENT_ENTRIES, MAX_POSITION)
        connection.execute(insert, first, last)

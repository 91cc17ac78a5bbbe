"""Detect removed links of the hash chain.

For the types in ``WITNESS_ROWS``, popug writes an event, its link and a table row in one transaction. So an unlinked
event with such a row lost its link. An event that another program inserted has no such row, or repeats a linked event.
"""

from collections.abc import Iterator

from popug_cli.bus.context import Context
from popug_cli.storage.id_index import equal_ids

# The row that popug writes in the same transaction as the event, by type.
WITNESS_ROWS = {
    "popug.identity.user_registered.v1": "identity_users WHERE user_id = log.subject",
    "popug.identity.token_issued.v1": "identity_tokens WHERE token_id = log.subject",
    "popug.tasks.task_created.v2": "tasks_tasks WHERE task_id = log.subject",
    "popug.tasks.task_completed.v1": (
        "tasks_tasks WHERE task_id = log.subject AND completed_at = json_extract(log.envelope, '$.time')"
    ),
    "popug.tasks.tasks_shuffled.v1": "tasks_shuffles WHERE shuffle_id = log.subject AND state = 'done'",
    "popug.tasks.day_ended.v1": "tasks_ended_days WHERE event_id = log.id",
    "popug.billing.task_priced.v1": "billing_tasks WHERE task_id = log.subject",
    "popug.billing.payout_made.v1": "billing_entries WHERE event_id = log.id",
    "popug.billing.payout_made.v2": "billing_entries WHERE event_id = log.id",
    "popug.billing.entry_posted.v1": ("billing_entries WHERE entry_id = json_extract(log.envelope, '$.data.entry_id')"),
    "popug.billing.day_closed.v1": "billing_days WHERE business_date = log.subject",
}
REPEATED_TYPES = (
    "popug.billing.payout_made.v1",
    "popug.billing.payout_made.v2",
    "popug.billing.entry_posted.v1",
)
SELECT_WITNESS = (
    "SELECT 1 FROM bus_log log WHERE sequence = ? AND CASE type "
    + " ".join(f"WHEN '{type_}' THEN EXISTS (SELECT 1 FROM {witness})" for type_, witness in WITNESS_ROWS.items())
    + " END"
)
SELECT_SAME_EVENTS = (
    f"SELECT other.sequence FROM bus_log log JOIN bus_log other ON {equal_ids('other.subject', 'log.subject')}"
    f" AND other.type = log.type WHERE log.sequence = ? AND log.type NOT IN {REPEATED_TYPES}"
)


def own_unlinked(context: Context, unlinked: list[int]) -> Iterator[int]:
    """Yield the unlinked positions whose event popug itself wrote and no linked event repeats."""
    unlinked_positions = set(unlinked)
    for sequence in unlinked:
        has_witness = context.connection.select_one(SELECT_WITNESS, sequence) is not None
        if has_witness and unlinked_positions.issuperset(context.connection.column(SELECT_SAME_EVENTS, sequence)):
            yield sequence

"""The end state of a world, for the comparison with its undisturbed twin.

It contains users, tasks with their assignees and prices, shuffles, accounts, entries with their causes and dates,
balances by day, closed days with their figures, analytics, mails, and that no event is parked. It leaves out traces
of the path to the end: positions in the log, times of posting and queueing, ids of entries, mails and the events that
consumers publish. The cause of an entry is its type, its subject and the command's event that caused it.
"""

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

SELECT_CAUSES = "SELECT entry_id, type, subject, envelope FROM billing_entries JOIN bus_log ON id = event_id"
COLUMNS = {
    "identity_users": "user_id, username, email, role, active, registered_at",
    "tasks_people": "user_id, username, role, active, assignable",
    "tasks_tasks": "number, task_id, title, jira_id, creator_id, assignee_id, status, fee_cents, reward_cents,"
    " created_at, completed_at",
    "tasks_imported": "identity, number",
    "tasks_shuffles": "shuffle_id, requested_by, requested_at, state, seed, candidates_count, task_count, error",
    "billing_accounts": "account_id, kind, username, balance_cents, registered_at",
    "billing_tasks": "task_id, number, title, fee_cents, reward_cents",
    "billing_entries": "entry_id, employee_id, debit_account, credit_account, amount_cents, kind, business_date,"
    " occurred_at, task_id",
    "billing_account_days": "*",
    "billing_days": "*",
    "billing_company": "*",
    "billing_ended_days": "business_date",
    "tasks_company": "*",
    "tasks_ended_days": "business_date, ended_at",
    "analytics_people": "*",
    "analytics_balance_changes": "*",
    "analytics_days": "*",
    "analytics_tasks": "*",
    "mail_receivers": "*",
    "mail_outbox": "user_id, business_date, kind, amount_cents, status",
    "mail_summaries": "*",
    "bus_set_aside": "consumer, sequence, state, error",
}

State = dict[str, list[tuple[Any, ...]]]


def end_state(world: "World") -> State:
    """Return all compared rows, sorted, by table."""
    causes = {
        entry_id: (type_, subject, json.loads(envelope).get("causationid"))
        for entry_id, type_, subject, envelope in world.rows(SELECT_CAUSES)
    }
    state = {table: world.rows(f"SELECT {columns} FROM {table}") for table, columns in COLUMNS.items()}
    state["billing_entries"] = [(causes.get(entry_id), *entry) for entry_id, *entry in state["billing_entries"]]
    return {table: sorted(rows, key=repr) for table, rows in state.items()}


def require_equal(state: State, expected: State, rule: str) -> None:
    """Raise a violation of the rule that names the first table and rows that differ."""
    for table, rows in expected.items():
        if rows != state[table]:
            missing, odd = [list(set(a) - set(b)) for a, b in ((rows, state[table]), (state[table], rows))]
            detail = f"{table}: {len(missing)} rows missing {missing[:2]}, {len(odd)} too many {odd[:2]}"
            raise Violation(rule, detail)

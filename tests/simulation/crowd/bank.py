"""Jepsen's bank test in terms of popug: in every snapshot all accounts sum to zero and equal their entries."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

SUM = "SELECT coalesce(sum(balance_cents), 0), count(*) FROM billing_accounts"
MOVED = (
    "SELECT account_id, balance_cents, (SELECT coalesce(sum(amount_cents), 0) FROM billing_entries WHERE"
    " credit_account = account_id) - (SELECT coalesce(sum(amount_cents), 0) FROM billing_entries WHERE"
    " debit_account = account_id) AS entered_cents FROM billing_accounts WHERE balance_cents <> entered_cents"
)
HALF_SHUFFLED = (
    "SELECT shuffle_id, task_count FROM tasks_shuffles s WHERE state = 'done' AND task_count <> (SELECT count(*) FROM"
    " bus_log WHERE type = 'popug.tasks.task_assigned.v1' AND envelope ->> '$.data.shuffle_id' = s.shuffle_id)"
)
LONG_LOOK_EVERY = 8


class Readings(msgspec.Struct):
    """how many snapshots were read, and what was wrong in which."""

    snapshots: int = 0
    faults: list[str] = []


def read(database: Path, readings: Readings) -> None:
    """Look at one snapshot; now and then at everything in it."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)) as reader:
        reader.execute("BEGIN")
        sum_cents, accounts = reader.execute(SUM).fetchone()
        readings.snapshots += 1
        if sum_cents:
            readings.faults.append(f"{accounts} accounts sum to {sum_cents} cents")
        if readings.snapshots % LONG_LOOK_EVERY == 0:
            readings.faults += [f"{who} has {has}, entries say {told}" for who, has, told in reader.execute(MOVED)]
            readings.faults += [
                f"shuffle {id_} of {count} is half there" for id_, count in reader.execute(HALF_SHUFFLED)
            ]

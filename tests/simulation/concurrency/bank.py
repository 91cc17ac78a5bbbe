"""Jepsen's bank test for popug: in every snapshot all accounts sum to zero and equal their entries."""

from pathlib import Path

import msgspec

from tests.simulation import place

SUM = "SELECT coalesce(sum(balance_cents), 0), count(*) FROM billing_accounts"
MOVED = (
    "WITH moves AS (SELECT credit_account AS account_id, amount_cents AS cents FROM billing_entries UNION ALL SELECT"
    " debit_account, -amount_cents FROM billing_entries), sums AS (SELECT account_id, sum(cents) AS cents FROM moves"
    " GROUP BY account_id) SELECT account_id, balance_cents, coalesce(cents, 0) FROM billing_accounts LEFT JOIN sums"
    " USING (account_id) WHERE balance_cents <> coalesce(cents, 0)"
)
SHUFFLE_OF = ("envelope ->> '$.data.shuffle_id'", "CAST(envelope AS json) #>> '{data,shuffle_id}'")
HALF_SHUFFLED = (
    "WITH told AS (SELECT {} AS shuffle_id, count(*) AS times FROM bus_log WHERE type ="
    " 'popug.tasks.task_assigned.v1' GROUP BY 1) SELECT shuffle_id, task_count FROM tasks_shuffles LEFT JOIN told"
    " USING (shuffle_id) WHERE state = 'done' AND task_count <> coalesce(times, 0)"
)
LONG_LOOK_EVERY = 8


class Readings(msgspec.Struct):
    """The number of snapshots that were read, and their faults."""

    snapshots: int = 0
    faults: list[str] = []


def read(home: Path, readings: Readings) -> None:
    """Check one snapshot; check every Nth completely."""
    half_shuffled = HALF_SHUFFLED.format(SHUFFLE_OF[place.is_on_server(home)])
    with place.snapshot(home) as select:
        ((sum_cents, accounts),) = select(SUM)
        readings.snapshots += 1
        if sum_cents:
            readings.faults.append(f"{accounts} accounts sum to {sum_cents} cents")
        if readings.snapshots % LONG_LOOK_EVERY == 0:
            readings.faults += [f"{who} has {has}, entries say {told}" for who, has, told in select(MOVED)]
            readings.faults += [f"shuffle {id_} of {count} is half there" for id_, count in select(half_shuffled)]

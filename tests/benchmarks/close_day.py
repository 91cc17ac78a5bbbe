"""The cost of a close, with all consumers caught up and the mail queued, against the row floor.

``python -m tests.benchmarks.close_day [--quick]``; each of 100,000 payees is paid for one completed task. Every round
closes the same day of the same company again.
"""

import gc
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.benchmarks.figures import Figure, show
from tests.benchmarks.floor import Cost, copy_database, costing, row_floor
from tests.support.billing_company import assigned, completed_by, created
from tests.support.company import InProcess

GOAL = 1.4
KEPT = "kept.db"
CROWD = 25_000
ADDED = ("bus_log", "bus_links", "billing_entries", "billing_days", "mail_outbox")
CHANGED = (
    ("billing_accounts", "account_id"),
    ("billing_account_days", "employee_id,business_date"),
    ("analytics_people", "user_id"),
    ("analytics_balance_changes", "business_date,user_id"),
    ("analytics_days", "business_date"),
)


def company(folder: Path, payees: int) -> InProcess:
    """Return a company with that many people, nearly all with a positive balance."""
    made = InProcess(folder / "home")
    publish(made, range(1, 100))
    made.act("boss", CloseDay())
    made.clock.advance(days=1)
    for first in range(0, payees, CROWD):
        publish(made, range(first + 100, min(first + CROWD, payees) + 100))
    made.backend.close()
    return made


def publish(made: InProcess, numbers: range) -> None:
    """Register a new user for each number, who completes one task."""
    with made.backend.runtime.writing(OPERATOR) as context:
        for n in numbers:
            who = f"p{n:06}"
            context.events.publish(
                UserRegistered(user_id=who, username=who, email=f"{who}@example.com", role=Role.WORKER)
            )
            context.events.publish(created(f"t{n}", n, who))
            context.events.publish(assigned(f"t{n}", who))
            context.events.publish(completed_by(f"t{n}", who, made.clock.now()))
    made.backend.catch_up()


def one_round(made: InProcess, folder: Path) -> tuple[Cost, Cost, int]:
    """Return the cost of the close and of its rows, and the number of payouts; both in a fresh copy of ``kept.db``."""
    before, after, kept = folder / "before.db", folder / "after.db", folder / KEPT
    shutil.copyfile(kept, made.backend.home.database)
    shutil.copyfile(kept, before)
    made.backend.catch_up()
    with costing() as spent:
        report = made.act("boss", CloseDay(send_mail=False))
        made.backend.catch_up()
        ours = spent()
    made.backend.close()
    copy_database(made.backend.home.database, after)
    return ours, row_floor(before, after, added=ADDED, changed=CHANGED), report.days[0].paid_count


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare a close with its rows by processor time."""
    payees, rounds = (2_000, 2) if quick else (100_000, 5)
    os.environ["POPUG_BUS_CATCH_UP_SECONDS"] = "3600"
    gc.disable()  # as the command itself does
    with tempfile.TemporaryDirectory() as folder:
        made = company(Path(folder), payees)
        copy_database(made.backend.home.database, Path(folder) / KEPT)
        costs = [one_round(made, Path(folder)) for _ in range(rounds)]
    paid = costs[0][2]
    ours_us = statistics.median(ours.cpu_seconds for ours, _, _ in costs) / paid * 1e6
    floor_us = statistics.median(floor.cpu_seconds for _, floor, _ in costs) / paid * 1e6
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = f"{paid:,} paid; {ours_us:.0f} us of the processor a payee, rows {floor_us:.0f}; memory {peak_mib:.0f} MiB"
    ratios = [ours.cpu_seconds / floor.cpu_seconds for ours, floor, _ in costs]
    yield Figure(f"close-day for {payees:,} / row floor", ratios, GOAL, note=note)


if __name__ == "__main__":
    deque(show(figures(quick="--quick" in sys.argv)), maxlen=0)

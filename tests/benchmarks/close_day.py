"""What a close costs, all consumers caught up and the mail queued, against the row floor.

``python -m tests.benchmarks.close_day [PAYEES] [ROUNDS]``, 100,000 payees in 3 rounds if left out; each is paid for
one completed task. Every round closes the same day of the same company anew.
"""

import gc
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.benchmarks.floor import Cost, copy_database, costing, row_floor
from tests.integration.billing_support import assigned, completed_by, created
from tests.integration.support import InProcess

GOAL = 1.6
CROWD = 25_000
ADDED = ("bus_log", "bus_links", "bus_inbox", "billing_entries", "billing_days", "mail_outbox")
CHANGED = (
    ("billing_accounts", "account_id"),
    ("billing_account_days", "employee_id,business_date"),
    ("analytics_people", "user_id"),
    ("analytics_balance_changes", "business_date,user_id"),
    ("analytics_days", "business_date"),
)


def company(folder: Path, payees: int) -> InProcess:
    """A company with so many people, of whom nearly all have earned more than they paid."""
    made = InProcess(folder / "home")
    publish(made, range(1, 100))
    made.act("boss", CloseDay())
    made.clock.advance(days=1)
    for first in range(0, payees, CROWD):
        publish(made, range(first + 100, min(first + CROWD, payees) + 100))
    made.place.close()
    return made


def publish(made: InProcess, numbers: range) -> None:
    """Somebody new for each number, with a task that they have completed."""
    with made.place.runtime.writing(OPERATOR) as context:
        for n in numbers:
            who = f"p{n:06}"
            context.events.publish(
                UserRegistered(user_id=who, username=who, email=f"{who}@example.com", role=Role.WORKER)
            )
            context.events.publish(created(f"t{n}", n, who))
            context.events.publish(assigned(f"t{n}", who))
            context.events.publish(completed_by(f"t{n}", who, made.clock.now()))
    made.place.catch_up()


def one_round(made: InProcess, folder: Path) -> tuple[Cost, Cost, int]:
    """The cost of the close, and of its rows, and how many were paid; the company is as it was before."""
    before, after, kept = folder / "before.db", folder / "after.db", folder / "kept.db"
    copy_database(made.place.home.database, before)
    shutil.copyfile(before, kept)
    made.place.catch_up()
    with costing() as spent:
        report = made.act("boss", CloseDay(send_mail=False))
        made.place.catch_up()
        ours = spent()
    made.place.close()
    copy_database(made.place.home.database, after)
    shutil.copyfile(kept, made.place.home.database)
    return ours, row_floor(before, after, added=ADDED, changed=CHANGED), report.days[0].paid_count


def main(payees: int, rounds: int) -> None:
    """Print the table."""
    os.environ["POPUG_BUS_CATCH_UP_SECONDS"] = "3600"
    gc.disable()  # as the command itself does
    with tempfile.TemporaryDirectory() as folder:
        made = company(Path(folder), payees)
        costs = [one_round(made, Path(folder)) for _ in range(rounds)]
    paid = costs[0][2]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    sys.stdout.write(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit.strip()}\n"
        f"{paid} paid of {payees} people, {rounds} rounds\n"
    )
    for place, what in enumerate(("wall", "processor")):
        ours = [each[0][place] / paid * 1e6 for each in costs]
        floor = [each[1][place] / paid * 1e6 for each in costs]
        ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
        sys.stdout.write(
            f"{what:<10} {statistics.median(ours):7.1f} us a payee, row floor {statistics.median(floor):7.1f} us,"
            f" ratio {ratio:.2f} (goal: at most {GOAL})\n"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"memory     {peak_mib:7.0f} MiB at most\n")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [100_000, 3][len(given) :]))

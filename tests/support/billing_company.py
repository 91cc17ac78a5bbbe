"""A company of published events only, in which billing is the only consumer."""

import sqlite3
from contextlib import closing
from datetime import date, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from popug_cli import bootstrap
from popug_cli.billing.closing import close_next
from popug_cli.billing.consumers import CONSUMER
from popug_cli.billing.prices import Price
from popug_cli.billing.queries import get_balance, get_income, get_statement, list_task_entries
from popug_cli.bus.catch_up import CatchUpResult, catch_up
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Event, Role
from popug_cli.messages.billing import (
    Balance,
    ClosedDay,
    Entry,
    GetBalance,
    GetIncome,
    GetStatement,
    Income,
    ListTaskEntries,
    Statement,
)
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import AssigneeDraw, AssignmentReason, TaskAssigned, TaskCompleted, TaskCreated
from popug_cli.storage import migrate
from tests.support.company import SeededChance, SetClock

DRAW = AssigneeDraw(seed="00", algorithm="sha256-v1", candidates_as_of=0)
LEDGER = ("billing_accounts", "billing_tasks", "billing_entries", "billing_account_days", "billing_days")


@cache
def migrated() -> bytes:
    """Return an empty database with every table, made once."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder))
        migrate.create(home)
        with closing(sqlite3.connect(home.database)) as database:
            return database.serialize()


class BillingCompany:
    """Billing on a file; users and tasks are called by their ids."""

    def __init__(self, folder: Path, time_zone: str = "Europe/Berlin", clock: SetClock | None = None) -> None:
        self.clock = clock or SetClock()
        home = Home(folder)
        home.make()
        home.database.write_bytes(migrated())
        bootstrap.found_company(home, time_zone, clock=self.clock, randomness=SeededChance())
        self.runtime = bootstrap.open_runtime(home, clock=self.clock, randomness=SeededChance())
        self.tasks = 0

    def set_local_time(self, local: str) -> None:
        """Move the clock to a local time of the company, such as ``2026-03-02 10:00``."""
        self.clock.instant = self.instant(local)

    def instant(self, local: str) -> datetime:
        return datetime.fromisoformat(local).replace(tzinfo=self.runtime.calendar.local(self.clock.now()).tzinfo)

    def publish(self, *events: Event) -> list[str]:
        with self.runtime.writing(OPERATOR) as context:
            return [context.events.publish(event) for event in events]

    def publish_and_catch_up(self, *events: Event) -> CatchUpResult:
        self.publish(*events)
        report = self.catch_up()
        assert (report.failures, report.errors) == ({}, [])
        return report

    def catch_up(self) -> CatchUpResult:
        return catch_up(self.runtime, [CONSUMER])

    def register(self, *names: str) -> None:
        self.publish_and_catch_up(
            *(UserRegistered(user_id=n, username=n, email=f"{n}@example.com", role=Role.WORKER) for n in names)
        )

    def task(self, assignee: str, *, completed: bool = False) -> str:
        self.tasks += 1
        task_id = f"task-{self.tasks}"
        events = [created(task_id, self.tasks, assignee), assigned(task_id, assignee)]
        self.publish_and_catch_up(*events, *([completed_by(task_id, assignee, self.clock.now())] if completed else []))
        return task_id

    def complete(self, task_id: str, assignee: str) -> None:
        self.publish_and_catch_up(completed_by(task_id, assignee, self.clock.now()))

    def close(self, up_to: str) -> list[ClosedDay]:
        closed_days: list[ClosedDay] = []
        while True:
            with self.runtime.writing(OPERATOR) as context:
                day = close_next(date.fromisoformat(up_to), context)
            if day is None:
                return closed_days
            closed_days.append(day)

    def balance(self, username: str, **parameters: Any) -> Balance:
        with self.runtime.reading(OPERATOR) as context:
            return get_balance(GetBalance(username=username, **parameters), context)

    def cents(self, username: str, **parameters: Any) -> int:
        return self.balance(username, **parameters).balance_cents

    def statement(self, username: str, first: str, last: str, **parameters: Any) -> Statement:
        parameters |= {"from_date": date.fromisoformat(first), "to_date": date.fromisoformat(last)}
        with self.runtime.reading(OPERATOR) as context:
            return get_statement(GetStatement(username=username, **parameters), context)

    def income(self, **parameters: Any) -> Income:
        with self.runtime.reading(OPERATOR) as context:
            return get_income(GetIncome(**parameters), context)

    def task_entries(self, task_id: str, username: str | None = None, asker: Principal = OPERATOR) -> list[Entry]:
        with self.runtime.reading(asker) as context:
            return list_task_entries(ListTaskEntries(task_id=task_id, username=username), context).entries

    def price(self, task_id: str) -> Price:
        (row,) = self.rows(f"SELECT fee_cents, reward_cents FROM billing_tasks WHERE task_id = '{task_id}'")
        return Price(row["fee_cents"], row["reward_cents"])

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def execute(self, statement: str) -> None:
        with self.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        return {table: self.rows(f"SELECT * FROM {table}") for table in LEDGER}

    def events(self, kind: type[Event]) -> list[dict[str, Any]]:
        statement = f"SELECT envelope FROM bus_log WHERE type = '{kind.TYPE}' ORDER BY sequence"
        return [msgspec.json.decode(row["envelope"]) for row in self.rows(statement)]


def created(task_id: str, number: int, assignee: str) -> TaskCreated:
    return TaskCreated(
        task_id=task_id, number=number, title=f"Task {number}", creator_id=assignee, assignee_id=assignee
    )


def assigned(task_id: str, assignee: str) -> TaskAssigned:
    return TaskAssigned(task_id=task_id, assignee_id=assignee, reason=AssignmentReason.CREATED, draw=DRAW)


def completed_by(task_id: str, assignee: str, at: datetime) -> TaskCompleted:
    return TaskCompleted(task_id=task_id, assignee_id=assignee, completed_at=at)


def check_books(rows: Any) -> None:
    """Check every invariant of the ledger, computed from its entries alone; ``rows`` runs a statement."""
    entries = rows("SELECT * FROM billing_entries ORDER BY business_date, position")
    balances: dict[str, int] = {}
    ends: dict[tuple[str, str], int] = {}
    for entry in entries:
        for account, sign in ((entry["debit_account"], -1), (entry["credit_account"], 1)):
            balances[account] = balances.get(account, 0) + sign * entry["amount_cents"]
        ends[entry["employee_id"], entry["business_date"]] = balances[entry["employee_id"]]
        assert entry["kind"] != "payout" or balances[entry["employee_id"]] == 0
    stored = {row["account_id"]: row["balance_cents"] for row in rows("SELECT * FROM billing_accounts")}
    assert sum(stored.values()) == 0
    assert {account: cents for account, cents in stored.items() if cents} == {a: c for a, c in balances.items() if c}
    days = {(day["employee_id"], day["business_date"]): day for day in rows("SELECT * FROM billing_account_days")}
    assert {key: day["balance_cents"] for key, day in days.items()} == ends
    sums = {key: dict.fromkeys(("fees_cents", "rewards_cents", "payouts_cents"), 0) for key in days}
    for entry in entries:
        kind, _, reversal = entry["kind"].partition("_")
        cents = -entry["amount_cents"] if reversal else entry["amount_cents"]
        sums[entry["employee_id"], entry["business_date"]][f"{kind}s_cents"] += cents
    assert {key: {name: day[name] for name in sums[key]} for key, day in days.items()} == sums

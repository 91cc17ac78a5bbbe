"""Billing's tables: accounts, prices, the ledger, balances by day, closed days."""

from sqlalchemy import CheckConstraint, Column, Computed, Index, Integer, Text, text
from sqlmodel import Field, SQLModel

from popug_cli.billing.rules import FEE_RANGE_CENTS, REWARD_RANGE_CENTS, debit_and_credit
from popug_cli.messages.billing import EntryKind
from popug_cli.storage.id_index import id_end


def _within(column: str, values: range) -> str:
    return f"{column} BETWEEN {values[0]} AND {values[-1]} AND {column} % {values.step} = 0"


def _account(side: int) -> Computed:
    """Return the account that an entry debits (side 0) or credits (side 1), by its kind and employee."""
    accounts = {kind: debit_and_credit(kind, "employee_id")[side] for kind in EntryKind}
    cases = " ".join(
        f"WHEN '{kind}' THEN {account if account == 'employee_id' else repr(account)}"
        for kind, account in accounts.items()
    )
    return Computed(f"CASE kind {cases} END", persisted=False)


class AccountRow(SQLModel, table=True):
    """An account with its balance (credits minus debits, in cents).

    An employee's ``account_id`` is the user id. ``username`` and ``registered_at`` are NULL until billing has processed
    the registration.
    """

    __tablename__ = "billing_accounts"
    __table_args__ = (
        CheckConstraint("kind IN ('employee', 'management', 'payouts')", name="known_kind"),
        CheckConstraint("kind = 'employee' OR (username IS NULL AND account_id = kind)", name="people_have_names"),
        {"sqlite_strict": True},
    )

    account_id: str = Field(primary_key=True)
    kind: str
    username: str | None = Field(unique=True)
    balance_cents: int
    registered_at: str | None


class TaskRow(SQLModel, table=True):
    """The price of a task; ``number`` and ``title`` are NULL until billing has processed its ``task_created``."""

    __tablename__ = "billing_tasks"
    __table_args__ = (
        CheckConstraint(_within("fee_cents", FEE_RANGE_CENTS), name="fee_in_bounds"),
        CheckConstraint(_within("reward_cents", REWARD_RANGE_CENTS), name="reward_in_bounds"),
        {"sqlite_strict": True, "sqlite_with_rowid": False},
    )

    task_id: str = Field(primary_key=True)
    number: int | None
    title: str | None
    fee_cents: int
    reward_cents: int


class EntryRow(SQLModel, table=True):
    """A line of the ledger, which never changes: it moves an amount from the debited to the credited account.

    ``event_id`` is the event that caused it. ``occurred_at`` is the time of that event, or of the correction.
    ``corrects`` is the reversed entry.
    """

    __tablename__ = "billing_entries"
    __table_args__ = (
        CheckConstraint("amount_cents > 0", name="positive_amount"),
        CheckConstraint(f"kind IN ({', '.join(repr(kind.value) for kind in EntryKind)})", name="known_kind"),
        CheckConstraint("(kind = 'payout') = (task_id IS NULL)", name="payouts_alone_have_no_task"),
        CheckConstraint(
            "(kind IN ('fee_reversal', 'reward_reversal')) = (corrects IS NOT NULL)", name="reversals_correct"
        ),
        Index("billing_entries_statement", "employee_id", "business_date"),
        Index("billing_entries_task", text(id_end("task_id"))),
        Index(
            "billing_entries_one_payout",
            "business_date",
            "employee_id",
            unique=True,
            sqlite_where=text("kind = 'payout'"),
            postgresql_where=text("kind = 'payout'"),
        ),
        Index(
            "billing_entries_corrected",
            "corrects",
            unique=True,
            sqlite_where=text("corrects IS NOT NULL"),
            postgresql_where=text("corrects IS NOT NULL"),
        ),
        {"sqlite_strict": True},
    )

    position: int = Field(sa_column=Column(Integer, primary_key=True))
    entry_id: str = Field(unique=True)
    event_id: str = Field(unique=True)
    employee_id: str = Field(foreign_key="billing_accounts.account_id")
    debit_account: str = Field(sa_column=Column(Text, _account(0)))
    credit_account: str = Field(sa_column=Column(Text, _account(1)))
    amount_cents: int
    kind: str
    business_date: str
    occurred_at: str
    recorded_at: str
    task_id: str | None = Field(foreign_key="billing_tasks.task_id")
    corrects: str | None = Field(foreign_key="billing_entries.entry_id")


class AccountDayRow(SQLModel, table=True):
    """The sums of an employee's entries on a business date (net of reversals), and the balance at its end."""

    __tablename__ = "billing_account_days"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    employee_id: str = Field(primary_key=True, foreign_key="billing_accounts.account_id")
    business_date: str = Field(primary_key=True)
    fees_cents: int
    rewards_cents: int
    payouts_cents: int
    balance_cents: int


class SegmentRow(SQLModel, table=True):
    """The sums of one employee and business date in a full ledger segment (1,024 positions), which never change.

    ``change_cents`` is the change of the balance, ``earned_cents`` the rewards in it net of reversals.
    """

    __tablename__ = "billing_segments"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    employee_id: str = Field(primary_key=True, foreign_key="billing_accounts.account_id")
    business_date: str = Field(primary_key=True)
    segment: int = Field(primary_key=True)
    change_cents: int
    earned_cents: int
    first_recorded_at: str
    last_recorded_at: str


class DayRow(SQLModel, table=True):
    """A closed day with its figures, which never change."""

    __tablename__ = "billing_days"
    __table_args__ = (
        CheckConstraint("payouts_cents >= 0 AND paid_count >= 0 AND in_red_count >= 0", name="counted"),
        {"sqlite_strict": True},
    )

    business_date: str = Field(primary_key=True)
    fees_cents: int
    rewards_cents: int
    payouts_cents: int
    paid_count: int
    in_red_count: int
    closed_at: str


class EndedDayRow(SQLModel, table=True):
    """A day that tasks has ended, as far as billing has consumed its ``day_ended``."""

    __tablename__ = "billing_ended_days"
    __table_args__ = ({"sqlite_strict": True},)

    business_date: str = Field(primary_key=True)
    recorded_at: str


class CompanyRow(SQLModel, table=True):
    """The single row with the company's first day."""

    __tablename__ = "billing_company"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(sa_column=Column(Integer, primary_key=True))
    first_day: str

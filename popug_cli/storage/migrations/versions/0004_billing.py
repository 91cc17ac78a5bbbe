"""The tables of billing."""

from alembic import op

revision = "0004"
down_revision = "0003"


def _append_only(table: str, what: str) -> tuple[str, str]:
    """Return triggers that refuse to change or delete rows."""
    return tuple(  # type: ignore[return-value]
        f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{what} never change'); END"
        for act in ("UPDATE", "DELETE")
    )


def _guard_closed_days(act: str) -> str:
    """Return a trigger that refuses changes to a closed day."""
    return (
        f"CREATE TRIGGER billing_account_days_open_{act.lower()} BEFORE {act} ON billing_account_days"
        " WHEN NEW.business_date <= (SELECT max(business_date) FROM billing_days)"
        " BEGIN SELECT RAISE(ABORT, 'nothing is entered into a closed day'); END"
    )


STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE billing_accounts (
        account_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        username TEXT,
        balance_cents INTEGER NOT NULL,
        registered_at TEXT,
        PRIMARY KEY (account_id),
        CONSTRAINT known_kind CHECK (kind IN ('employee', 'management', 'payouts')),
        CONSTRAINT people_have_names CHECK (kind = 'employee' OR (username IS NULL AND account_id = kind)),
        UNIQUE (username)
    ) STRICT
    """,
    """
    CREATE TABLE billing_tasks (
        task_id TEXT NOT NULL,
        number INTEGER,
        title TEXT,
        fee_cents INTEGER NOT NULL,
        reward_cents INTEGER NOT NULL,
        PRIMARY KEY (task_id),
        CONSTRAINT fee_in_bounds CHECK (fee_cents BETWEEN 1000 AND 2000 AND fee_cents % 100 = 0),
        CONSTRAINT reward_in_bounds CHECK (reward_cents BETWEEN 2000 AND 4000 AND reward_cents % 100 = 0)
    ) STRICT
    """,
    """
    CREATE TRIGGER billing_tasks_price_for_good BEFORE UPDATE OF task_id, fee_cents, reward_cents ON billing_tasks
    BEGIN SELECT RAISE(ABORT, 'a price never changes'); END
    """,
    """
    CREATE TRIGGER billing_tasks_no_delete BEFORE DELETE ON billing_tasks
    BEGIN SELECT RAISE(ABORT, 'a price never changes'); END
    """,
    """
    CREATE TABLE billing_entries (
        position INTEGER PRIMARY KEY,
        entry_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        employee_id TEXT NOT NULL,
        debit_account TEXT NOT NULL,
        credit_account TEXT NOT NULL,
        amount_cents INTEGER NOT NULL,
        kind TEXT NOT NULL,
        business_date TEXT NOT NULL,
        occurred_at TEXT NOT NULL,
        recorded_at TEXT NOT NULL,
        task_id TEXT,
        corrects TEXT,
        CONSTRAINT positive_amount CHECK (amount_cents > 0),
        CONSTRAINT two_accounts CHECK (debit_account <> credit_account),
        CONSTRAINT kind_gives_direction CHECK (
            CASE kind WHEN 'fee' THEN debit_account = employee_id AND credit_account = 'management'
            WHEN 'reward' THEN debit_account = 'management' AND credit_account = employee_id
            WHEN 'payout' THEN debit_account = employee_id AND credit_account = 'payouts'
            WHEN 'fee_reversal' THEN debit_account = 'management' AND credit_account = employee_id
            WHEN 'reward_reversal' THEN debit_account = employee_id AND credit_account = 'management'
            ELSE FALSE END
        ),
        CONSTRAINT payouts_alone_have_no_task CHECK ((kind = 'payout') = (task_id IS NULL)),
        CONSTRAINT reversals_correct CHECK (
            (kind IN ('fee_reversal', 'reward_reversal')) = (corrects IS NOT NULL)
        ),
        UNIQUE (entry_id),
        UNIQUE (event_id),
        FOREIGN KEY (employee_id) REFERENCES billing_accounts (account_id),
        FOREIGN KEY (debit_account) REFERENCES billing_accounts (account_id),
        FOREIGN KEY (credit_account) REFERENCES billing_accounts (account_id),
        FOREIGN KEY (task_id) REFERENCES billing_tasks (task_id),
        FOREIGN KEY (corrects) REFERENCES billing_entries (entry_id)
    ) STRICT
    """,
    "CREATE INDEX billing_entries_statement ON billing_entries (employee_id, business_date, position)",
    "CREATE INDEX billing_entries_task ON billing_entries (task_id)",
    """
    CREATE UNIQUE INDEX billing_entries_one_payout ON billing_entries (business_date, employee_id)
    WHERE kind = 'payout'
    """,
    "CREATE UNIQUE INDEX billing_entries_corrected ON billing_entries (corrects) WHERE corrects IS NOT NULL",
    *_append_only("billing_entries", "entries"),
    """
    CREATE TABLE billing_account_days (
        employee_id TEXT NOT NULL,
        business_date TEXT NOT NULL,
        fees_cents INTEGER NOT NULL,
        rewards_cents INTEGER NOT NULL,
        payouts_cents INTEGER NOT NULL,
        balance_cents INTEGER NOT NULL,
        PRIMARY KEY (employee_id, business_date),
        FOREIGN KEY (employee_id) REFERENCES billing_accounts (account_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE billing_days (
        business_date TEXT NOT NULL,
        fees_cents INTEGER NOT NULL,
        rewards_cents INTEGER NOT NULL,
        payouts_cents INTEGER NOT NULL,
        paid_count INTEGER NOT NULL,
        in_red_count INTEGER NOT NULL,
        closed_at TEXT NOT NULL,
        PRIMARY KEY (business_date),
        CONSTRAINT counted CHECK (payouts_cents >= 0 AND paid_count >= 0 AND in_red_count >= 0)
    ) STRICT
    """,
    *_append_only("billing_days", "closed days"),
    _guard_closed_days("INSERT"),
    _guard_closed_days("UPDATE"),
    """
    CREATE TABLE billing_company (
        id INTEGER PRIMARY KEY,
        first_day TEXT NOT NULL,
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
